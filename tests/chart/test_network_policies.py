"""NetworkPolicies: all is denied but the edges in the table of docs/security.md."""

import pytest
import yaml

from tests.chart.cases import CASES, NOT_BUNDLED
from tests.chart.render import CHART, GIVEN
from tests.network.edges import COMPONENT, DNS, OUTSIDE, Edge, component_of, edges, promised, values_of
from tests.network.policies import Network, Pod

NAMESPACE = "team"
# what else a value of the table takes
COMPLETED = {
    "flower.ingress.enabled=true": {"flower": {"ingress": {"host": "flower.example"}}},
    "grafana.ingress.enabled=true": {"grafana": {"ingress": {"host": "grafana.example"}}},
    "rabbitmq.tls.enabled=true": {"rabbitmq": {"tls": {"existingSecret": "own"}}},
    "rabbitmq.enabled=false": {
        "rabbitmq": {
            "external": {
                "host": "b",
                "existingSecret": "own",
                "managementUrl": "http://b:15672",
                "metricsUrl": "http://b:15692",
            }
        }
    },
    "rabbitmq.external.tls.enabled=true": {"rabbitmq": {"external": {"managementUrl": "https://b:15671"}}},
    "mysql.enabled=false": {"mysql": CASES["external"]["mysql"]},
    "prometheus.enabled=false": NOT_BUNDLED,
}


def network(objects):
    """The policies of a render, and one pod of each component."""
    policies = [
        {**policy, "metadata": {**policy["metadata"], "namespace": NAMESPACE}}
        for policy in objects.of("NetworkPolicy")
    ]
    pods = {}
    for number, (object_, spec) in enumerate(objects.pods()):
        described = object_ if object_["kind"] == "Pod" else object_["spec"]["template"]
        ports = {
            port["name"]: (port.get("protocol", "TCP"), port["containerPort"])
            for container in spec["containers"]
            for port in container.get("ports", [])
        }
        pod = Pod(f"10.1.0.{number}", NAMESPACE, described["metadata"]["labels"], ports)
        pods[pod.labels[COMPONENT]] = pod
    return Network(policies), list(pods.values())


def allowed(objects):
    return edges(*network(objects))


@pytest.mark.behaviour("C25", "S6", "S10", "S15")
def test_the_table_has_each_edge_that_the_defaults_allow_and_no_other(helm):
    assert allowed(helm.render(GIVEN)) == {row.edge for row in promised() if not row.values}


VALUES = sorted({row.values for row in promised() if row.values})
GIVEN_VALUES = {name: case for name, case in CASES.items() if name != "open"} | {
    file.name: yaml.safe_load(file.read_text()) for file in (CHART / "ci").iterdir()
}
# what a case allows by rules of the user's own
OWN_RULES = {"closed": {Edge("gateway", "everybody", "8443")}}


def render(helm, *settings):
    """The chart with settings of the table's last column, and with what these take beside them."""
    completed = [COMPLETED.get(setting, {}) for setting in settings]
    return helm.render(GIVEN, *completed, *map(values_of, settings))


@pytest.mark.behaviour("C25", "S6")
@pytest.mark.parametrize("values", VALUES)
def test_the_table_has_each_edge_that_values_add_and_no_other(helm, values):
    settings = values.split(",")
    less = [[s for s in settings if s != left_out] for left_out in settings]
    more = allowed(render(helm, *settings)) - set().union(*(allowed(render(helm, *few)) for few in less))
    assert more == {row.edge for row in promised() if row.values == values}


@pytest.mark.behaviour("C25", "S6")
@pytest.mark.parametrize("values", VALUES)
def test_no_other_value_of_the_table_beside_it_adds_an_edge_that_is_not_in_the_table(helm, values):
    for other in VALUES[VALUES.index(values) :]:
        settings = {*values.split(","), *other.split(",")}
        assert allowed(render(helm, *sorted(settings))) <= told_of(settings.__contains__), other


@pytest.mark.behaviour("C25", "S6")
@pytest.mark.parametrize("case", GIVEN_VALUES)
def test_the_table_has_each_edge_that_any_values_allow(helm, case):
    values = GIVEN_VALUES[case]
    found = allowed(helm.render(GIVEN, values)) - OWN_RULES.get(case, set())
    assert found <= told_of(lambda setting: is_set(values, setting))


def told_of(holds):
    """The edges of the table whose settings hold, all of a row's."""
    return {row.edge for row in promised() if all(map(holds, filter(None, row.values.split(","))))}


