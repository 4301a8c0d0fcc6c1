"""The chart renders with whatever values are right, into objects that Kubernetes takes."""

import json
from copy import deepcopy
from functools import cache
from pathlib import Path

import jsonschema
import pytest

from tests.chart.cases import CASES
from tests.chart.render import CHART, GIVEN, SUBCHARTS, HelmError

SCHEMAS = json.loads((Path(__file__).parent / "schemas" / "kubernetes.json").read_text())
OLDEST, NEWEST = "1.30.0", "1.36.0"


@cache
def validator(kind):
    """What checks objects of a kind, as `apps/v1/Deployment`."""
    reference = {"$ref": f"#/definitions/{SCHEMAS['kinds'][kind]}"}
    return jsonschema.Draft202012Validator(reference | {"definitions": SCHEMAS["definitions"]})


def validate(object_):
    """Raise ValidationError for what Kubernetes would refuse."""
    validator(f"{object_['apiVersion']}/{object_['kind']}").validate(object_)


@pytest.mark.behaviour("C2", "S28")
@pytest.mark.parametrize("case", CASES)
def test_every_object_is_one_that_kubernetes_knows(helm, case):
    for object_ in helm.render(CASES[case]):
        validate(object_)


@pytest.mark.behaviour("C2")
def test_the_schemas_refuse_what_kubernetes_refuses(kit):
    deployment = deepcopy(kit.get("Deployment", "kit-gateway"))
    deployment["spec"]["replica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="'replica' was unexpected"):
        validate(deployment)


@pytest.mark.behaviour("C1", "S28")
@pytest.mark.parametrize("case", CASES)
def test_both_helms_lint_without_a_warning(each_helm, case):
    each_helm.lint(CASES[case])


@pytest.mark.behaviour("C1")
@pytest.mark.parametrize("case", CASES)
def test_both_helms_render_the_same(programs, helm, each_helm, case):
    assert each_helm.render(GIVEN, CASES[case]) == helm.render(GIVEN, CASES[case])


@pytest.mark.behaviour("C2", "C45")
@pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])
def test_the_objects_are_the_same_on_the_oldest_and_the_newest_kubernetes(helm, kubernetes):
    assert helm.render(GIVEN, kubernetes=kubernetes) == helm.render(GIVEN)


@pytest.mark.behaviour("C45")
def test_an_older_kubernetes_is_refused(helm):
    with pytest.raises(HelmError, match=r"requires kubeVersion: >=1\.30\.0"):
        helm.render(GIVEN, kubernetes="1.29.9")


@pytest.mark.behaviour("C33")
def test_with_secrets_given_the_same_text_comes_each_time(helm):
    assert helm.text(GIVEN) == helm.text(GIVEN)


@pytest.mark.behaviour("C34")
@pytest.mark.parametrize("case", CASES)
def test_no_namespace_is_written_into_an_object(helm, case):
    assert not [o for o in helm.render(CASES[case]) if "namespace" in o["metadata"]]


@pytest.mark.behaviour("C36")
@pytest.mark.parametrize("case", CASES)
def test_the_only_hook_is_the_test(helm, case):
    hooks = [
        (object_["kind"], object_["metadata"]["annotations"]["helm.sh/hook"])
        for object_ in helm.render(CASES[case])
        if "helm.sh/hook" in object_["metadata"].get("annotations", {})
    ]
    assert hooks == [("Pod", "test")]


@pytest.mark.parametrize("case", CASES)
def test_whatever_an_object_refers_to_is_there_or_the_users_own(helm, case):
    objects = helm.render(CASES[case])
    own = {"own", "broker-login", "db-login", "broker-ca", "app", "pull", "old-data"}
    for object_, pod in objects.pods():
        for volume in pod.get("volumes", []):
            if "configMap" in volume:
                data = objects.data(volume["configMap"]["name"])
                assert {item["key"] for item in volume["configMap"].get("items", [])} <= set(data)
            if "persistentVolumeClaim" in volume:
                name = volume["persistentVolumeClaim"]["claimName"]
                assert name in own or objects.get("PersistentVolumeClaim", name)
        mounted = {v["name"] for v in pod.get("volumes", [])}
        mounted |= {claim["metadata"]["name"] for claim in object_["spec"].get("volumeClaimTemplates", [])}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= mounted
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef", {"name": "own"})
                if reference["name"] not in own:
                    assert reference["key"] in objects.get("Secret", reference["name"])["data"]


@pytest.mark.parametrize("case", CASES)
def test_every_service_selects_pods_that_have_its_ports(helm, case):
    objects = helm.render(CASES[case])
    for service in objects.of("Service"):
        selector = service["spec"]["selector"].items()
        (pod,) = (
            object_["spec"]["template"]["spec"]
            for object_, _ in objects.pods()
            if object_["kind"] != "Pod"
            and selector <= object_["spec"]["template"]["metadata"]["labels"].items()
        )
        names = {port["name"] for container in pod["containers"] for port in container.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def test_what_the_charts_have_in_common_is_the_same_text():
    common = (CHART / "templates" / "_common.tpl").read_text()
    for name in SUBCHARTS:
        own = (CHART / "charts" / name / "templates" / "_common.tpl").read_text()
        assert own == common.replace('"celery-kit.', f'"{name}.')


def test_every_named_template_bears_its_charts_name():
    for name, folder in {"celery-kit": CHART, **{n: CHART / "charts" / n for n in SUBCHARTS}}.items():
        for file in (folder / "templates").rglob("*"):
            if file.is_file():
                defined = [line for line in file.read_text().splitlines() if "{{- define" in line]
                assert all(f'"{name}.' in line for line in defined), file
