"""Services of the node, by name and address, from pods and from this machine."""

import pytest

from local.http import answers
from tests.cluster.pods import Pods, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def servers(pods: Pods) -> list[str]:
    """Two pods of Prometheus; the first one is behind the Service `it`."""
    files = {"/etc/prometheus": {"prometheus.yml": "{}"}}
    names = [
        pods.start("prom/prometheus:v3.5.3", 65534, empty=("/prometheus",), files=files) for _ in range(2)
    ]
    pods.kubectl("label", "pod", names[0], "served=yes")
    pods.apply(
        "Service", "it", spec={"selector": {"served": "yes"}, "ports": [{"port": 80, "targetPort": 9090}]}
    )
    return names


@pytest.mark.parametrize("place", [0, 1], ids=["itself", "another pod"])
def test_a_pod_reaches_a_service_by_name(pods: Pods, servers: list[str], place: int) -> None:
    query = ("promtool", "query", "instant", "http://it", "1")
    assert eventually(lambda: pods.execute(servers[place], *query)).startswith("scalar: 1")


def test_this_machine_reaches_a_service_by_its_address(pods: Pods, servers: list[str]) -> None:
    address = pods.kubectl("get", "service", "it", "-o", "jsonpath={.spec.clusterIP}")
    assert eventually(lambda: answers(f"http://{address}/-/ready"))
