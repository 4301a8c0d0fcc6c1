"""One namespace for the tests of a module."""

from collections.abc import Iterator

import pytest

from tests.cluster.clusters import choose
from tests.cluster.node import Node
from tests.cluster.pods import Pods, tool


@pytest.fixture(scope="module")
def our_node() -> None:
    """Skip where the tests run on another cluster, which has the official images."""
    if not isinstance(choose(), Node):
        pytest.skip("is for the node that tests/cluster makes")


@pytest.fixture(scope="module")
def pods(our_node: None) -> Iterator[Pods]:
    tool("images")
    pods = Pods()
    yield pods
    pods.kubectl("delete", "namespace", pods.namespace, "--wait=false")
