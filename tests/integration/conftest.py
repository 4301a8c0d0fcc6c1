"""Real stores: one RabbitMQ and one MariaDB a session, a virtual host and a database a module."""

import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pymysql
import pytest

from celerykit import database, schema
from celerykit.settings import Settings
from local.http import request
from local.ports import Ports
from local.run import Run
from local.stores import Prometheus, Stores
from tests.integration.support import Worker


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of the session's own; whatever was started in it has ended when the session has."""
    old = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))
    run = Run(tmp_path_factory.mktemp("run"), Ports.free())
    try:
        yield run
    finally:
        run.processes.sweep()
        signal.signal(signal.SIGTERM, old)


@pytest.fixture(scope="session")
def stores(run: Run) -> Iterator[Stores]:
    """RabbitMQ and MariaDB, running. A test that stops one starts it again."""
    stores = Stores(run)
    try:
        stores.rabbitmq.launch()
        stores.mysql.start()
        stores.rabbitmq.wait()
        yield stores
    finally:
        stores.stop()


@pytest.fixture(scope="session")
def prometheus(stores: Stores) -> Prometheus:
    """Prometheus with the shipped configuration, of every virtual host."""
    stores.prometheus.start()
    return stores.prometheus


@pytest.fixture(scope="module")
def vhost(stores: Stores) -> Iterator[str]:
    """A virtual host of this module's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    rabbitmq = stores.rabbitmq
    url = f"{rabbitmq.management}/api/vhosts/{name}"
    assert request("PUT", url, b"{}", rabbitmq.login)[0] == 201
    yield name
    request("DELETE", url, login=rabbitmq.login)


@pytest.fixture(scope="module")
def broker_url(stores: Stores, vhost: str) -> str:
    """AMQP URL of this module's virtual host."""
    return stores.rabbitmq.url_of(vhost)


@pytest.fixture(scope="module")
def database_url(stores: Stores) -> Iterator[str]:
    """URL of this module's own database, with the tables in it."""
    name = f"kit_{uuid.uuid4().hex[:8]}"
    _administer(stores, f"CREATE DATABASE `{name}`")
    schema.upgrade(stores.mysql.url_of(name))
    yield stores.mysql.url_of(name)
    _administer(stores, f"DROP DATABASE `{name}`")


def _administer(stores: Stores, statement: str) -> None:
    with pymysql.connect(**database.parse(stores.mysql.url)) as admin, admin.cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture
def settings(broker_url, database_url):
    """The settings of a caller."""
    return Settings(broker_url=broker_url, database_url=database_url)


@pytest.fixture
def start_worker(run, broker_url, database_url):
    """Start workers that end with the test."""
    with ExitStack() as stack:

        def start(**environment):
            worker = Worker(run, broker_url, database_url, **environment)
            stack.callback(worker.end)
            return worker.ready()

        yield start


@pytest.fixture(scope="module")
def worker(run, broker_url, database_url):
    """One worker for the tests of a module that leave it as it was."""
    worker = Worker(run, broker_url, database_url)
    try:
        yield worker.ready()
    finally:
        worker.end()


@pytest.fixture
def ledger(database_url):
    """The rows of a task in the ledger, oldest first: attempt, worker, start, end."""

    def rows(task_id):
        with database.connect(database_url) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT attempt_id, worker, started_at, ended_at FROM celerykit_ledger"
                " WHERE task_id = %s ORDER BY started_at",
                (task_id,),
            )
            return cursor.fetchall()

    return rows
