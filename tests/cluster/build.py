"""The programs that the cluster and its tests need, compiled from the Go modules that carry them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from local.process import write_atomically
from tests.cluster.tools import HOME, ClusterError, digest, require_go, run, step

BIN = HOME / "bin"
KUBELAB = Path(__file__).parent / "kubelab"
HELM4 = Path(__file__).parent / "helm4"
KUBESCORE = Path(__file__).parent / "kubescore"


@dataclass(frozen=True)
class Program:
    """A package of a Go module, and the variables that say what it is.

    In them `{v}` is the version of the module `versioned`, `{minor}` that of the Kubernetes it knows.
    """

    folder: Path
    package: str
    versioned: str = ""
    variables: tuple[str, ...] = ()


_KUBERNETES = tuple(
    f"k8s.io/component-base/version.git{part}" for part in ("Version={v}", "Major=1", "Minor={minor}")
)
# left out, `helm template` renders for Kubernetes 1.20
_CAPABILITIES = tuple(
    f"helm.sh/helm/v3/pkg/{package}.k8sVersion{part}"
    for package in ("chartutil", "lint/rules")
    for part in ("Major=1", "Minor={minor}")
)
PROGRAMS = {
    "helm3": Program(
        KUBELAB,
        "helm.sh/helm/v3/cmd/helm",
        "helm.sh/helm/v3",
        ("helm.sh/helm/v3/internal/version.version={v}", *_CAPABILITIES),
    ),
    "helm4": Program(
        HELM4,
        "helm.sh/helm/v4/cmd/helm",
        "helm.sh/helm/v4",
        ("helm.sh/helm/v4/internal/version.version={v}",),
    ),
    "kubectl": Program(KUBELAB, "k8s.io/kubernetes/cmd/kubectl", "k8s.io/kubernetes", _KUBERNETES),
    "pause": Program(KUBELAB, "./pause"),
    "kubelab": Program(KUBELAB, ".", "k8s.io/kubernetes", _KUBERNETES),
    "kube-score": Program(KUBESCORE, "github.com/zegl/kube-score/cmd/kube-score"),
}
HELMS = ("helm3", "helm4")
FOR_CLUSTERS = tuple(name for name in PROGRAMS if name != "kube-score")


def build(names: Iterable[str] = FOR_CLUSTERS) -> None:
    """Compile the programs whose sources have changed since they were compiled last."""
    for name in names:
        if name not in PROGRAMS:
            raise ClusterError(f"{name}: no such program; there are {', '.join(PROGRAMS)}")
        if is_current(name):
            continue
        require_go()
        with step(f"compiling {name}: minutes when the Go build cache is cold ..."):
            _compile(PROGRAMS[name], BIN / name)
        write_atomically(BIN / f".{name}", _inputs(PROGRAMS[name]).encode())


def is_current(name: str) -> bool:
    """Tell whether a program is compiled from its sources as they are now."""
    return name in PROGRAMS and (BIN / name).exists() and stamp(name) == _inputs(PROGRAMS[name])


def stamp(name: str) -> str:
    """Return what stands for the sources that a program was compiled from; empty if it is not compiled."""
    file = BIN / f".{name}"
    return file.read_text() if file.exists() else ""


def path(name: str) -> Path:
    """Where a program lies. Raises ClusterError if it is not compiled."""
    if not (BIN / name).exists():
        raise ClusterError(f"{name} is not compiled: `python -m tests.cluster build {name}`")
    return BIN / name


def _inputs(program: Program) -> str:
    sources = (file for file in sorted(program.folder.rglob("*")) if file.suffix in {".go", ".mod", ".sum"})
    return digest(program.package, *program.variables, *sources)


def _compile(program: Program, target: Path) -> None:
    flags = ["-s", "-w"]
    if program.versioned:
        version = _version(program.folder, program.versioned)
        minor = _version(program.folder, "k8s.io/client-go").split(".")[1]
        flags += [f"-X {variable.format(v=version, minor=minor)}" for variable in program.variables]
    target.parent.mkdir(parents=True, exist_ok=True)
    options = ["-trimpath", "-buildvcs=false", "-ldflags", " ".join(flags), "-o", str(target)]
    run("go", "-C", program.folder, "build", *options, program.package, env={"CGO_ENABLED": "0"})


def _version(folder: Path, module: str) -> str:
    return run("go", "-C", folder, "list", "-m", "-f", "{{.Version}}", module).strip()
