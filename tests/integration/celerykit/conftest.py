"""A link to a worker, and workers with task modules of their own."""

from uuid import uuid4

import pytest

from tests.integration.support import SERVICES, linked

TASKS = ["task.query_users", "task.echo", "task.sleep", "task.cpu", "task.fail"]
OWN = [
    "add",
    "die",
    "double",
    "give_back",
    "header",
    "ignore",
    "replace",
    "replace_by_chain",
    "replace_header",
    "replace_later",
    "retry",
    "retry_soon",
    "sum",
]


@pytest.fixture
async def link(settings):
    """A link that is connected."""
    queues = dict.fromkeys([*TASKS, *(f"own.{name}" for name in OWN)], "default")
    async with linked(settings, service="test", queues=queues) as link:
        yield link


@pytest.fixture
def start_own(start_worker, tmp_path):
    """Start a worker with a task module of one's own."""

    def start(source, **environment):
        name = f"own_{uuid4().hex[:8]}"
        (tmp_path / f"{name}.py").write_text(f"import os\nfrom worker.celery import app\n\n{source}")
        return start_worker(
            CELERYKIT_WORKER_TASK_MODULES=name,
            PYTHONPATH=f"{SERVICES}:{tmp_path}",
            **environment,
        )

    return start
