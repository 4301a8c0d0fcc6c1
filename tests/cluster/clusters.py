"""Which cluster the tests use: the one that E2E_CONTEXT names, else kind where Docker runs, else a node."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

from tests.cluster import build, images
from tests.cluster.node import Node
from tests.cluster.tools import HOME, ROOT, ClusterError, run, step


class Cluster(Protocol):
    """What can be done with each of them."""

    def up(self) -> Path:
        """Start it unless it runs; return its kubeconfig."""

    def down(self) -> None:
        """End it; that it is not there is no matter."""

    def images(self) -> None:
        """Make the images that it cannot pull, and bring them into it if it runs."""

    def load(self, names: list[str]) -> None:
        """Bring images into it."""

    def volumes(self) -> None:
        """Make the volumes anew that deleted claims left."""

    def status(self) -> str:
        """Say what runs there."""


def choose() -> Cluster:
    """Choose by what this machine has and by E2E_CONTEXT."""
    if context := os.environ.get("E2E_CONTEXT"):
        return Context(context)
    if shutil.which("kind") and _docker_runs():
        return Kind()
    return Node()


class Context:
    """A cluster of the user's, by the name of a kubectl context; it pulls its images itself."""

    def __init__(self, name: str) -> None:
        self._name = name

    def up(self) -> Path:
        """Write the context's own kubeconfig."""
        build.build(["kubectl"])
        selection = ("--context", self._name, "--minify", "--flatten", "--raw")
        return _keep("context", run(build.path("kubectl"), "config", "view", *selection))

    def down(self) -> None:
        """Leave it as it is."""

    def images(self) -> None:
        """Do nothing: `make push` brings the kit's images to a registry, which charts take by a value."""

    def load(self, names: list[str]) -> None:
        """Refuse."""
        raise ClusterError(
            f"the nodes of {self._name} are not ours: `make push REGISTRY=…` and set global.imageRegistry"
        )

    def volumes(self) -> None:
        """Do nothing: the cluster makes volumes as they are claimed."""

    def status(self) -> str:
        """Say what runs there."""
        return run(
            build.path("kubectl"), f"--kubeconfig={self.up()}", "get", "nodes,pods", "--all-namespaces"
        )


class Kind:
    """A cluster in a container of Docker, which pulls the official images and is given the kit's."""

    _NAME = "celery-kit"

    def up(self) -> Path:
        """Create it with the images that are built."""
        if self._NAME not in run("kind", "get", "clusters").split():
            run("kind", "create", "cluster", "--name", self._NAME, "--wait", "120s")
            self.load([name for name in images.kit_names() if _docker_has(name)])
        return _keep("kind", run("kind", "get", "kubeconfig", "--name", self._NAME))

    def down(self) -> None:
        """Delete it."""
        run("kind", "delete", "cluster", "--name", self._NAME)

    def images(self) -> None:
        """Build the kit's images."""
        with step("building the kit's images ..."):
            run("make", "-C", ROOT, "images")
        if self._NAME in run("kind", "get", "clusters").split():
            self.load(images.kit_names())

    def load(self, names: list[str]) -> None:
        """Bring images of Docker into it."""
        for name in names:
            run("kind", "load", "docker-image", name, "--name", self._NAME)

    def volumes(self) -> None:
        """Do nothing: the cluster makes volumes as they are claimed."""

    def status(self) -> str:
        """Say what runs there."""
        build.build(["kubectl"])
        return run(
            build.path("kubectl"), f"--kubeconfig={self.up()}", "get", "nodes,pods", "--all-namespaces"
        )


def _docker_runs() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def _docker_has(name: str) -> bool:
    return (
        subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0
    )


def _keep(name: str, kubeconfig: str) -> Path:
    file = HOME / f"{name}.kubeconfig"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(kubeconfig)
    return file
