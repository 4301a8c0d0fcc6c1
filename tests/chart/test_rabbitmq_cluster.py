"""Three nodes of RabbitMQ: how they find each other, go one by one, and what does not fit them."""

import pytest

from tests.chart.render import CHART, GIVEN, HelmError
from tests.chart.test_stores import rabbitmq_config

THREE = {"rabbitmq": {"replicas": 3}}


@pytest.fixture
def three(helm):
    return helm.render(GIVEN, THREE)


def stateful_set(objects):
    return objects.get("StatefulSet", "kit-rabbitmq")["spec"]


@pytest.mark.behaviour("C16")
def test_three_nodes_find_each_other_by_name(three):
    assert stateful_set(three)["replicas"] == 3
    assert stateful_set(three)["podManagementPolicy"] == "Parallel", "a node that starts waits for the others"
    assert "rabbitmq_peer_discovery_k8s" in three.data("kit-rabbitmq")["enabled_plugins"]
    config = rabbitmq_config(three)
    assert config["cluster_formation.peer_discovery_backend"] == "k8s"
    headless = three.get("Service", "kit-rabbitmq-headless")["spec"]
    assert (headless["clusterIP"], headless["publishNotReadyAddresses"]) == ("None", True)


@pytest.mark.behaviour("C13", "S3")
def test_nodes_that_find_each_other_need_no_right_and_no_token(helm, kit, three):
    def rights(objects):
        return [o for kind in ("ServiceAccount", "Role", "RoleBinding") for o in objects.of(kind)]

    assert rights(three) == rights(kit)
    pod = stateful_set(three)["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod


@pytest.mark.behaviour("C16")
def test_queues_grow_to_all_nodes_by_themselves(three):
    config = rabbitmq_config(three)
    prefix = "quorum_queue.continuous_membership_reconciliation"
    assert (config[f"{prefix}.enabled"], config[f"{prefix}.target_group_size"]) == ("true", "3")


@pytest.mark.behaviour("C16")
def test_a_node_that_goes_waits_for_a_majority_within_its_grace(three):
    command = three.container("kit-rabbitmq/rabbitmq")["lifecycle"]["preStop"]["exec"]["command"][-1]
    assert command.index("await_online_quorum_plus_one") < command.index("drain")
    waits = [int(word) for word in command.split() if word.isdigit()]
    grace = stateful_set(three)["template"]["spec"]["terminationGracePeriodSeconds"]
    assert sum(waits) + 60 <= grace, "time is left for the server to stop"


@pytest.mark.behaviour("C23")
def test_one_node_at_a_time_may_be_taken_away(three):
    budget = three.get("PodDisruptionBudget", "kit-rabbitmq")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == stateful_set(three)["selector"]


@pytest.mark.behaviour("C24")
def test_nodes_spread_over_hosts_and_start_where_they_cannot(three):
    (spread,) = stateful_set(three)["template"]["spec"]["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == (
        "kubernetes.io/hostname",
        "ScheduleAnyway",
    )
    assert spread["labelSelector"] == stateful_set(three)["selector"]


def test_one_node_has_nothing_of_a_cluster(kit):
    text = str([o for o in kit if o["metadata"]["name"].startswith("kit-rabbitmq")])
    for word in ("peer_discovery", "membership_reconciliation", "preStop", "topologySpread"):
        assert word not in text
    assert "kit-rabbitmq" not in {budget["metadata"]["name"] for budget in kit.of("PodDisruptionBudget")}


@pytest.mark.behaviour("C7")
def test_one_node_can_become_three(kit, three):
    mutable = ("replicas", "template")
    one, many = ({k: v for k, v in stateful_set(o).items() if k not in mutable} for o in (kit, three))
    assert one == many


@pytest.mark.parametrize(
    ("rabbitmq", "says"),
    [
        ({"replicas": 2}, "at '/replicas'"),
        (
            {"replicas": 3, "persistence": {"enabled": False}},
            "persistence.enabled: must be true with 3 replicas",
        ),
        (
            {"replicas": 3, "persistence": {"existingClaim": "x"}},
            "persistence.existingClaim: must be empty with 3",
        ),
    ],
)
@pytest.mark.behaviour("C4")
def test_what_does_not_fit_three_nodes_is_refused_by_name(helm, rabbitmq, says):
    assert says in helm.refusal({"rabbitmq": rabbitmq})
    if "persistence" in rabbitmq:
        assert f"rabbitmq.{says}" in helm.refusal({"rabbitmq": rabbitmq})


@pytest.mark.behaviour("C4")
def test_a_chart_alone_names_its_keys_as_its_user_writes_them(helm):
    with pytest.raises(HelmError, match=r"[^.]persistence\.enabled: must be true"):
        helm.render({"replicas": 3, "persistence": {"enabled": False}}, chart=CHART / "charts/rabbitmq")
