"""Names and labels: the same words everywhere, and none that a later version would have to change."""

import shutil

import pytest

from tests.chart.cases import CASES
from tests.chart.render import CHART, GIVEN, SUBCHARTS

LONG = "r" * 53  # as long as Helm lets a release's name be
SELECTOR = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}
LABELS = SELECTOR | {
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}
COMPONENTS = {
    "gateway",
    "worker",
    "autoscaler",
    "flower",
    "rabbitmq",
    "mysql",
    "prometheus",
    "grafana",
    "test",
}
POOL = "celery-kit/pool"


def names(objects):
    return {(object_["kind"], object_["metadata"]["name"]) for object_ in objects}


@pytest.mark.parametrize("case", CASES)
def test_every_object_bears_the_standard_labels(helm, case):
    for object_ in helm.render(CASES[case]):
        labels = object_["metadata"]["labels"]
        assert set(labels) - {POOL} == LABELS, object_["metadata"]["name"]
        assert labels["app.kubernetes.io/component"] in COMPONENTS
        assert labels["app.kubernetes.io/instance"] == "kit"
        assert object_["metadata"]["name"].startswith(f"kit-{labels['app.kubernetes.io/component']}")


@pytest.mark.parametrize("case", CASES)
def test_pods_are_selected_by_name_instance_component_and_pool(helm, case):
    for object_, _ in helm.render(CASES[case]).pods():
        if object_["kind"] != "Pod":
            selector = object_["spec"]["selector"]["matchLabels"]
            assert set(selector) - {POOL} == SELECTOR
            assert (POOL in selector) == (selector["app.kubernetes.io/component"] == "worker")
            assert object_["spec"]["template"]["metadata"]["labels"] == selector


@pytest.mark.parametrize("case", CASES)
def test_volumes_claim_without_a_version(helm, case):
    for stateful in helm.render(CASES[case]).of("StatefulSet"):
        for claim in stateful["spec"].get("volumeClaimTemplates", []):
            assert set(claim["metadata"]["labels"]) == SELECTOR


def test_a_new_version_changes_neither_what_cannot_change_nor_the_pods_of_others(helm, tmp_path):
    newer = tmp_path / "celery-kit"
    shutil.copytree(CHART, newer)
    for file in newer.rglob("Chart.yaml"):
        text = file.read_text()
        lines = [line for line in text.splitlines() if line.startswith(("version:", "appVersion:", "  "))]
        assert lines
        file.write_text(text.replace("0.1.0", "0.2.0").replace('appVersion: "', 'appVersion: "1'))
    old, new = helm.render(GIVEN), helm.render(GIVEN, chart=newer)
    assert names(old) == names(new)
    assert old.get("Service", "kit-gateway") != new.get("Service", "kit-gateway")  # it is a new version
    for object_, _ in old.pods():
        later = new.get(object_["kind"], object_["metadata"]["name"])
        if object_["kind"] != "Pod":
            assert object_["spec"]["selector"] == later["spec"]["selector"]
        if object_["metadata"]["labels"]["app.kubernetes.io/component"] in SUBCHARTS:
            assert object_["spec"] == later["spec"]


def test_two_releases_in_a_namespace_share_no_name(helm):
    assert not names(helm.render(GIVEN)) & names(helm.render(GIVEN, release="other"))


def test_two_long_releases_in_a_namespace_share_no_name(helm):
    one, two = (helm.render(CASES["pools"], release=release) for release in (LONG, LONG[:-1] + "s"))
    assert not names(one) & names(two)


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
