"""Each test has a queue of its own, a link to it, and workers that consume it."""

import json
from collections import defaultdict
from uuid import uuid4

import pytest

from local.http import request
from tests.integration.support import SERVICES, linked


@pytest.fixture
def queue():
    """The name of a queue that nobody had before."""
    return f"q-{uuid4().hex[:8]}"


@pytest.fixture
async def link(settings, queue):
    """A link of which every task goes to the queue."""
    async with linked(settings, service="test", queues=defaultdict(lambda: queue)) as link:
        yield link


@pytest.fixture
def start(start_worker, queue, tmp_path):
    """Start a worker of the queue, with a task module if its source is given."""

    def start(source="", **environment):
        module = f"own_{uuid4().hex[:8]}" if source else ""
        if source:
            (tmp_path / f"{module}.py").write_text(
                f"import os, time\nfrom worker.celery import app\n{source}"
            )
        defaults = {
            "CELERYKIT_QUEUES": queue,
            "CELERYKIT_WORKER_TASK_MODULES": module,
            "PYTHONPATH": f"{SERVICES}:{tmp_path}",
        }
        return start_worker(**defaults | environment)

    return start


@pytest.fixture
def broker(stores, vhost):
    """Ask the broker's management: its answer to a path below the virtual host, None if there is none."""

    def ask(path):
        rabbitmq = stores.rabbitmq
        url = f"{rabbitmq.management}/api/queues/{vhost}/{path}"
        status, body = request("GET", url, login=rabbitmq.login)
        return json.loads(body) if status == 200 else None

    return ask
