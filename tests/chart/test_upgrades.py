"""What a later version may not change, and keys that have changed their names."""

import re
import shutil
from copy import deepcopy
from typing import Any

import pytest
import yaml

from docs.changes import changes
from tests.chart.cases import CASES
from tests.chart.previous import ROOT, previous, version
from tests.chart.render import CHART, GIVEN, SUBCHARTS, HelmError
from tests.chart.test_values import resolved, schema_of

# all else of a StatefulSet can be changed only by making it anew
CHANGEABLE = {
    "replicas",
    "template",
    "updateStrategy",
    "ordinals",
    "minReadySeconds",
    "persistentVolumeClaimRetentionPolicy",
}
# values that the last version takes, too
OLD: list[dict[str, Any]] = [
    {},
    {"worker": {"pools": {"slow": {"queues": ["slow"]}}}},
    {"rabbitmq": {"persistence": {"enabled": False}}, "mysql": {"persistence": {"enabled": False}}},
    {"mysql": {"exporter": {"enabled": False}}, "prometheus": {"persistence": {"enabled": True}}},
]


def fixed(object_):
    """What Kubernetes lets nobody change in an object."""
    spec = object_.get("spec", {})
    match object_["kind"]:
        case "StatefulSet":
            return {key: part for key, part in spec.items() if key not in CHANGEABLE}
        case "PersistentVolumeClaim":
            return {key: part for key, part in spec.items() if key != "resources"}
        case "Deployment":
            return spec["selector"]
        case "Job":
            return spec["template"]
        case "Service":
            return spec.get("clusterIP")
        case "RoleBinding":
            return object_["roleRef"]
        case "Secret":
            return object_.get("type")
    return None


def changed(old, new):
    """The objects of both that could not be upgraded."""
    later = {(object_["kind"], object_["metadata"]["name"]): object_ for object_ in new}
    return [
        key
        for object_ in old
        if (key := (object_["kind"], object_["metadata"]["name"])) in later
        and fixed(object_) != fixed(later[key])
    ]


@pytest.fixture(scope="session")
def newer(tmp_path_factory):
    """The same chart, of a later version."""
    folder = tmp_path_factory.mktemp("newer") / "celery-kit"
    shutil.copytree(CHART, folder)
    for file in folder.rglob("Chart.yaml"):
        text = file.read_text()
        later = text.replace(version(text), "9.9.9").replace('appVersion: "', 'appVersion: "9')
        assert later != text
        file.write_text(later)
    return folder


@pytest.fixture(scope="session")
def older(tmp_path_factory):
    """The chart as its last version was."""
    try:
        return previous(tmp_path_factory.mktemp("older"))
    except LookupError as reason:
        pytest.skip(str(reason))


@pytest.mark.behaviour("C6", "C7", "C38")
@pytest.mark.parametrize("case", CASES)
def test_a_new_version_changes_nothing_that_cannot_change(helm, newer, case):
    old, new = helm.render(GIVEN, CASES[case]), helm.render(GIVEN, CASES[case], chart=newer)
    assert old.get("Service", "kit-gateway") != new.get("Service", "kit-gateway")  # it is a new version
    assert changed(old, new) == []


@pytest.mark.behaviour("C9")
def test_a_new_version_restarts_no_store(helm, newer):
    new = helm.render(GIVEN, chart=newer)
    for object_, _ in helm.render(GIVEN).pods():
        if object_["metadata"]["labels"]["app.kubernetes.io/component"] in SUBCHARTS:
            assert new.get(object_["kind"], object_["metadata"]["name"])["spec"] == object_["spec"]


@pytest.mark.behaviour("C7", "C38")
@pytest.mark.parametrize("values", OLD, ids=repr)
def test_the_last_versions_objects_can_become_this_ones(helm, older, values):
    assert changed(helm.render(GIVEN, values, chart=older), helm.render(GIVEN, values)) == []


