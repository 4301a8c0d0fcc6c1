"""What Helm says at the end: the next commands, what stays, what is unsafe; and no secret."""

import re
import shutil

import pytest

from tests.chart.cases import CASES
from tests.chart.render import CHART, GIVEN


@pytest.fixture(scope="session")
def chart_with_notes(tmp_path_factory):
    """A copy that renders its notes into an object: `helm template` shows none."""
    folder = tmp_path_factory.mktemp("chart") / "celery-kit"
    shutil.copytree(CHART, folder)
    notes = folder / "templates" / "NOTES.txt"
    (folder / "templates" / "notes.yaml").write_text(
        '{{ define "notes" }}' + notes.read_text() + "{{ end }}"
        '{"kind": "Notes", "metadata": {"name": "notes"}, "text": {{ include "notes" . | toJson }}}'
    )
    notes.unlink()
    return folder


@pytest.fixture
def notes(helm, chart_with_notes):
    def render(*values, release="kit"):
        return helm.render(*values, release=release, chart=chart_with_notes).get("Notes", "notes")["text"]

    return render


@pytest.mark.parametrize("case", CASES)
@pytest.mark.behaviour("C32")
def test_every_object_that_a_command_names_is_there(helm, notes, case):
    objects = helm.render(GIVEN, CASES[case])
    text = notes(GIVEN, CASES[case])
    for kind, name in re.findall(r" (service|secret)(?:/| -n team )([\w-]+)", text):
        assert name == "own" or objects.get(kind.capitalize(), name)
    assert "helm test kit -n team" in text


@pytest.mark.parametrize("case", CASES)
@pytest.mark.behaviour("C32", "S8")
def test_no_secret_is_told(notes, case):
    assert "canary" not in notes(GIVEN, CASES[case])


def test_pods_that_still_start_have_the_time_that_the_notes_name_and_less_than_helm_gives(helm, notes):
    command = helm.render(GIVEN).container("kit-test/test")["command"][-1]
    ready = re.search(r"^READY_SECONDS = (\d+)$", command, re.MULTILINE)
    assert ready
    assert int(ready[1]) == 4 * 60
    assert "pods that are still starting have four minutes" in notes(GIVEN)


def test_defaults_need_no_warning(notes):
    assert "WARNING" not in notes(GIVEN)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"gateway": {"auth": {"enabled": False}}}, "gateway.auth.enabled is false"),
        ({"rabbitmq": {"persistence": {"enabled": False}}}, "waiting tasks are lost with the pod"),
        ({"mysql": {"persistence": {"enabled": False}}}, "results are lost with the pod"),
        ({"flower": {"readOnly": False}}, "flower.readOnly is false"),
        ({"worker": {"autoscale": {"minWorkers": 0}}}, "worker.pools.default.autoscale.minWorkers is 0"),
        ({"networkPolicy": {"enabled": False}}, "networkPolicy.enabled is false"),
        ({"gateway": {"ingress": {"enabled": True}}}, "gateway.ingress.tls.enabled is false: keys and tasks"),
        ({"flower": {"ingress": {"enabled": True}}}, "flower.ingress.tls.enabled is false: the login"),
        (CASES["external"], "mysql.external.tls.enabled is false: passwords"),
        ({"autoscaler": {"mode": "dryRun"}}, "autoscaler.mode is dryRun"),
    ],
)
@pytest.mark.behaviour("C32")
def test_what_is_unsafe_or_lost_is_told(notes, values, says):
    assert says in notes(GIVEN, values)


@pytest.mark.behaviour("C32")
@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("default", "localhost:3000"),
        ("operator", "kubectl get servicemonitors,podmonitors,prometheusrules -n team"),
        ("no monitoring", "monitoring.mode is none"),
    ],
)
def test_where_to_look_on_depends_on_the_monitoring(notes, case, says):
    assert says in notes(GIVEN, CASES[case])


@pytest.mark.behaviour("C32")
def test_a_demo_says_how_to_see_and_how_to_end_it(notes):
    text = notes(GIVEN, {"demo": {"enabled": True}})
    assert "--watch" in text
    assert "--set demo.enabled=false" in text


@pytest.mark.behaviour("C32", "C42")
def test_a_deprecated_key_is_told_with_what_takes_its_place(notes):
    assert "DEPRECATED: autoscaler.enabled will be removed; use autoscaler.mode" in notes(
        GIVEN, {"autoscaler": {"enabled": False}}
    )


def test_what_uninstalling_keeps_is_told(notes):
    assert "keeps the Secrets" in notes(GIVEN)
