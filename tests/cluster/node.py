"""The node: upstream Kubernetes as processes of this machine, and everything that they leave on it."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from local.ports import require_free
from local.process import Processes, say, write_atomically
from tests.cluster import build, cgroups, images, network, parts, volumes
from tests.cluster.pki import Pki
from tests.cluster.tools import HOME, ClusterError, packages, require_root, run, step, wait_for

NAME = "lab"
RUN = HOME / "run"
KUBECONFIG = RUN / "pki" / "admin.kubeconfig"
_CONTAINERD = HOME / "containerd"  # the images, which outlive the node
_PACKAGES = ("containerd", "runc", "containernetworking-plugins", "iptables", "iproute2", "openssl", "procps")
_POD_LINKS = Path("/var/log/containers")
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
PLACES = (  # where something is written whatever we set
    *(_POD_LINKS, _DEVICE_PLUGINS, _DEVICE_PLUGINS.parent),
    *map(Path, ("/run/containerd/s", "/run/containerd", "/var/lib/cni/results", "/var/lib/cni")),
)
KERNEL = (  # what we and the kubelet set for the whole machine
    *(
        "net.ipv4.ip_forward",
        "vm.overcommit_memory",
        "vm.panic_on_oom",
        "kernel.panic",
        "kernel.panic_on_oops",
    ),
    *("kernel.keys.root_maxkeys", "kernel.keys.root_maxbytes"),
)


class Before(msgspec.Struct, frozen=True):
    """What the machine was like before `up`."""

    kernel: dict[str, str]
    absent: list[str]


class Node:
    """A cluster of one node. Its state is as short-lived as its processes; only images are kept."""

    def __init__(self) -> None:
        self.processes = Processes(RUN)
        self._pki = Pki(RUN / "pki", NAME)
        self._before = RUN / "before.json"
        self._started = RUN / "started"
        self._loaded = _CONTAINERD / "loaded.json"

    @property
    def is_up(self) -> bool:
        """Whether all of it runs and answers."""
        names = self.processes.names() if self._started.exists() else []
        return bool(names) and all(map(self.processes.find, names)) and self._api_is_ready()

    def up(self) -> Path:
        """Start it unless it runs; return the administrator's kubeconfig."""
        require_root()
        if not self.is_up:
            packages(*_PACKAGES)
            build.build()
            images.make_pause()
            self.down()
            network.check()
            for port in parts.ETCD_PORTS:
                require_free("etcd", port)
            try:
                self._start()
            except BaseException:
                self.down()
                raise
        return KUBECONFIG

    def down(self) -> None:
        """End it and remove what it left, also after a part of it was killed; absence is no matter."""
        require_root()
        for part in ("kubelet", "kube-proxy"):  # they would bring back what is taken away
            self.processes.stop(part, grace=1)
        cgroups.end()
        sockets = [
            file.read_text() for file in (RUN / "state").glob("io.containerd.runtime.v2.task/*/*/address")
        ]
        self.processes.sweep(grace=2)  # what they would still save is thrown away
        for socket in sockets:
            Path(socket.removeprefix("unix://")).unlink(missing_ok=True)
        _unmount()
        if self._before.exists():
            network.down()
            self._restore(msgspec.json.decode(self._before.read_bytes(), type=Before))
        for entry in RUN.iterdir():
            if not entry.is_dir():
                entry.unlink()
            elif entry != self.processes.logs:  # the last words stay
                shutil.rmtree(entry)

    def load(self, names: list[str]) -> None:
        """Bring images that buildah has into the node, unless it has the very same."""
        made = images.identities()
        if missing := [name for name in names if name not in made]:
            raise ClusterError(
                f"no such image: {', '.join(missing)}; there are {', '.join(images.for_pods())}"
            )
        known: dict[str, str] = {}
        with suppress(FileNotFoundError):
            known = msgspec.json.decode(self._loaded.read_bytes(), type=dict[str, str])
        present = set(self.ctr("images", "list", "-q").split())
        for name in names:
            if name in present and known.get(name) == made[name]:
                continue
            with step(f"loading {name} ..."):
                archive = RUN / "image.tar"
                images.save(name, archive)
                self.ctr("images", "import", str(archive))
                archive.unlink()
            known[name] = made[name]
            write_atomically(self._loaded, msgspec.json.encode(known))

    def images(self) -> None:
        """Make the stand-ins for the official images, and the kit's own."""
        images.make()
        say(images.NO_GRAFANA)
        if self.is_up:
            self.load(images.for_pods())

    def volumes(self) -> None:
        """Make the volumes anew that deleted claims left."""
        volumes.make(self.kubectl, RUN / "volumes")

    def status(self) -> str:
        """Say what runs, and what the pods ask of the node."""
        if not self.is_up:
            return "the cluster is not up: `python -m tests.cluster up`"
        pods = self.kubectl("get", "nodes,pods,persistentvolumes", "--all-namespaces")
        asked = (
            self.kubectl("describe", "node", NAME)
            .partition("Allocated resources:")[2]
            .partition("Events:")[0]
        )
        return f"{pods}\nAsked of the node:{asked}"

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator."""
        own = (f"--kubeconfig={KUBECONFIG}", f"--cache-dir={RUN}/kubectl")
        return run(build.path("kubectl"), *own, *arguments, stdin=stdin)

    def ctr(self, *arguments: str) -> str:
        """Run containerd's own client."""
        return run("ctr", "--address", RUN / "containerd.sock", "--namespace", "k8s.io", *arguments)

    def _start(self) -> None:
        kernel = {key: run("sysctl", "-n", key).strip() for key in KERNEL}
        before = Before(kernel, [str(place) for place in PLACES if not place.exists()])
        write_atomically(self._before, msgspec.json.encode(before))
        run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        network.up(RUN / "cni")
        cgroups.make()
        self._pki.make()
        self._start_containerd()
        if forgotten := self.ctr("containers", "list", "-q").split():  # of an earlier life
            self.ctr("containers", "delete", *forgotten)
            self.processes.stop("containerd")
            self._start_containerd()
        self.load(images.for_pods())
        for part, flags in parts.kubernetes(RUN, NAME, self._pki).items():
            self.processes.start(part, [str(build.path("kubelab")), part, *flags], {})
            if part == "kube-apiserver":
                self._wait(part, "the API server answers", self._api_is_ready)
        self._wait("kubelet", "the node is registered", self._is_registered)
        self.kubectl("wait", "--for=condition=Ready", f"node/{NAME}", "--timeout=60s")
        self._wait("kube-controller-manager", "pods can be made", self._takes_pods)
        self.volumes()
        self._started.touch()

    def _start_containerd(self) -> None:
        self.processes.start("containerd", parts.containerd(RUN, _CONTAINERD), {})
        self._wait("containerd", "containerd answers", self._containerd_is_ready)

    def _wait(self, name: str, what: str, ready: Callable[[], bool]) -> None:
        """Wait for what a process brings; show its last words when it ends or takes too long."""

        def ready_or_ended() -> bool:
            if self.processes.find(name) is None:
                raise ClusterError(f"{name} ended by itself")
            return ready()

        try:
            wait_for(what, ready_or_ended, 60)
        except ClusterError as error:
            raise ClusterError(f"{error}\n{self.processes.tail(name)}") from None

    def _containerd_is_ready(self) -> bool:
        with suppress(ClusterError):
            return bool(self.ctr("version"))
        return False

    def _api_is_ready(self) -> bool:
        with suppress(ClusterError):
            return self.kubectl("get", "--raw=/readyz", "--request-timeout=2s") == "ok"
        return False

    def _is_registered(self) -> bool:
        return f"node/{NAME}" in self.kubectl("get", "nodes", "-o", "name")

    def _takes_pods(self) -> bool:
        return "serviceaccount/default" in self.kubectl("get", "serviceaccounts", "-o", "name")

    def _restore(self, before: Before) -> None:
        for key, value in before.kernel.items():
            if run("sysctl", "-n", key).strip() != value:
                run("sysctl", "-qw", f"{key}={value}")
        for link in _POD_LINKS.glob("*.log"):
            if link.is_symlink() and link.readlink().is_relative_to(RUN):
                link.unlink()
        if str(_DEVICE_PLUGINS) in before.absent:
            shutil.rmtree(_DEVICE_PLUGINS, ignore_errors=True)
        for place in before.absent:
            with suppress(OSError):  # gone already, or somebody else's by now
                Path(place).rmdir()


def _unmount() -> None:
    """Unmount everything below our folders, the innermost first, even if somebody still looks at it."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    ours = [place for place in mounts if place.startswith((f"{RUN}/", f"{_CONTAINERD}/"))]
    for place in sorted(ours, reverse=True):
        run("umount", "--lazy", place)
