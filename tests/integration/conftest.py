"""Real stores: one RabbitMQ and one MariaDB a session, a virtual host and a database a module.

A session is a worker of pytest-xdist, if that runs the tests. With KIT_TEST_BROKER_URL and its like
(external.py) the stores are those that run elsewhere.
"""

import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pymysql
import pytest

from celerykit import database, schema
from celerykit.settings import Settings
from local.http import request
from local.ports import Ports
from local.run import Run
from local.stores import Prometheus, Stores
from tests.integration.external import External
from tests.integration.support import Worker, broker_and_database


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("own_stores") and External.named():
        pytest.skip("stops or changes a store, and these are not ours")


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
def stores(run: Run) -> Iterator[Stores | External]:
    """RabbitMQ and MariaDB, running. A test that stops one is marked `own_stores`, and starts it again."""
    if external := External.named():
        yield external
        return
    with broker_and_database(Stores(run)) as stores:
        yield stores


@pytest.fixture(scope="session")
def prometheus(stores: Stores) -> Prometheus:
    """Prometheus with the shipped configuration, of every virtual host."""
    stores.prometheus.start()
    return stores.prometheus


@pytest.fixture(scope="module")
def vhost(stores: Stores | External) -> Iterator[str]:
    """A virtual host of this module's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    rabbitmq = stores.rabbitmq
    url = f"{rabbitmq.management}/api/vhosts/{name}"
    assert request("PUT", url, b"{}", rabbitmq.login)[0] == 201
    yield name
    request("DELETE", url, login=rabbitmq.login)


@pytest.fixture(scope="module")
def broker_url(stores: Stores | External, vhost: str) -> str:
    """AMQP URL of this module's virtual host."""
    return stores.rabbitmq.url_of(vhost)


@pytest.fixture(scope="module")
def database_url(stores: Stores | External) -> Iterator[str]:
    """URL of this module's own database, with the tables in it."""
    with made_database(stores) as url:
        schema.upgrade(url)
        yield url


@pytest.fixture
def empty_database(stores: Stores | External) -> Iterator[str]:
    """URL of a database without tables."""
    with made_database(stores) as url:
        yield url


@contextmanager
def made_database(stores: Stores | External) -> Iterator[str]:
    """Make a database, and drop it again; its URL."""
    name = f"kit_{uuid.uuid4().hex[:8]}"

    def administer(statement: str) -> None:
        with pymysql.connect(**database.parse(stores.mysql.url)) as admin, admin.cursor() as cursor:
            cursor.execute(statement)

    administer(f"CREATE DATABASE `{name}`")
    try:
        yield stores.mysql.url_of(name)
    finally:
        administer(f"DROP DATABASE `{name}`")


@pytest.fixture(autouse=True)
def rare_heartbeats(monkeypatch):
    """A test may keep the loop of its link busy for long while it awaits a process, and stay connected."""
    monkeypatch.setattr("celerykit.transport.HEARTBEAT", 600)


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
