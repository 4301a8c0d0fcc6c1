"""Names and labels: the same words everywhere, and none that a later version would have to change."""

import pytest

from tests.chart.cases import CASES
from tests.chart.render import GIVEN, LONG, POOL

SELECTOR = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
LABELS = SELECTOR | {
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}
COMPONENTS = {
    "demo",
    "gateway",
    "worker",
    "autoscaler",
    "flower",
    "rabbitmq",
    "mysql",
    "prometheus",
    "grafana",
    "test",
    "all",  # the policy for pods of any component
}


def names(objects):
    return {(object_["kind"], object_["metadata"]["name"]) for object_ in objects}


@pytest.mark.behaviour("C6")
@pytest.mark.parametrize("case", CASES)
def test_every_object_bears_the_standard_labels(helm, case):
    for object_ in helm.render(CASES[case]):
        labels = object_["metadata"]["labels"]
        given = CASES[case].get("monitoring", {}).get("labels", {})
        assert set(labels) - {POOL, "grafana_dashboard", *given} == LABELS, object_["metadata"]["name"]
        assert labels["app.kubernetes.io/component"] in COMPONENTS
        assert labels["app.kubernetes.io/instance"] == "kit"
        assert object_["metadata"]["name"].startswith(f"kit-{labels['app.kubernetes.io/component']}")


@pytest.mark.behaviour("C6")
@pytest.mark.parametrize("case", CASES)
def test_pods_are_selected_by_name_instance_component_and_pool(helm, case):
    for object_, _ in helm.render(CASES[case]).pods():
        if object_["kind"] not in {"Job", "Pod"}:
            selector = object_["spec"]["selector"]["matchLabels"]
            assert set(selector) - {POOL} == SELECTOR
            assert (POOL in selector) == (selector["app.kubernetes.io/component"] == "worker")
            assert object_["spec"]["template"]["metadata"]["labels"] == selector


@pytest.mark.behaviour("C6")
@pytest.mark.parametrize("case", CASES)
def test_volumes_claim_without_a_version(helm, case):
    for stateful in helm.render(CASES[case]).of("StatefulSet"):
        for claim in stateful["spec"].get("volumeClaimTemplates", []):
            assert set(claim["metadata"]["labels"]) == SELECTOR


@pytest.mark.behaviour("C7", "C34")
def test_two_releases_in_a_namespace_share_no_name(helm):
    assert not names(helm.render(GIVEN)) & names(helm.render(GIVEN, release="other"))


@pytest.mark.behaviour("C34", "C35")
def test_two_long_releases_in_a_namespace_share_no_name(helm):
    one, two = (helm.render(CASES["pools"], release=release) for release in (LONG, LONG[:-1] + "s"))
    assert not names(one) & names(two)


@pytest.mark.behaviour("C35")
@pytest.mark.parametrize("case", CASES)
def test_names_are_never_too_long(helm, case):
    pools = {"worker": {"pools": {"p" * 40: {"queues": ["p"]}, "p" * 39 + "q": {"queues": ["q"]}}}}
    objects = helm.render(CASES[case], pools, release=LONG)
    kinds = [(object_["kind"], object_["metadata"]["name"]) for object_ in objects]
    assert len(kinds) == len(set(kinds))
    for kind, name in kinds:
        # a StatefulSet's pods bear a label of its name and eleven characters more
        assert len(name) <= (52 if kind == "StatefulSet" else 63), name
    for object_ in objects:
        assert all(len(value) <= 63 for value in object_["metadata"]["labels"].values())


def test_a_short_name_is_not_cut(helm):
    objects = helm.render(CASES["default"], release="r" * 43)
    assert objects.get("StatefulSet", "r" * 43 + "-rabbitmq")
    cut = [o["metadata"]["name"] for o in helm.render(CASES["default"], release="r" * 44).of("StatefulSet")]
    assert {len(name) for name in cut} == {50, 52}
