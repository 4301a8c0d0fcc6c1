"""What the kit's pods really say to each other, beside what the NetworkPolicies allow.

The network of our node enforces no policy, so that a wrong one shows here and not as a failure elsewhere.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tests.chart.render import GIVEN, Helm
from tests.chart.test_network_policies import GIVEN_VALUES, OWN_RULES, allowed
from tests.cluster.network import NODE_IP, POD_RANGE
from tests.e2e.cluster import RELEASE, cluster_tool, eventually
from tests.e2e.conftest import ON_NODE
from tests.e2e.test_scaling import at_rest, ended, send
from tests.e2e.watch import Watcher
from tests.network.connections import connections
from tests.network.edges import (
    ANY,
    COMPONENT,
    DNS,
    EVERY_POD,
    EVERYBODY,
    Edge,
    component_of,
    edges,
    promised,
)
from tests.network.policies import Network, Pod

PODS = ip_network(POD_RANGE)
OF_THE_NODE = {NODE_IP, str(PODS[1])}  # no policy keeps a node from its pods
# edges that nothing here makes use of
UNUSED = {
    Edge("autoscaler", EVERYBODY, "443"): "here the API server listens on 6443",
    Edge(EVERYBODY, "gateway", "8000"): "clients come by `kubectl port-forward` here, past the pods' network",
    Edge("worker", "the internet", ANY): "is for what the user's tasks call; the example tasks call nobody",
}
OTHERS = "other pods"


def some(sources: str, destination: str, *ports: int) -> Iterator[Edge]:
    """The edges of a row, as docs/security.md writes it."""
    for source in sources.split(", "):
        for port in ports:
            yield Edge(source, destination, str(port))


# edges that the kit, as it is watched here, does not have
NOT_HERE = {
    "no image of Grafana can be had here": {
        *some("grafana", "prometheus", 9090),
        *some(EVERYBODY, "grafana", 3000),
    },
    "the demo's Job is away soon; test_demo.py has its load answered": {*some("demo", "gateway", 8000)},
    "Flower reads MySQL only when it sends tasks itself, which is off": {*some("flower", "mysql", 3306)},
    "no ingress controller is here to come to Flower": {*some(EVERYBODY, "flower", 5555)},
    "one broker has nobody to talk to; test_ha.py has three join": {
        *some("rabbitmq", "rabbitmq", 4369, 25672)
    },
    "the stores speak no TLS; those of test_external.py do": {
        *some("gateway, worker, flower", "rabbitmq", 5671),
        *some("flower", "rabbitmq", 15671),
    },
    "the stores are the release's own; test_external.py has others": {
        *some("gateway, worker, flower", EVERYBODY, 5671, 5672),
        *some("flower", EVERYBODY, 15671, 15672),
        *some("prometheus", EVERYBODY, 15692),
        *some("gateway, worker, flower, test", EVERYBODY, 3306),
    },
    "Prometheus is the release's own, and no other comes for metrics": {
        *some("autoscaler", EVERYBODY, 9090),
        *some(OTHERS, "worker", 8001),
        *some(OTHERS, "autoscaler", 8002),
        *some(OTHERS, "flower", 5555),
        *some(OTHERS, "rabbitmq", 15692),
        *some(OTHERS, "mysql", 9104),
    },
    "neither KEDA nor an adapter for an HPA is here to ask for the backlog": {
        *some(OTHERS, "prometheus", 9090)
    },
}


@dataclass
class Watch(Watcher):
    """All pods and connections that were seen."""

    pause = 0.3
    passing = subprocess.SubprocessError  # an API that does not answer now does so later
    kit: object
    pods: dict = field(default_factory=dict)  # by address
    seen: set = field(default_factory=set)
    before: set = field(default_factory=connections)

    def look(self):
        for item in self.kit.get("pods")["items"]:
            if address := item["status"].get("podIP"):
                ports = {
                    port["name"]: (port["protocol"], port["containerPort"])
                    for container in item["spec"]["containers"]
                    for port in container.get("ports", [])
                }
                pod = Pod(address, self.kit.namespace, item["metadata"]["labels"], ports)
                self.pods[address] = pod
        self.seen |= {c for c in connections() if self.is_ours(c) and not self.is_of_the_past(c)}

    def is_ours(self, c):
        return bool({c.source, c.destination} & self.pods.keys()) and c.source not in OF_THE_NODE

    def is_of_the_past(self, c):
        """Whether it is a pod's that was gone before anybody looked."""
        return c in self.before and any(
            ip_address(address) in PODS and address not in self.pods for address in (c.source, c.destination)
        )

    def forbidden(self, network):
        """The connections that no policy allows."""
        return {
            (self.name(c.source), self.name(c.destination), c.port)
            for c in self.seen
            if not network.allows(self.party(c.source), self.party(c.destination), c.port, c.protocol)
        }

    def used(self):
        """The edges that connections were made over."""
        used = set()
        for c in self.seen:
            source, destination = (
                component_of(p) if isinstance(p, Pod) else EVERYBODY for p in map(self.party, c[:2])
            )
            used.add(Edge(EVERY_POD if c.port == DNS else source, destination, str(c.port)))
        return used

    def party(self, address):
        return self.pods.get(address, address)

    def name(self, address):
        return component_of(self.pods[address]) if address in self.pods else address


