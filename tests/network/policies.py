"""What NetworkPolicies allow, by Kubernetes' own rules: our node's network does not enforce them."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]
NAMESPACE_NAME = "kubernetes.io/metadata.name"  # a label that every namespace has


@dataclass(frozen=True)
class Pod:
    """What policies see of a pod; `ports` are its containers' named ports, as `http` → TCP 8000."""

    address: str
    namespace: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """Policies, and the labels of namespaces that have more than their name."""

    policies: Sequence[Object]
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def allows(self, source: Pod | str, destination: Pod | str, port: int, protocol: str = "TCP") -> bool:
        """Tell whether a connection may be made; whoever is no pod is an address."""
        if source == destination:  # nobody can be kept from itself
            return True
        return all(
            self._direction(kind, own, other, destination, port, protocol)
            for kind, own, other in (("Egress", source, destination), ("Ingress", destination, source))
        )

    def _direction(
        self, kind: str, own: Pod | str, other: Pod | str, destination: Pod | str, port: int, protocol: str
    ) -> bool:
        if not isinstance(own, Pod):
            return True
        isolating = [p for p in self.policies if kind in _kinds(p["spec"]) and _selects(p, own)]
        peers = "to" if kind == "Egress" else "from"
        return not isolating or any(
            self._is_peer(rule.get(peers), other, policy) and _has_port(rule, destination, port, protocol)
            for policy in isolating
            for rule in policy["spec"].get(kind.lower()) or ()
        )

    def _is_peer(self, peers: Iterable[Object] | None, other: Pod | str, policy: Object) -> bool:
        # no list, and an empty one, mean everybody
        return not peers or any(self._matches(peer, other, policy) for peer in peers)

    def _matches(self, peer: Object, other: Pod | str, policy: Object) -> bool:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            inside = _within(other, block["cidr"])
            return inside and not any(_within(other, part) for part in block.get("except", ()))
        if not isinstance(other, Pod):
            return False
        if "namespaceSelector" in peer:
            labels = {NAMESPACE_NAME: other.namespace, **self.namespaces.get(other.namespace, {})}
            if not selected(peer["namespaceSelector"], labels):
                return False
        elif other.namespace != policy["metadata"]["namespace"]:
            return False
        return selected(peer.get("podSelector", {}), other.labels)


def selected(selector: Object, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector takes these labels; an empty one takes all."""
    wanted = selector.get("matchLabels", {})
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _fulfils(expression, labels) for expression in selector.get("matchExpressions", ())
    )


def _fulfils(expression: Object, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"operator: {expression['operator']!r} is not one of In, NotIn, Exists, DoesNotExist")


def _kinds(spec: Object) -> Sequence[str]:
    """The directions that a policy is about; without a word, Egress if it has rules for it."""
    kinds: Sequence[str] = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return kinds


def _selects(policy: Object, pod: Pod) -> bool:
    same = policy["metadata"]["namespace"] == pod.namespace
    return same and selected(policy["spec"].get("podSelector", {}), pod.labels)


def _within(other: Pod | str, cidr: str) -> bool:
    address = other.address if isinstance(other, Pod) else other
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr)


def _has_port(rule: Object, destination: Pod | str, port: int, protocol: str) -> bool:
    if not rule.get("ports"):
        return True
    return any(
        part.get("protocol", "TCP") == protocol and _is_port(part, destination, port, protocol)
        for part in rule["ports"]
    )


def _is_port(part: Object, destination: Pod | str, port: int, protocol: str) -> bool:
    wanted = part.get("port")
    if isinstance(wanted, str):  # a name is one of the pod that is called, in either direction
        return isinstance(destination, Pod) and destination.ports.get(wanted) == (protocol, port)
    return wanted is None or wanted <= port <= part.get("endPort", wanted)
