"""The images: stand-ins for the official ones, made of Debian's packages, and the kit's own, by buildah."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from tests.cluster import build, parts
from tests.cluster.tools import HOME, ROOT, digest, packages, run, step

STORE = HOME / "images"
COMPONENTS = ("gateway", "worker", "autoscaler", "flower")
NO_GRAFANA = (
    "There is no Grafana here: Debian has no package of it, and its web pages cannot be built from modules."
)
_SOURCES = Path(__file__).parent / "stand_ins"
_PACKAGES = ("buildah", "mmdebstrap")
_KIT_INPUTS = ("Dockerfile", ".dockerignore", "pyproject.toml", "constraints.txt", "README.md", "services")


@dataclass(frozen=True)
class StandIn:
    """An image under an official name: a Debian suite's packages, and the Dockerfile of its folder on top."""

    name: str
    folder: str
    suite: str
    packages: str
    user: str = ""  # who gets uid and gid 999, as in the official image


PYTHON = StandIn("docker.io/library/python:3.13-slim", "python", "trixie", "python3,python3-venv")
STAND_INS = (
    StandIn("docker.io/library/rabbitmq:4.3-management", "rabbitmq", "sid", "rabbitmq-server", "rabbitmq"),
    StandIn("docker.io/library/mysql:9.7", "mysql", "sid", "mysql-server", "mysql"),
    StandIn("docker.io/prom/prometheus:v3.5.3", "prometheus", "sid", "prometheus"),
    StandIn("docker.io/prom/mysqld-exporter:v0.20.0", "mysqld-exporter", "sid", "prometheus-mysqld-exporter"),
)


def version() -> str:
    """Return the kit's version, which is its images' tag."""
    project = msgspec.toml.decode((ROOT / "pyproject.toml").read_bytes())["project"]
    return str(project["version"])


def kit_names() -> list[str]:
    """Return the names of the kit's own images."""
    return [f"docker.io/celery-kit/{component}:{version()}" for component in COMPONENTS]


def make() -> None:
    """Make the stand-ins and the kit's images; unchanged ones stay as they are."""
    packages(*_PACKAGES)
    for image in (PYTHON, *STAND_INS):
        _stand_in(image)
    _kit()


def make_pause() -> None:
    """Make the image that holds the namespaces of pods."""
    packages(*_PACKAGES)
    with TemporaryDirectory() as folder:
        shutil.copy(build.path("pause"), folder)
        _build(parts.PAUSE, digest(build.stamp("pause")), _SOURCES / "pause", Path(folder))


def identities() -> dict[str, str]:
    """Return the id of each image that buildah has, by its names."""
    images = msgspec.json.decode(_buildah("images", "--json"))
    return {name: image["id"] for image in images for name in image["names"] or []}


def for_pods() -> list[str]:
    """Return the names of the images for pods that are made already."""
    made = identities()
    return [
        name for name in (parts.PAUSE, *(image.name for image in STAND_INS), *kit_names()) if name in made
    ]


def save(name: str, archive: Path) -> None:
    """Write an image to a file that container runtimes can read."""
    archive.unlink(missing_ok=True)
    _buildah("push", "--quiet", name, f"docker-archive:{archive}:{name}")


def _stand_in(image: StandIn) -> None:
    base = f"localhost/celery-kit/rootfs-{image.folder}:{digest(image.suite, image.packages, image.user)}"
    if base not in identities():
        with step(f"making {image.folder} of Debian {image.suite} ..."):
            _bootstrap(image, base)
    folder = _SOURCES / image.folder
    _build(image.name, digest(base), folder, folder, f"--build-arg=ROOTFS={base}")


def _bootstrap(image: StandIn, base: str) -> None:
    """Make a root file system of packages, without what only people read."""
    unread = (f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale"))
    options = ["--variant=minbase", "--aptopt=Acquire::Check-Valid-Until false", *unread]
    if image.user:  # before its package makes it under another number
        entries = {"passwd": f"999:999::/var/lib/{image.user}:/bin/bash", "group": "999:"}
        options += [
            f'--essential-hook=echo {image.user}:x:{entry} >>"$1/etc/{file}"'
            for file, entry in entries.items()
        ]
    with TemporaryDirectory(dir=STORE) as folder:
        archive = Path(folder) / "rootfs.tar"
        run("mmdebstrap", *options, f"--include=ca-certificates,{image.packages}", image.suite, archive)
        container = _buildah("from", "scratch").strip()
        try:
            _buildah("add", "--quiet", container, str(archive), "/")
            _buildah("commit", "--quiet", container, base)
        finally:
            _buildah("rm", container)


def _build(name: str, inputs: str, source: Path, context: Path, *flags: str) -> None:
    """Build an image from the Dockerfile in `source`."""
    mark = _mark(name, digest(inputs, source))
    if not _made(name, mark):
        with step(f"building {name} ..."):
            options = ("--isolation=chroot", "--network=host", "--format=docker", "--pull-never", "--quiet")
            tags = (f"--tag={name}", f"--tag={mark}", f"--file={source / 'Dockerfile'}")
            _buildah("build", *options, *tags, *flags, str(context))


def _kit() -> None:
    """Have `make images` build the kit's images, on the Python that we have."""
    inputs = digest(*(ROOT / name for name in _KIT_INPUTS), identities()[PYTHON.name])
    marks = {name: _mark(name, inputs) for name in kit_names()}
    if all(_made(name, mark) for name, mark in marks.items()):
        return
    # a machine that reaches registries by certificates and settings of its own needs them in a build, too
    places = [place for place in ("/etc/ssl/certs", "/etc/pip.conf") if Path(place).exists()]
    shared = [f"--volume={place}:{place}:ro" for place in places]
    flags = ["--pull-never", f"--build-arg=PYTHON_IMAGE={PYTHON.name}", *shared]
    with step("building the kit's images ..."):
        run(
            "make",
            "-C",
            ROOT,
            "images",
            "BUILDER=buildah",
            env={**_environment(), "BUILD_FLAGS": " ".join(flags)},
        )
    for name, mark in marks.items():
        _buildah("tag", name, mark)


def _mark(name: str, inputs: str) -> str:
    """Return the second name of an image, which tells what it was made of."""
    return f"localhost/celery-kit/made:{digest(name, inputs)}"


def _made(name: str, mark: str) -> bool:
    made = identities()
    return name in made and made.get(mark) == made[name]


def _buildah(*arguments: str) -> str:
    return run("buildah", *arguments, env=_environment())


def _environment() -> dict[str, str]:
    """Have buildah keep everything in a folder of ours."""
    STORE.mkdir(parents=True, exist_ok=True)
    file = STORE / "storage.conf"
    file.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{STORE}/store"\nrunroot = "{STORE}/run"\n')
    return {"CONTAINERS_STORAGE_CONF": str(file)}
