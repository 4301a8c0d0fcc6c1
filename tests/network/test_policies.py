"""The evaluator follows Kubernetes' rules, their odd corners too."""

import pytest

from tests.network.policies import Network, Pod

WEB = Pod("10.0.0.1", labels={"app": "web"}, ports={"http": ("TCP", 8000)})
DATABASE = Pod("10.0.0.2", labels={"app": "database"}, ports={"sql": ("TCP", 3306)})
STRANGER = Pod("10.0.0.3", namespace="other", labels={"app": "web"})
INTERNET = "203.0.113.7"


def policy(app=None, namespace="default", **spec):
    selector = {"matchLabels": {"app": app}} if app else {}
    return {"metadata": {"namespace": namespace}, "spec": {"podSelector": selector, **spec}}


def is_open(*policies, source=WEB, destination=DATABASE, port=3306, protocol="TCP", namespaces=None):
    return Network(policies, namespaces or {}).allows(source, destination, port, protocol)


def ingress(*rules):
    return policy("database", policyTypes=["Ingress"], ingress=list(rules))


def from_peer(**peer):
    return ingress({"from": [peer]})


def test_without_a_policy_everything_is_open():
    assert is_open()
    assert is_open(source=INTERNET)
    assert is_open(destination=INTERNET)


def test_a_policy_without_rules_closes_its_direction_only():
    assert not is_open(policy(policyTypes=["Ingress"]))
    assert is_open(policy(policyTypes=["Ingress"]), destination=INTERNET)
    assert not is_open(policy(policyTypes=["Egress"]), destination=INTERNET)
    assert is_open(policy(policyTypes=["Egress"]), source=INTERNET)


def test_a_policy_binds_only_the_pods_that_it_selects_in_its_own_namespace():
    assert is_open(policy("web", policyTypes=["Ingress"]))
    assert is_open(policy("database", namespace="other", policyTypes=["Ingress"]))
    assert not is_open(policy("database", policyTypes=["Ingress"]))


def test_without_types_egress_is_closed_only_if_there_are_rules_for_it():
    assert is_open(policy("web"), destination=INTERNET)
    rules = [{"to": [{"podSelector": {}}]}]
    assert not is_open(policy("web", egress=rules), destination=INTERNET)
    assert not is_open(policy("database", egress=rules))  # and ingress always


def test_both_sides_must_allow_a_connection():
    out = policy("web", policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}]}])
    assert is_open(out)
    assert is_open(out, ingress({}))
    assert not is_open(out, ingress())
    assert not is_open(policy("web", policyTypes=["Egress"]), ingress({}))


def test_what_one_policy_allows_no_other_takes_back():
    assert is_open(ingress(), from_peer(podSelector={}), policy(policyTypes=["Ingress"]))


@pytest.mark.parametrize("rule", [{}, {"from": []}, {"from": None}])
def test_a_rule_without_peers_is_for_everybody(rule):
    for source in (WEB, STRANGER, INTERNET):
        assert is_open(ingress(rule), source=source)


def test_a_pod_selector_alone_means_the_policys_own_namespace():
    rule = from_peer(podSelector={"matchLabels": {"app": "web"}})
    assert is_open(rule)
    assert not is_open(rule, source=STRANGER)
    assert not is_open(rule, source=INTERNET)


def test_a_namespace_selector_alone_means_all_its_pods():
    rule = from_peer(namespaceSelector={"matchLabels": {"team": "a"}})
    assert is_open(rule, source=STRANGER, namespaces={"other": {"team": "a"}})
    assert not is_open(rule, namespaces={"other": {"team": "a"}})
    assert is_open(from_peer(namespaceSelector={}), source=STRANGER)
    assert not is_open(from_peer(namespaceSelector={}), source=INTERNET)


def test_both_selectors_in_one_peer_must_match_and_in_two_peers_either():
    namespace = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}
    pod = {"podSelector": {"matchLabels": {"app": "worker"}}}
    assert not is_open(from_peer(**namespace, **pod), source=STRANGER)
    assert is_open(ingress({"from": [namespace, pod]}), source=STRANGER)


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        ({"key": "app", "operator": "In", "values": ["web", "x"]}, True),
        ({"key": "app", "operator": "In", "values": ["x"]}, False),
        ({"key": "app", "operator": "NotIn", "values": ["x"]}, True),
        ({"key": "none", "operator": "NotIn", "values": ["x"]}, True),
        ({"key": "app", "operator": "Exists"}, True),
        ({"key": "none", "operator": "Exists"}, False),
        ({"key": "none", "operator": "DoesNotExist"}, True),
        ({"key": "app", "operator": "DoesNotExist"}, False),
    ],
)
def test_expressions_select_as_labels_do(expression, matches):
    assert is_open(from_peer(podSelector={"matchExpressions": [expression]})) is matches


def test_an_unknown_operator_is_an_error():
    with pytest.raises(ValueError, match="'Like' is not one of In"):
        is_open(from_peer(podSelector={"matchExpressions": [{"key": "app", "operator": "Like"}]}))


def test_a_block_of_addresses_holds_all_but_its_exceptions():
    block = {"cidr": "203.0.113.0/24", "except": ["203.0.113.128/25"]}
    out = policy("web", policyTypes=["Egress"], egress=[{"to": [{"ipBlock": block}]}])
    assert is_open(out, destination=INTERNET)
    assert not is_open(out, destination="203.0.113.200")
    assert not is_open(out, destination="203.0.114.1")
    assert not is_open(out)
    assert not is_open(out, destination="2001:db8::1")


def test_a_pod_is_within_the_block_that_its_address_is_in():
    assert is_open(from_peer(ipBlock={"cidr": "10.0.0.1/32"}))
    assert not is_open(from_peer(ipBlock={"cidr": "10.0.0.9/32"}))


@pytest.mark.parametrize(
    ("ports", "matches"),
    [
        (None, True),
        ([], True),
        ([{"port": 3306}], True),
        ([{"port": 3307}], False),
        ([{"port": 3306, "protocol": "UDP"}], False),
        ([{"protocol": "TCP"}], True),
        ([{"protocol": "UDP"}], False),
        ([{"port": 3300, "endPort": 3310}], True),
        ([{"port": 3300, "endPort": 3305}], False),
        ([{"port": "sql"}], True),
        ([{"port": "http"}], False),
        ([{"port": 1}, {"port": 3306}], True),
    ],
)
def test_a_rule_is_for_its_ports_and_without_any_for_all(ports, matches):
    assert is_open(ingress({"ports": ports})) is matches


def test_a_named_port_is_looked_up_at_the_pod_that_is_called():
    out = policy("web", policyTypes=["Egress"], egress=[{"ports": [{"port": "sql"}]}])
    assert is_open(out)
    assert not is_open(out, destination=STRANGER)
    assert not is_open(out, destination=INTERNET)


def test_another_protocol_needs_a_rule_of_its_own():
    out = policy("web", policyTypes=["Egress"], egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}])
    assert is_open(out, destination=INTERNET, port=53, protocol="UDP")
    assert not is_open(out, destination=INTERNET, port=53)


def test_nobody_is_kept_from_itself():
    assert is_open(policy(policyTypes=["Ingress", "Egress"]), source=WEB, destination=WEB)
