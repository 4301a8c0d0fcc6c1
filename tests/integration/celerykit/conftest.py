"""A link to a worker, and a database without tables."""

from uuid import uuid4

import pymysql
import pytest

from celerykit import database
from celerykit.link import Link
from tests.integration.support import SERVICES

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
    "retry",
    "retry_soon",
    "sum",
]


@pytest.fixture
def empty_database(stores):
    """The URL of a database without tables."""
    name = f"kit_{uuid4().hex[:8]}"
    with pymysql.connect(**database.parse(stores.mysql.url)) as admin, admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}`")
    yield stores.mysql.url_of(name)
    with pymysql.connect(**database.parse(stores.mysql.url)) as admin, admin.cursor() as cursor:
        cursor.execute(f"DROP DATABASE `{name}`")


@pytest.fixture
async def link(settings):
    """A link that is connected."""
    link = Link(
        settings, service="test", queues=dict.fromkeys([*TASKS, *(f"own.{name}" for name in OWN)], "default")
    )
    await link.start()
    yield link
    await link.close()


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
