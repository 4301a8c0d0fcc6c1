"""The bench's peers: an environment of their own, and processes that end."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from local.http import request
from local.ports import Ports
from local.process import StartError
from local.run import Run
from tests.bench.peers import systems
from tests.bench.peers.systems import Peer, environment
from tests.bench.runs import BODY

ECHO = """
import json, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Echo(BaseHTTPRequestHandler):
    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"result": call["args"][0]}).encode())

HTTPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
"""


@pytest.fixture
def stores(tmp_path):
    """What a peer is told of the stores, of which none runs."""
    rabbitmq = SimpleNamespace(url="amqp://unused", run=Run(tmp_path / "run", Ports.free()))
    return SimpleNamespace(rabbitmq=rabbitmq)


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """An environment whose one command is our Python; the folder of its programs."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(systems, "environment", lambda: tmp_path)
    monkeypatch.setattr(systems, "PROGRAMS", tmp_path)
    (tmp_path / "echo.py").write_text(ECHO)
    return tmp_path


def test_a_peer_runs_while_it_is_needed(stores, ours):
    with Peer("echo", "none", "python -m echo {port}").running(stores, ours / "peer") as target:
        assert request(target.method, target.url, target.body.encode()) == (200, b'{"result": "hello"}')
        assert target.body == BODY
        assert all(psutil.pid_exists(pid) for pid in target.pids)
        assert len(target.pids) == 1
    assert not any(psutil.pid_exists(pid) for pid in target.pids)


def test_a_peer_that_ends_at_once_tells_its_last_words(stores, ours):
    (ours / "broken.py").write_text("raise SystemExit('no such option')")
    with (
        pytest.raises(StartError, match=r"no such option$"),
        Peer("broken", "none", "python -m broken").running(stores, ours / "peer"),
    ):
        pytest.fail("it does not run")


def test_a_peer_whose_worker_ends_tells_the_workers_last_words(stores, ours, monkeypatch):
    monkeypatch.setattr(systems, "has_consumer", lambda url, queue: False)
    (ours / "broken.py").write_text("raise SystemExit('no such queue')")
    with (
        pytest.raises(StartError, match=r"no such queue$"),
        Peer("echo", "own worker", "python -m echo {port}", worker="python -m broken").running(
            stores, ours / "peer"
        ),
    ):
        pytest.fail("it does not run")


class Tools:
    """Stands in for venv and pip, which take many seconds: what was called, and how pip ends."""

    def __init__(self):
        self.called = []
        self.error = ""
        self.hangs = False
        self.in_a_later_run()

    TimeoutExpired = subprocess.TimeoutExpired

    def in_a_later_run(self):
        systems._make_environment.cache_clear()

    def run(self, command, timeout, **options):
        module = command[command.index("-m") + 1]
        self.called.append(module)
        if self.hangs:
            raise subprocess.TimeoutExpired(command, timeout)
        if module == "venv":
            Path(command[-1]).mkdir()
        failed = module == "pip" and self.error
        return subprocess.CompletedProcess(command, 1 if failed else 0, stdout="", stderr=self.error)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Venv and pip for an environment of our own, with requirements of our own."""
    tools = Tools()
    monkeypatch.setattr(systems, "subprocess", tools)
    monkeypatch.setattr(systems, "PYTHON", tmp_path / "python")
    monkeypatch.setattr(systems, "REQUIREMENTS", tmp_path / "requirements.txt")
    systems.REQUIREMENTS.write_text("one==1\n")
    yield tools
    tools.in_a_later_run()


def test_the_environment_is_made_anew_when_its_requirements_have_changed(tools):
    environment()
    tools.in_a_later_run()
    environment()
    assert tools.called == ["venv", "pip"]
    systems.REQUIREMENTS.write_text("one==2\n")
    tools.in_a_later_run()
    environment()
    assert tools.called == ["venv", "pip"] * 2


def test_an_environment_that_cannot_be_made_says_so_of_every_peer_and_is_tried_once(tools):
    tools.error = "no matching distribution found for one==1\n"
    for _ in range(2):
        with pytest.raises(StartError, match=r"found for one==1$"):
            environment()
    assert tools.called == ["venv", "pip"]


def test_an_environment_that_takes_too_long_to_make_says_so(tools):
    tools.hangs = True
    with pytest.raises(StartError, match=r"was not made within \d+ s"):
        environment()


def test_an_environment_that_was_not_finished_is_made_anew(tools):
    systems.PYTHON.mkdir()
    environment()
    assert tools.called == ["venv", "pip"]


def test_all_that_the_peers_need_is_named_with_an_exact_version():
    lines = systems.REQUIREMENTS.read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line)] == []
