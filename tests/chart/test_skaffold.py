"""skaffold.yaml: what it forwards and asks is a Service of the chart, as each profile renders it."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from tests.chart.render import GIVEN
from tests.chart.test_values import nested

ROOT = Path(__file__).parents[2]
FILE = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
PATCHES = {"": []} | {profile["name"]: profile["patches"] for profile in FILE["profiles"]}


def patched(patches):
    """The file with JSON patches, of which it has `add` to an object and `remove`."""
    file = copy.deepcopy(FILE)
    for patch in patches:
        here = file
        *above, last = patch["path"].strip("/").split("/")
        for name in above:
            here = here[int(name) if isinstance(here, list) else name]
        if patch["op"] == "remove":
            del here[int(last) if isinstance(here, list) else last]
        else:
            here[last] = patch["value"]
    return file


def rendered(helm, file):
    """What the file's release becomes."""
    (release,) = file["deploy"]["helm"]["releases"]
    files = [yaml.safe_load((ROOT / name).read_text()) for name in release.get("valuesFiles", [])]
    given = [nested(path, value) for path, value in release.get("setValues", {}).items()]
    return helm.render(GIVEN, *files, *given, release=release["name"], chart=ROOT / release["chartPath"])


@pytest.mark.parametrize("profile", PATCHES)
def test_what_is_forwarded_or_verified_is_a_service_that_the_profile_has(helm, profile):
    file = patched(PATCHES[profile])
    ports = {
        (service["metadata"]["name"], port["port"])
        for service in rendered(helm, file).of("Service")
        for port in service["spec"]["ports"]
    }
    forwarded = {(forward["resourceName"], forward["port"]) for forward in file["portForward"]}
    asked = {
        (name, int(port))
        for case in file["verify"]
        for name, port in re.findall(r"http://([\w-]+):(\d+)/", " ".join(case["container"]["args"]))
    }
    assert asked
    assert ("kit-gateway", 8000) in forwarded
    assert forwarded | asked <= ports


@pytest.mark.parametrize("profile", PATCHES)
def test_each_page_that_a_profile_has_is_forwarded(helm, profile):
    file = patched(PATCHES[profile])
    names = {service["metadata"]["name"] for service in rendered(helm, file).of("Service")}
    pages = {"kit-gateway", "kit-flower"} & names
    assert {forward["resourceName"] for forward in file["portForward"]} == pages
