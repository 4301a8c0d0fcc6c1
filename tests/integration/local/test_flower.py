"""Flower as the kit configures it: behind a login, and read-only."""

import os
import subprocess

import pytest

from local.http import request
from local.ports import taken
from local.run import ROOT
from tests.integration.support import FLOWER, flower_runs

pytestmark = pytest.mark.integration

LOGIN = ("kit", "flower-password")


@pytest.fixture(scope="module")
def environment(run, broker_url, database_url):
    """Good settings."""
    assert not taken(run.ports.flower)
    return os.environ | {
        "CELERYKIT_BROKER_URL": broker_url,
        "CELERYKIT_DATABASE_URL": database_url,
        "CELERYKIT_FLOWER_ADDRESS": "127.0.0.1",
        "CELERYKIT_FLOWER_PORT": str(run.ports.flower),
        "CELERYKIT_FLOWER_BASIC_AUTH": ":".join(LOGIN),
        "PYTHONPATH": str(ROOT / "services"),
    }


@pytest.fixture(scope="module")
def flower(run, environment):
    """Its URL while it runs."""
    with flower_runs(run, environment) as url:
        yield url


@pytest.mark.parametrize("path", ["/", "/api/workers", "/tasks"])
@pytest.mark.behaviour("C18", "S15")
def test_a_login_is_asked_for(flower, path):
    assert request("GET", flower + path)[0] == 401
    assert request("GET", flower + path, login=("kit", "wrong"))[0] == 401
    assert request("GET", flower + path, login=LOGIN)[0] == 200


@pytest.mark.parametrize(
    "path", ["/api/worker/shutdown/somebody", "/api/task/revoke/some-id", "/api/task/send-task/task.echo"]
)
@pytest.mark.behaviour("S15")
def test_nothing_can_be_changed(flower, path):
    assert request("POST", flower + path, b"{}", login=LOGIN)[0] == 403


@pytest.mark.parametrize(
    ("variable", "value", "right"),
    [
        ("BASIC_AUTH", "", "USER:PASSWORD"),
        ("BASIC_AUTH", "nobody", "USER:PASSWORD"),
        ("PORT", "0", ">= 1"),
        ("READ_ONLY", "perhaps", "bool"),
    ],
)
def test_a_wrong_setting_ends_it_with_code_2_and_one_line(environment, variable, value, right):
    done = subprocess.run(
        FLOWER,
        cwd=ROOT,
        env=environment | {f"CELERYKIT_FLOWER_{variable}": value},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"CELERYKIT_FLOWER_{variable}: ")
    assert right in line
