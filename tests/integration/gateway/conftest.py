"""Gateways and a worker as processes, on the module's own virtual host and database."""

import sys

import msgspec
import pytest

from local.http import answers
from local.run import ROOT
from tests.integration.gateway.support import Gateway


@pytest.fixture(scope="module")
def environ(broker_url, database_url):
    """The settings that gateway and worker share."""
    return {
        "CELERYKIT_BROKER_URL": broker_url,
        "CELERYKIT_DATABASE_URL": database_url,
        "PYTHONPATH": str(ROOT / "services"),
    }


@pytest.fixture(scope="module")
def worker(run, environ):
    """A worker with two slots."""
    name, port = "worker-test-gateway", run.ports.spare()
    own = {"CELERYKIT_WORKER_HOST": "127.0.0.1", "CELERYKIT_WORKER_PORT": str(port)}
    run.processes.start(name, [sys.executable, "-m", "worker"], environ | own)
    run.processes.wait_ready(name, lambda: answers(f"http://127.0.0.1:{port}/readyz"), 60)
    yield
    run.processes.stop(name)


@pytest.fixture(scope="module")
def start_gateway(run, environ):
    """A function that starts a gateway with the settings given."""
    started = []

    def start(**settings):
        own = {f"CELERYKIT_GATEWAY_{name.upper()}": value for name, value in settings.items()}
        started.append(Gateway(run, environ | own, len(started)))
        return started[-1]

    yield start
    for gateway in started:
        run.processes.stop(gateway.name)


@pytest.fixture(scope="module")
def gateway(start_gateway, worker):
    """A gateway with a worker."""
    return start_gateway(examples="true", example_threads="2")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """A function that writes a catalogue and returns its path."""

    def write(tasks):
        path = tmp_path_factory.mktemp("catalogue") / "catalogue.yaml"
        path.write_bytes(msgspec.yaml.encode({"tasks": tasks}))
        return str(path)

    return write
