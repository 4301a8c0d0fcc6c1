"""`python -m gateway` as a process: its settings, its signals, its size."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import psutil
import pytest

from local.ports import Ports

# ports of this machine on which nobody listens: a gateway must live without broker and database
AWAY = {
    "CELERYKIT_BROKER_URL": "amqp://kit:secret-a@127.0.0.1:1/%2F",
    "CELERYKIT_DATABASE_URL": "mysql://kit:secret-b@127.0.0.1:1/kit",
}


def begin(environ, **options):
    base = {key: value for key, value in os.environ.items() if not key.startswith("CELERYKIT_")}
    settings = {
        f"CELERYKIT_GATEWAY_{key.upper()}": str(value) for key, value in environ.items() if key.islower()
    }
    return subprocess.Popen(
        [sys.executable, "-m", "gateway"],
        env=base
        | {"PYTHONPATH": "services", "CELERYKIT_GATEWAY_HOST": "127.0.0.1"}
        | settings
        | {key: value for key, value in environ.items() if not key.islower()},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def refused(**environ):
    """Run a gateway that must end by itself; returns what it said on standard error."""
    process = begin(environ)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 2
    return said


def fetch(port, path):
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.fixture(scope="module")
def port():
    """A port that no other test has."""
    return Ports.free().gateway


@pytest.fixture
def running(port):
    """A gateway process and its port, with nothing to talk to."""
    process = begin(AWAY | {"port": port})
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            fetch(port, "/healthz")
            break
        except URLError:
            time.sleep(0.05)
    yield process, port
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"port": "http"}, "CELERYKIT_GATEWAY_PORT: Expected `int`"),
        ({"port": "70000"}, "CELERYKIT_GATEWAY_PORT: "),
        ({"max_wait_seconds": "0"}, "CELERYKIT_GATEWAY_MAX_WAIT_SECONDS: "),
        ({"log_level": "loud"}, "CELERYKIT_GATEWAY_LOG_LEVEL: "),
        ({"api_keys": "me:123"}, "CELERYKIT_GATEWAY_API_KEYS: entry 1 must be OWNER:SHA256"),
        ({"catalogue": "/none.yaml"}, "CELERYKIT_GATEWAY_CATALOGUE: /none.yaml: cannot be read"),
        ({"examples": "perhaps"}, "CELERYKIT_GATEWAY_EXAMPLES: "),
        ({"host": "256.0.0.1"}, "CELERYKIT_GATEWAY_PORT: cannot listen on 256.0.0.1:"),
        ({"CELERYKIT_BROKER_URL": "http://x"}, "CELERYKIT_BROKER_URL: must look like amqp://"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_2(settings, words):
    said = refused(**(AWAY | settings))
    assert said.startswith(words)
    assert said.count("\n") == 1


def test_a_missing_setting_is_named():
    assert refused().startswith("CELERYKIT_BROKER_URL: is required")


def test_a_taken_port_is_one_line_that_names_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(**AWAY, port=str(port))
    assert said == (
        f"CELERYKIT_GATEWAY_PORT: cannot listen on 127.0.0.1:{port}: Address already in use;"
        " choose a free one\n"
    )


def test_without_broker_and_database_it_lives_and_is_not_ready(running):
    _, port = running
    assert fetch(port, "/healthz")[0] == 200
    status, body = fetch(port, "/readyz")
    assert status == 503
    assert json.loads(body) == {"ready": False, "broker": False, "database": False, "stopping": False}


def test_idle_it_takes_less_than_96_mib(running):
    process, port = running
    fetch(port, "/metrics")
    assert psutil.Process(process.pid).memory_info().rss < 96 * 2**20


def test_it_never_imports_a_workers_code(running):
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, gateway.__main__; print([m for m in sys.modules if m.startswith('worker')])",
        ],
        env=os.environ | {"PYTHONPATH": "services"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_ends_well_and_its_log_is_json_without_secrets(running, number):
    process, _ = running
    process.send_signal(number)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    messages = [json.loads(line)["message"] for line in said.splitlines()]
    assert messages[-1] == "stopped"
    assert "secret" not in said
