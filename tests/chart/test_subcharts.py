"""Each subchart, installed alone: it needs nothing of the chart around it."""

import pytest

from tests.chart.render import CHART, SUBCHARTS, HelmError
from tests.chart.test_renders import validate

PODS = {
    "rabbitmq": "StatefulSet",
    "mysql": "StatefulSet",
    "prometheus": "Deployment",
    "grafana": "Deployment",
}


@pytest.mark.parametrize("name", SUBCHARTS)
def test_a_subchart_renders_alone_under_the_names_that_it_has_in_the_kit(each_helm, name):
    objects = each_helm.render(release="r", chart=CHART / "charts" / name)
    pod = objects.get(PODS[name], f"r-{name}")["spec"]["template"]["spec"]
    made = {(o["kind"], o["metadata"]["name"]) for o in objects}
    assert ("Service", f"r-{name}") in made
    for volume in pod["volumes"]:
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in made
        if "secret" in volume:
            assert ("Secret", volume["secret"]["secretName"]) in made
    for object_ in objects:
        validate(object_)


@pytest.mark.parametrize("name", SUBCHARTS)
@pytest.mark.behaviour("C6", "C34")
def test_a_subchart_alone_has_the_labels_of_the_kit_and_names_no_namespace(helm, name):
    for made in helm.render(release="r", chart=CHART / "charts" / name):
        labels = made["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "r"
        assert labels["app.kubernetes.io/component"] == name
        assert "namespace" not in made["metadata"]


@pytest.mark.parametrize("name", SUBCHARTS)
@pytest.mark.behaviour("C4")
def test_a_subchart_alone_refuses_keys_that_it_does_not_know(helm, name):
    with pytest.raises(HelmError, match="additional properties 'persistance' not allowed"):
        helm.render({"persistance": {}}, chart=CHART / "charts" / name)


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, key) for name in ("rabbitmq", "mysql") for key in ("image", "auth", "persistence")]
    + [("rabbitmq", "resources"), ("mysql", "exporter")],
)
@pytest.mark.behaviour("C4")
def test_a_part_of_a_store_that_is_taken_away_is_missed_by_name(each_helm, name, key):
    assert f"missing property '{key}'" in each_helm.refusal({name: {key: None}})