@pytest.mark.parametrize(
    ("kind", "name", "change"),
    [
        ("Deployment", "kit-gateway", lambda o: o["spec"]["selector"]["matchLabels"].update(new="label")),
        ("StatefulSet", "kit-mysql", lambda o: o["spec"].update(serviceName="other")),
        ("StatefulSet", "kit-rabbitmq", lambda o: o["spec"]["volumeClaimTemplates"].clear()),
        ("Service", "kit-worker-default", lambda o: o["spec"].pop("clusterIP")),
    ],
)
def test_a_change_of_what_cannot_change_is_found(kit, kind, name, change):
    new = deepcopy(kit)
    change(new.get(kind, name))
    assert changed(kit, new) == [(kind, name)]


def table(name):
    """The keys of _deprecated.tpl."""
    text = (CHART / "templates" / "_deprecated.tpl").read_text()
    found = re.search(rf'define "celery-kit.{name}" -}}}}\n(.*?)\n{{{{- end', text, re.DOTALL)
    assert found
    return yaml.safe_load(found[1])


def marked(schema, root, path=""):
    """The keys that a schema says are deprecated."""
    for name, below in resolved(schema, root).get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        if below.get("deprecated"):
            yield here
        yield from marked(below, root, here)


@pytest.mark.behaviour("C42")
def test_the_schema_marks_the_keys_that_are_going_or_gone_and_values_have_none_of_them():
    root = schema_of("")
    going = table("deprecatedKeys") | table("removedKeys")
    assert set(marked(root, root)) == set(going)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in going:
        *above, last = path.split(".")
        here = values
        for name in above:
            here = here[name]
        assert last not in here


@pytest.mark.behaviour("C42")
@pytest.mark.parametrize(("enabled", "mode"), [(False, "off"), (True, "act")])
def test_a_deprecated_key_still_works(helm, enabled, mode):
    old = helm.render(GIVEN, {"autoscaler": {"enabled": enabled}})
    assert old == helm.render(GIVEN, {"autoscaler": {"mode": mode}})


@pytest.mark.behaviour("C42")
def test_a_removed_key_fails_with_what_takes_its_place(helm, tmp_path):
    chart = tmp_path / "celery-kit"
    shutil.copytree(CHART, chart)
    file = chart / "templates" / "_deprecated.tpl"
    text = file.read_text()
    assert text.count("\n{}\n") == 1, "take a key that is really removed for this test"
    file.write_text(text.replace("\n{}\n", "\ngateway.logLevel: gateway.verbosity\n"))
    with pytest.raises(HelmError, match=r"gateway\.logLevel: was removed; use gateway\.verbosity"):
        helm.render(chart=chart)


def test_values_of_an_older_version_are_refused_by_the_keys_that_they_lack(helm):
    """As `--reuse-values` gives them, which leaves out even the defaults of new keys."""
    keys = set(yaml.safe_load((CHART / "values.yaml").read_text()))
    assert set(schema_of("")["required"]) == keys
    for key in keys - set(SUBCHARTS) - {"global"}:  # of these, Helm makes maps where there are none
        assert f"missing property '{key}'" in helm.refusal({key: None})


@pytest.mark.behaviour("C44")
def test_every_part_of_the_project_is_of_one_version():
    now = version((CHART / "Chart.yaml").read_text())
    for file in (ROOT / "pyproject.toml", ROOT / "services/celerykit/pyproject.toml"):
        assert f'\nversion = "{now}"\n' in file.read_text(), file
    for name in SUBCHARTS:
        assert version((CHART / "charts" / name / "Chart.yaml").read_text()) == now
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == now
    assert chart["dependencies"] == [
        {"name": name, "version": now, "condition": f"{name}.enabled"} for name in SUBCHARTS
    ]


@pytest.mark.behaviour("C44")
def test_the_chart_says_of_its_changes_what_the_changelog_says_of_the_chart():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    newest = re.search(r"^## \[(\S+)\]$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == chart["version"]
    told = changes()
    assert len(told) > 1
    assert yaml.safe_load(chart["annotations"]["artifacthub.io/changes"]) == told, "`make docs` mends it"
    kinds = {"added", "changed", "deprecated", "removed", "fixed", "security"}
    assert {change["kind"] for change in told} <= kinds
