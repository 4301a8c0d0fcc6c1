"""`k8s/`: made from the chart, complete, and honest about what is proven."""

import json

import jsonschema
import pytest
import yaml

from k8s.render import HERE, files, patch, stale

FOLDERS = [folder for of in ("components", "overlays") for folder in sorted((HERE / of).iterdir())]
COMPONENTS = {"network-policies", "external-broker", "external-mysql", "keda", "kube-prometheus-stack"}
STATUS = {
    "type": "object",
    "properties": {
        "status": {"enum": ["tested", "dry-run", "not-tested"]},
        "proof": {"type": "string", "minLength": 10},
    },
    "required": ["status", "proof"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def made(programs):
    """All that is generated, by its place."""
    return files()


@pytest.mark.behaviour("C39")
def test_the_manifests_are_what_the_chart_makes_today(made):
    assert [str(file) for file in stale(made)] == [], "`make manifests` mends it"


def test_no_secret_is_in_the_manifests(made):
    for file, text in made.items():
        assert not [o for o in yaml.safe_load_all(text) if o["kind"] == "Secret"], file


def test_each_component_and_overlay_is_there():
    assert {folder.name for folder in FOLDERS} == COMPONENTS | {"dev", "prod"}


@pytest.mark.behaviour("C39")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_says_how_far_it_is_proven(folder):
    jsonschema.validate(yaml.safe_load((folder / "STATUS.yaml").read_text()), STATUS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_lists_files_that_are_there(folder):
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for name in [*listed.get("resources", []), *listed.get("components", [])]:
        assert (folder / name).exists()


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_each_component_tells_how_to_use_it(name):
    assert (HERE / "components" / name / "README.md").read_text().startswith(f"# {name}\n")


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, {"b": 3}),
        ({"a": 1, "b": {"c": 2}}, {"a": 1}, {"b": None}),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": [2]}}, {"a": {"c": [2]}}),
        ({"l": [1, 2]}, {"l": [2]}, {"l": [2]}),
        (
            [{"name": "a", "v": 1}, {"name": "b", "v": 1}],
            [{"name": "a", "v": 2}, {"name": "c", "v": 1}],
            [{"name": "a", "v": 2}, {"name": "c", "v": 1}, {"name": "b", "$patch": "delete"}],
        ),
        ({"ports": [{"name": "a", "port": 1}]}, {"ports": []}, {"ports": [{"port": 1, "$patch": "delete"}]}),
    ],
    ids=json.dumps,
)
def test_a_patch_says_only_what_changes(old, new, wanted):
    assert patch(old, new) == wanted
