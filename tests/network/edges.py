"""Who may talk to whom, by component: what policies allow, and what docs/security.md promises."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.network.policies import Network, Pod

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
COMPONENT = "app.kubernetes.io/component"
ROW = r"^\| ([\w, ]+) \| ([\w ]+) \| (any|[\d, ]+) \|[^|]+\| (?:`([^`]+)` )?\|$"
DNS = 53
EVERY_POD, EVERYBODY, ANY = "every pod", "everybody", "any"
# one of each kind that is no pod of the release
OUTSIDE: Mapping[str, Pod | str] = {
    "other pods": Pod("10.99.0.1", namespace="elsewhere"),
    "private addresses": "10.98.0.1",
    "the internet": "203.0.113.7",
}
SERVERS_PORTS = (
    80,
    443,
    3306,
    5671,
    5672,
    6443,
    8443,
    9090,
    15671,
    15672,
    15692,
)  # that others may listen on
NODES_PORTS = (4369, 25672)  # of RabbitMQ's nodes among themselves, which no container names
NOBODYS_PORT = 1


class Edge(NamedTuple):
    """A port of TCP, or any, that one may connect to at another."""

    source: str
    destination: str
    port: str


def component_of(pod: Pod) -> str:
    """The component that a pod of the release is of."""
    return pod.labels[COMPONENT]


def edges(network: Network, pods: Iterable[Pod]) -> set[Edge]:
    """All that is allowed between these pods, and between them and the rest of the world."""
    pods = list(pods)
    found = set(_within(network, pods)) | set(_from_outside(network, pods)) | set(_to_outside(network, pods))
    names = {edge for edge in found if edge[1:] == (EVERYBODY, str(DNS))}
    if {edge.source for edge in names} == {component_of(pod) for pod in pods}:
        found = found - names | {Edge(EVERY_POD, EVERYBODY, str(DNS))}
    return found


def ports_of(pod: Pod) -> set[int]:
    """The ports that are worth a try: those that it has, and those that nobody should reach."""
    return {number for _, number in pod.ports.values()} | {*NODES_PORTS, NOBODYS_PORT}


def _within(network: Network, pods: list[Pod]) -> Iterator[Edge]:
    for source in pods:
        for destination in pods:
            for port in ports_of(destination):
                # another pod of the same component, since a pod is never kept from itself
                other = Pod("10.97.0.1", destination.namespace, destination.labels, destination.ports)
                if network.allows(source, other, port):
                    yield Edge(component_of(source), component_of(destination), str(port))


def _from_outside(network: Network, pods: list[Pod]) -> Iterator[Edge]:
    for pod in pods:
        for port in ports_of(pod):
            for name in _together(n for n, other in OUTSIDE.items() if network.allows(other, pod, port)):
                yield Edge(name, component_of(pod), str(port))


def _to_outside(network: Network, pods: list[Pod]) -> Iterator[Edge]:
    for pod in pods:
        free = {name for name, other in OUTSIDE.items() if network.allows(pod, other, NOBODYS_PORT)}
        for name in _together(free):
            yield Edge(component_of(pod), name, ANY)
        for port in (DNS, *SERVERS_PORTS):
            reached = {name for name, other in OUTSIDE.items() if network.allows(pod, other, port)}
            for name in _together(reached if reached != free else ()):
                yield Edge(component_of(pod), name, str(port))


def _together(names: Iterable[str]) -> set[str]:
    """All kinds of others are everybody."""
    names = set(names)
    return {EVERYBODY} if names == set(OUTSIDE) else names


class Row(NamedTuple):
    """A row of the page: an edge, and the values that it takes, if any."""

    edge: Edge
    values: str


def promised() -> list[Row]:
    """The rows of the page's table of edges, one for each source and port."""
    rows = re.findall(ROW, PAGE.read_text(), re.MULTILINE)
    return [
        Row(Edge(source, destination, port), values)
        for sources, destination, ports, values in rows
        for source in sources.split(", ")
        for port in ports.split(", ")
    ]


def values_of(text: str) -> dict[str, Any]:
    """Values as `--set` takes them, as in `demo.enabled=true,gateway.replicas=2`."""
    values: dict[str, Any] = {}
    for setting in filter(None, text.split(",")):
        path, _, value = setting.partition("=")
        *above, last = path.split(".")
        section = values
        for name in above:
            section = section.setdefault(name, {})
        section[last] = yaml.safe_load(value)
    return values
