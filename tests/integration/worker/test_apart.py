"""Web and workers apart: no code in common but celerykit, and a network between them."""

import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from local.http import answers
from tests.integration.proxy import Proxy
from tests.integration.support import SERVICES, eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def stack():
    """What was started here ends with the test, the last first."""
    with ExitStack() as stack:
        yield stack


def process(stack, command, environment, log):
    """Start a program that is ended for sure."""
    with log.open("w") as output:
        started = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    stack.callback(started.wait)
    stack.callback(os.killpg, started.pid, 9)
    return started


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def network():
    """A network namespace of our own: its name, our address towards it, and its own."""
    number = random.randrange(256)
    name = f"kit{os.getpid()}"
    ours, theirs = f"10.213.{number}.1", f"10.213.{number}.2"
    with ExitStack() as stack:
        try:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)  # and with it both ends of the cable
            ip("netns", "exec", name, "true")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not to be had here: {error.stderr}")
        ip("link", "add", f"{name}h", "type", "veth", "peer", "name", f"{name}n", "netns", name)
        ip("addr", "add", f"{ours}/30", "dev", f"{name}h")
        ip("link", "set", f"{name}h", "up")
        ip("-n", name, "addr", "add", f"{theirs}/30", "dev", f"{name}n")
        ip("-n", name, "link", "set", f"{name}n", "up")
        yield name, ours, theirs


@pytest.mark.own_stores
def test_a_gateway_without_the_workers_code_and_a_worker_in_another_network(
    stack, broker_url, database_url, run, tmp_path
):
    for name in ("celerykit", "gateway"):
        shutil.copytree(SERVICES / name, tmp_path / "web" / name)
    # -S, or the interpreter would find the repository by itself
    python = [sys.executable, "-S"]
    common = {key: value for key, value in os.environ.items() if not key.startswith("CELERYKIT_")}
    port = run.ports.gateway
    web = common | {
        "PYTHONPATH": f"{tmp_path / 'web'}:{sysconfig.get_path('purelib')}",
        "CELERYKIT_BROKER_URL": broker_url,
        "CELERYKIT_DATABASE_URL": database_url,
        "CELERYKIT_GATEWAY_HOST": "127.0.0.1",
        "CELERYKIT_GATEWAY_PORT": str(port),
    }
    for module, code in (("gateway", 0), ("worker", 1)):
        found = subprocess.run([*python, "-c", f"import {module}"], env=web, check=False, capture_output=True)
        assert found.returncode == code, found.stderr.decode()

    name, ours, theirs = stack.enter_context(network())
    for url in (broker_url, database_url):
        store = urlsplit(url).port
        stack.enter_context(Proxy(store, host=ours, port=store))
    environment = common | {
        "PYTHONPATH": str(SERVICES),
        "CELERYKIT_BROKER_URL": broker_url.replace("127.0.0.1", ours),
        "CELERYKIT_DATABASE_URL": database_url.replace("127.0.0.1", ours),
        "CELERYKIT_WORKER_HOST": theirs,
    }
    command = ["ip", "netns", "exec", name, sys.executable, "-m", "worker"]
    process(stack, command, environment, tmp_path / "worker.log")
    process(stack, [*python, "-m", "gateway"], web, tmp_path / "gateway.log")

    gateway = f"http://127.0.0.1:{port}"
    eventually(lambda: answers(f"http://{theirs}:8001/readyz"), what="the worker")
    eventually(lambda: answers(f"{gateway}/readyz"), what="the gateway")
    call = Request(
        f"{gateway}/v1/tasks/task.echo",
        b'{"args": ["over there"]}',
        {"Content-Type": "application/json", "Prefer": "wait=20"},
    )
    with urlopen(call, timeout=30) as answer:
        assert answer.status == 200
        assert json.load(answer)["result"] == "over there"
