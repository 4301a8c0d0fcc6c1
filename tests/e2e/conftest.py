"""One cluster for the run; the kit, installed with its defaults, for all tests that leave it as it was."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.cluster.clusters import choose
from tests.cluster.images import COMPONENTS
from tests.cluster.node import Node
from tests.e2e.cluster import Cluster, Kit, cluster_tool, passing

# On a node made here no image of Grafana can be had, and its pod would never start.
ON_NODE = isinstance(choose(), Node)
REGISTRY = os.environ.get("E2E_REGISTRY")  # where `make push` took the images for the cluster of E2E_CONTEXT
FLAGS = [
    *(["--set=grafana.enabled=false"] if ON_NODE else []),
    *(f"--set={part}.image.registry={REGISTRY}" for part in COMPONENTS if REGISTRY),
    *os.environ.get("E2E_FLAGS", "").split(),  # for a cluster that is short of room, say
]
# Where many pods start at once, a start takes long, and the window that follows is longer than tests wait.
WINDOW = "--set=worker.autoscale.downWindowSeconds=60"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a figure where the run's reader sees it."""
    manager = request.config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with manager.global_and_fixture_disabled():
            print(f"\n  {text}", end="", flush=True)

    return say


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster, running, with the kit's images in it."""
    return Cluster(cluster_tool("up"))


@pytest.fixture
def fresh(cluster: Cluster) -> Iterator[Callable[[str], Kit]]:
    """Makes a kit that is not installed yet, in a namespace that goes with the test."""
    with ExitStack() as stack:
        yield lambda helm: stack.enter_context(passing(cluster, helm))


@pytest.fixture(scope="session")
def kit(cluster: Cluster, tell: Callable[[str], None]) -> Iterator[Kit]:
    """The kit, installed by Helm 4 with its defaults, but that workers go a minute after they were needed."""
    with passing(cluster, "helm4") as kit:
        flags = [*FLAGS, WINDOW]
        tell(f"installed and ready in {kit.install(*flags):.0f} s, with {' '.join(flags)}")
        yield kit