def is_set(values, setting):
    """Whether values say what a setting does, for all pools or for one."""
    path, _, _ = setting.partition("=")
    pools = [pool for pool in values.get("worker", {}).get("pools", {}).values() if pool]
    return any(
        at(given, path) == at(values_of(setting), path) is not None
        for given in (values, *({"worker": pool} for pool in pools))
    )


def at(values, path):
    """What values have under a path; None if they say nothing."""
    for name in path.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


@pytest.mark.behaviour("C25", "S6")
@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_denied_what_no_policy_allows(helm, case):
    objects = helm.render(CASES[case])
    policies, pods = network(objects)
    if case == "open":
        assert not policies.policies
        return
    alone = Network([policy for policy in policies.policies if policy["metadata"]["name"] == "kit-all"])
    for pod in pods:
        assert not alone.allows(OUTSIDE["other pods"], pod, 8000)
        assert not alone.allows(pod, OUTSIDE["the internet"], 443)
        for protocol in ("UDP", "TCP"):
            assert alone.allows(pod, OUTSIDE["private addresses"], DNS, protocol)


@pytest.mark.parametrize("case", CASES)
def test_every_policy_selects_pods_of_the_release(helm, case):
    policies, pods = network(helm.render(CASES[case]))
    for policy in policies.policies:
        wanted = policy["spec"]["podSelector"]["matchLabels"].items()
        assert any(wanted <= pod.labels.items() for pod in pods), policy["metadata"]["name"]


@pytest.mark.behaviour("C25", "S6")
@pytest.mark.parametrize("case", CASES)
def test_no_pod_may_speak_udp_to_another_but_to_ask_for_names(helm, case):
    if case == "open":
        return
    policies, pods = network(helm.render(CASES[case]))
    for source in pods:
        for destination in pods:
            if source is not destination:
                assert not policies.allows(source, destination, 8000, "UDP")


@pytest.mark.behaviour("C25", "S6")
def test_another_release_in_the_namespace_reaches_the_gateway_and_nothing_else(helm):
    policies, pods = network(helm.render(GIVEN))
    _, others = network(helm.render(GIVEN, release="other"))
    reached = {
        component_of(pod)
        for other in others
        for pod in pods
        for _, port in pod.ports.values()
        if policies.allows(other, pod, port)
    }
    assert reached == {"gateway"}


@pytest.mark.behaviour("C25", "S6")
def test_clients_and_servers_that_are_named_are_the_only_ones(helm):
    policies, pods = network(helm.render(GIVEN, CASES["closed"]))
    by_component = {component_of(pod): pod for pod in pods}
    named = {
        "gateway": 8000,
        "flower": 5555,
        "grafana": 3000,
        "rabbitmq": 5672,
        "mysql": 3306,
        "prometheus": 9090,
    }
    for name, port in named.items():
        friends = Network(policies.policies, {"elsewhere": {"team": name}})
        assert friends.allows(OUTSIDE["other pods"], by_component[name], port)
        assert not policies.allows(OUTSIDE["other pods"], by_component[name], port)
    assert policies.allows(by_component["autoscaler"], "10.0.0.1", 443)
    assert not policies.allows(by_component["autoscaler"], "10.0.0.2", 443)
    assert policies.allows(by_component["gateway"], OUTSIDE["the internet"], 8443)
    assert not policies.allows(by_component["worker"], OUTSIDE["the internet"], 8443)
    meshed = Network(policies.policies, {"elsewhere": {"team": "mesh"}})
    assert all(meshed.allows(pod, OUTSIDE["other pods"], 15012) for pod in pods)


def test_a_server_of_the_users_can_be_held_to_an_address(helm):
    servers = {"networkPolicy": {"servers": {"rabbitmq": [{"ipBlock": {"cidr": "10.5.0.0/16"}}]}}}
    policies, pods = network(helm.render(GIVEN, CASES["external"], servers))
    (gateway,) = (pod for pod in pods if component_of(pod) == "gateway")
    assert policies.allows(gateway, "10.5.0.9", 5672)
    assert not policies.allows(gateway, "10.6.0.9", 5672)


@pytest.mark.behaviour("C4")
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"clients": {"gatway": []}}, "additional properties 'gatway' not allowed"),
        ({"clients": {"gateway": [{}]}}, "at '/networkPolicy/clients/gateway/0'"),
        ({"clients": {"gateway": [{"podSelectr": {}}]}}, "additional properties 'podSelectr' not allowed"),
        ({"dnsPorts": []}, "at '/networkPolicy/dnsPorts'"),
        ({"extraEgress": {"worker": [{}]}}, "at '/networkPolicy/extraEgress/worker/0'"),
    ],
)
def test_wrong_rules_are_refused_by_name(helm, value, says):
    assert says in helm.refusal({"networkPolicy": value})
