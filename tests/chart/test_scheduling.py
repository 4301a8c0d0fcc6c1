"""Where pods run, and how many of them may be away at once."""

import pytest

from tests.chart.cases import CASES
from tests.chart.render import GIVEN, POOL, SUBCHARTS
from tests.network.edges import COMPONENT

PARTS = ("gateway", "worker", "autoscaler", "flower", *SUBCHARTS)
WHERE = {
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "kit", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "high",
}


def templates(objects):
    """What makes pods that stay, by component."""
    return {
        object_["metadata"]["labels"][COMPONENT]: object_["spec"]["template"]
        for kind in ("Deployment", "StatefulSet")
        for object_ in objects.of(kind)
    }


@pytest.mark.behaviour("S27")
def test_each_part_says_which_nodes_take_it_and_how_much_it_counts(helm):
    pods = templates(helm.render(GIVEN, dict.fromkeys(PARTS, WHERE)))
    assert set(pods) == set(PARTS)
    for component, template in pods.items():
        assert {key: template["spec"][key] for key in WHERE} == WHERE, component


def test_without_a_word_any_node_takes_a_pod(kit):
    for component, template in templates(kit).items():
        assert not WHERE.keys() & template["spec"].keys(), component


def test_the_test_runs_where_the_gateway_does(helm):
    pod = helm.render(GIVEN, {"gateway": WHERE}).get("Pod", "kit-test")
    assert {key: pod["spec"][key] for key in WHERE} == WHERE


def test_a_pool_goes_where_it_says_and_else_where_workers_go(helm):
    pools = {"gpu": {"queues": ["gpu"], "nodeSelector": {"gpu": "yes"}}, "mail": {"queues": ["mail"]}}
    objects = helm.render(GIVEN, {"worker": {"nodeSelector": {"disk": "fast"}, "pools": pools}})
    found = {
        name: objects.get("Deployment", f"kit-worker-{name}")["spec"]["template"]["spec"]["nodeSelector"]
        for name in pools
    }
    assert found == {"gpu": {"disk": "fast", "gpu": "yes"}, "mail": {"disk": "fast"}}


def test_pods_take_labels_and_annotations_of_the_user_and_keep_their_own(helm, kit):
    more = {"podLabels": {"team": "a", "cost": "1"}, "podAnnotations": {"reloader": "on"}}
    before = templates(kit)
    for component, template in templates(helm.render(GIVEN, dict.fromkeys(PARTS, more))).items():
        was = before[component]["metadata"]
        assert template["metadata"]["labels"] == was["labels"] | more["podLabels"]
        assert template["metadata"]["annotations"] == was.get("annotations", {}) | more["podAnnotations"]


@pytest.mark.behaviour("C4")
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("label", ["app.kubernetes.io/instance", "celery-kit/pool"])
def test_labels_that_pods_are_selected_by_cannot_be_taken_over(helm, part, label):
    refusal = helm.refusal(GIVEN, {part: {"podLabels": {label: "mine"}}})
    assert f'podLabels of {part}: "{label}" is what its pods are selected by' in refusal


@pytest.mark.behaviour("C4")
@pytest.mark.parametrize("part", PARTS)
def test_the_annotations_that_restart_pods_cannot_be_taken_over(helm, part):
    refusal = helm.refusal(GIVEN, {part: {"podAnnotations": {"checksum/auth": "mine"}}})
    assert "/podAnnotations/checksum~1auth'" in refusal


@pytest.mark.behaviour("C4")
@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        ("gateway", {"tolerations": [{"effect": "Never"}]}, "at '/gateway/tolerations/0/effect'"),
        ("worker", {"affinity": {"nodeAfinity": {}}}, "invalid propertyName 'nodeAfinity'"),
        ("mysql", {"nodeSelector": {"disk": True}}, "at '/nodeSelector/disk': got boolean, want string"),
        ("worker", {"podDisruptionBudget": {"maxUnavailable": 0}}, "/podDisruptionBudget/maxUnavailable'"),
        (
            "gateway",
            {"podDisruptionBudget": {"maxUnavailable": "0%"}},
            "/podDisruptionBudget/maxUnavailable'",
        ),
        ("gateway", {"podDisruptionBudget": {"minAvailable": 1}}, "'minAvailable' not allowed"),
    ],
)
def test_what_cannot_be_is_refused_by_name(helm, part, value, says):
    assert says in helm.refusal(GIVEN, {part: value})


@pytest.mark.behaviour("C24", "S27")
@pytest.mark.parametrize("case", CASES)
def test_replicas_spread_over_nodes_where_they_can(helm, case):
    objects = helm.render(CASES[case])
    for object_, pod in objects.pods():
        for spread in pod.get("topologySpreadConstraints", []):
            assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
            assert spread["labelSelector"] == object_["spec"]["selector"]
    spreading = {o["metadata"]["name"] for o, pod in objects.pods() if "topologySpreadConstraints" in pod}
    workers = {
        o["metadata"]["name"]
        for o in objects.of("Deployment")
        if o["metadata"]["labels"][COMPONENT] == "worker"
    }
    assert spreading >= {"kit-gateway"} | workers


@pytest.mark.behaviour("C23", "S27")
@pytest.mark.parametrize("case", CASES)
def test_each_budget_is_for_the_pods_of_one_workload_and_never_holds_up_a_drain_for_ever(helm, case):
    objects = helm.render(CASES[case])
    workloads = [*objects.of("Deployment"), *objects.of("StatefulSet")]
    for budget in objects.of("PodDisruptionBudget"):
        spec = budget["spec"]
        # of any number of pods at least one may go: percentages are rounded up
        assert int(str(spec["maxUnavailable"]).removesuffix("%")) >= 1
        assert "minAvailable" not in spec
        (workload,) = (w for w in workloads if w["spec"]["selector"] == spec["selector"])
        assert workload["metadata"]["name"] == budget["metadata"]["name"]


@pytest.mark.behaviour("C23")
def test_pods_that_are_not_ready_hold_up_no_drain(helm):
    budgets = helm.render(GIVEN, CASES["pools"]).of("PodDisruptionBudget")
    names = {budget["metadata"]["name"] for budget in budgets}
    assert names == {"kit-gateway", *(f"kit-worker-{pool}" for pool in ("default", "slow", "fixed"))}
    assert {budget["spec"]["unhealthyPodEvictionPolicy"] for budget in budgets} == {"AlwaysAllow"}


@pytest.mark.behaviour("C23")
def test_a_pool_has_a_budget_of_its_own(helm):
    pools = {
        "default": {"queues": ["default"], "podDisruptionBudget": {"enabled": False}},
        "slow": {"queues": ["slow"], "podDisruptionBudget": {"maxUnavailable": 2}},
    }
    objects = helm.render(GIVEN, {"worker": {"pools": pools}})
    workers = [b for b in objects.of("PodDisruptionBudget") if POOL in b["metadata"]["labels"]]
    assert [(b["metadata"]["labels"][POOL], b["spec"]["maxUnavailable"]) for b in workers] == [("slow", 2)]
