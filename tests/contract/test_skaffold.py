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
def test_what_a_profile_sets_is_there(patch):
    assert patch["op"] == "add"
    above, _, key = patch["path"].rpartition("/")
    assert above == "/deploy/helm/releases/0"
    if key == "valuesFiles":
        assert all((ROOT / file).is_file() for file in patch["value"])
    else:
        assert key == "setValues"
        for path, given in patch["value"].items():
            assert type(value(path)) is type(given), path


def test_what_is_forwarded_and_verified_is_a_service_of_the_release():
    ports = {"kit-gateway": 8000, "kit-flower": 5555}
    assert RELEASE["name"] == "kit"
    assert {f["resourceName"]: f["port"] for f in FILE["portForward"]} == ports
    for case in FILE["verify"]:
        assert case["container"]["image"] in IMAGES
        for name, port in re.findall(r"http://([\w-]+):(\d+)/", " ".join(case["container"]["args"])):
            assert ports[name] == int(port)
