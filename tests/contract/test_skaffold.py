"""skaffold.yaml: what it names is there, in the Dockerfile, in the chart and in its values."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
(RELEASE,) = FILE["deploy"]["helm"]["releases"]
CHART = ROOT / RELEASE["chartPath"]
COMPONENTS = ("gateway", "worker", "autoscaler", "flower")
IMAGES = [f"celery-kit/{component}" for component in COMPONENTS]


def value(path):
    """What the chart has under a key, as `gateway.image.tag`."""
    first, _, rest = path.partition(".")
    file = CHART / "values.yaml"
    here = yaml.safe_load(file.read_text())
    if (subchart := CHART / "charts" / first / "values.yaml").exists() and rest:
        here = {first: here[first] | yaml.safe_load(subchart.read_text())}
    for name in path.split("."):
        here = here[name]
    return here


def patches():
    return [
        pytest.param(patch, id=f"{profile['name']}{patch['path']}")
        for profile in FILE["profiles"]
        for patch in profile["patches"]
    ]


def test_each_image_is_built_from_its_target_of_the_dockerfile_and_tested():
    targets = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    for artifact, image, component in zip(FILE["build"]["artifacts"], IMAGES, COMPONENTS, strict=True):
        assert artifact["image"] == image
        assert artifact["docker"] == {"dockerfile": "Dockerfile", "target": component}
        assert component in targets
    assert [case["image"] for case in FILE["test"]] == IMAGES


def test_what_the_tests_of_images_import_is_in_them():
    for case in FILE["test"]:
        for custom in case["custom"]:
            modules = re.search(r"-c 'import (.*)'", custom["command"])
            assert modules
            for module in modules[1].split(", "):
                assert importlib.util.find_spec(module), module


def test_the_chart_takes_each_image_under_the_name_and_the_tag_it_was_built_with():
    wanted = {}
    for component, image in zip(COMPONENTS, IMAGES, strict=True):
        assert value(f"{component}.image.repository") == image
        assert value(f"{component}.image.registry") == ""  # a repository as Skaffold says it has its registry
        name = re.sub(r"\W", "_", image)
        for key, variable in (("repository", "REPO"), ("tag", "TAG")):
            wanted[f"{component}.image.{key}"] = f"{{{{.IMAGE_{variable}_{name}}}}}"
    assert RELEASE["setValueTemplates"] == wanted


def test_there_are_a_profile_to_develop_and_one_for_a_small_node():
    assert {profile["name"] for profile in FILE["profiles"]} == {"dev", "minimal"}


@pytest.mark.parametrize("patch", patches())
def test_what_a_profile_changes_is_there(patch):
    above, _, key = patch["path"].rpartition("/")
    if patch["op"] == "remove":
        assert above == "/portForward"
        assert int(key) < len(FILE["portForward"])
        return
    assert patch["op"] == "add"
    assert above == "/deploy/helm/releases/0"
    if key == "valuesFiles":
        assert all((ROOT / file).is_file() for file in patch["value"])
    else:
        assert key == "setValues"
        for path, given in patch["value"].items():
            assert type(value(path)) is type(given), path


def test_what_verifies_runs_an_image_of_the_kit_in_a_job_that_a_restricted_namespace_takes():
    for case in FILE["verify"]:
        assert case["container"]["image"] in IMAGES
        job = yaml.safe_load(
            (ROOT / case["executionMode"]["kubernetesCluster"]["jobManifestPath"]).read_text()
        )
        assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["name"] == case["container"]["name"], "by which Skaffold finds it"
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