def policies(kit):
    return Network(kit.get("networkpolicies")["items"])


def one_of_each(watch):
    """A pod of each component that was seen."""
    return {component_of(pod): pod for pod in watch.pods.values() if COMPONENT in pod.labels}.values()


@pytest.mark.skipif(not ON_NODE, reason="sees the connections of pods on this machine only")
@pytest.mark.timeout(900)
@pytest.mark.behaviour("C25", "S6", "S10")
def test_the_pods_talk_as_the_policies_say_and_whoever_does_not_is_noticed(kit, tell):
    network = policies(kit)
    eventually(lambda: at_rest(kit), 300, "one worker")
    with Watch(kit) as watch:
        accepted = send(kit, [0.1] * 8)  # more would bring workers, which stay for a minute
        eventually(lambda: ended(kit, accepted), 60, "the burst is done")
        kit.run_helm("test", RELEASE, seconds=300)
        assert kit.flower("/api/queues/length").status == 200

        def never_used():
            return edges(network, one_of_each(watch)) - watch.used() - UNUSED.keys()

        eventually(lambda: not never_used(), 150, lambda: f"these edges are used: {never_used()}")
        assert not UNUSED.keys() & watch.used()
        assert UNUSED.keys() <= edges(network, one_of_each(watch))
        assert watch.forbidden(network) == set()
        tell(f"{len(watch.used())} edges used by {len(watch.seen)} connections, none of them forbidden")

        on_purpose = f"import socket; socket.create_connection(('{RELEASE}-prometheus', 9090), 5)"
        worker = kit.pods("celery-kit/pool=default")[0]["metadata"]["name"]
        kit.kubectl("exec", worker, "--", "python", "-c", on_purpose)
        eventually(lambda: watch.forbidden(network), 30, "the connection made on purpose is seen")
        assert watch.forbidden(network) == {("worker", "prometheus", 9090)}
    eventually(lambda: at_rest(kit), 120, "one worker again")


@pytest.mark.behaviour("C25", "S6")
def test_every_edge_that_any_values_bring_is_watched_here_or_is_known_for_why_it_is_not():
    helm = Helm(Path(cluster_tool("path", "helm3")))
    here = allowed(helm.render(GIVEN, {"grafana": {"enabled": False}}))
    everywhere = {row.edge for row in promised()}.union(
        *(allowed(helm.render(GIVEN, v)) - OWN_RULES.get(name, set()) for name, v in GIVEN_VALUES.items())
    )
    assert UNUSED.keys() <= here
    assert everywhere - here == set().union(*NOT_HERE.values())
