"""AMQPS and MySQL over TLS: the whole way of a task, and every client refuses what is not to be trusted."""

import asyncio
import os
import ssl
from collections.abc import Callable
from typing import Any

import kombu
import msgspec
import pymysql
import pytest

from celerykit import dead_letters, schema
from celerykit.amqp import Connection
from celerykit.database import connect, parse
from celerykit.profile import celery_settings
from celerykit.results import Database
from celerykit.settings import Settings
from local.http import request
from local.ports import HOST
from local.run import ROOT
from tests.integration.support import Worker, eventually, flower_runs, linked

pytestmark = [
    pytest.mark.integration,
    pytest.mark.own_stores,
    # asyncio closes the socket of a handshake that failed in a later turn, and these loops have none
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

LOGIN = ("kit", "flower-password")


def environment(settings):
    return {
        f"CELERYKIT_{name.upper()}": getattr(settings, name)
        for name in ("broker_url", "broker_ca_file", "database_url", "database_ca_file")
    }


@pytest.fixture(params=["prefork", "threads", "gevent"])
def worker(start_worker, settings, request):
    return start_worker(**environment(settings), CELERYKIT_WORKER_POOL_TYPE=request.param)


@pytest.fixture
def flower(run, settings):
    """Its URL while it runs, with the broker's own API."""
    own = {
        "ADDRESS": HOST,
        "PORT": str(run.ports.flower),
        "BASIC_AUTH": ":".join(LOGIN),
        "BROKER_API": f"https://kit:{run.secrets.rabbitmq}@{HOST}:{run.ports.management}/api/",
    }
    given = {f"CELERYKIT_FLOWER_{name}": value for name, value in own.items()}
    path = {"PYTHONPATH": str(ROOT / "services")}
    with flower_runs(run, os.environ | environment(settings) | given | path) as url:
        yield url


@pytest.mark.behaviour("S11")
async def test_a_task_goes_all_the_way_over_tls_and_flower_sees_worker_and_queue(settings, worker, flower):
    async with linked(settings, service="test", queues={"task.echo": "default"}) as link:
        assert (await link.call("task.echo", ["secret"], wait=30)).result == "secret"
        task_id = await link.send("task.echo", ["later"])
        assert (await link.wait(task_id, 30)).result == "later"

    def queues():
        body = request("GET", f"{flower}/api/queues/length", login=LOGIN)[1]
        return msgspec.json.decode(body)["active_queues"]

    await asyncio.to_thread(eventually, lambda: [q["name"] for q in queues()] == ["default"], 30, "the queue")
    assert worker.metric('worker_replies_total{outcome="pushed"}') == 2
    workers = await asyncio.to_thread(request, "GET", f"{flower}/api/workers?refresh=1", login=LOGIN)
    assert len(msgspec.json.decode(workers[1])) == 1
    with dead_letters.opened(settings, "default") as box:
        assert list(box.letters()) == []


def by_link(settings: Settings) -> None:
    async def once() -> None:
        async with asyncio.timeout(10):
            connection = await Connection.open(settings.broker_url, 20, settings.broker_ca_file)
            await connection.close()

    asyncio.run(once())


def by_celery(settings: Settings) -> None:
    conf = celery_settings(settings)
    with kombu.Connection(conf["broker_url"], ssl=conf["broker_use_ssl"], connect_timeout=5) as connection:
        connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)


def by_dead_letters(settings: Settings) -> None:
    with dead_letters.opened(settings, "default"):
        pass


def by_worker(settings: Settings) -> None:
    connect(settings.database_url, timeout=5).close()


def by_schema(settings: Settings) -> None:
    schema.upgrade(settings.database_url)


def by_gateway(settings: Settings) -> None:
    async def once() -> None:
        database = Database(settings.database_url)
        try:
            await database.execute("SELECT 1")
        finally:
            await database.close()

    asyncio.run(once())


CLIENTS: dict[str, tuple[Callable[[Settings], None], str]] = {
    "link": (by_link, "broker"),
    "celery": (by_celery, "broker"),
    "dead letters": (by_dead_letters, "broker"),
    "worker": (by_worker, "database"),
    "schema": (by_schema, "database"),
    "gateway": (by_gateway, "database"),
}
REFUSED = (ssl.SSLError, OSError, pymysql.MySQLError, dead_letters.DeadLetterError)


@pytest.fixture(params=CLIENTS)
def client(request, worker_of_the_broker) -> tuple[Callable[[Settings], None], str]:
    """Each way to a store, which works with good settings."""
    return CLIENTS[request.param]


@pytest.fixture(scope="module")
def worker_of_the_broker(run, broker_url, database_url, ca_file):
    """Has declared the queue."""
    worker = Worker(run, broker_url, database_url, CELERYKIT_BROKER_CA_FILE=ca_file)
    try:
        yield worker.ready()
    finally:
        worker.end()


def refuses(connects: Callable[[Settings], None], settings: Settings, why: str) -> bool:
    """Whether it raises and says why; aiomysql leaves that to the cause."""
    with pytest.raises(REFUSED) as refused:
        connects(settings)
    return why in f"{refused.value} {refused.value.__cause__}"


def changed(settings: Settings, store: str, **changes: Any) -> Settings:
    return msgspec.structs.replace(settings, **{f"{store}_{name}": value for name, value in changes.items()})


@pytest.mark.behaviour("S11")
def test_every_client_connects_where_all_is_right(client, settings):
    connects, _ = client
    connects(settings)


@pytest.mark.behaviour("S11")
def test_no_client_connects_to_a_store_that_an_unknown_authority_vouches_for(client, settings, run):
    connects, store = client
    other = str(run.folder("tls") / "other.crt")
    assert refuses(connects, changed(settings, store, ca_file=other), "certificate verify failed")


@pytest.mark.behaviour("S11")
def test_without_a_file_the_systems_authorities_count_and_know_nothing_of_ours(client, settings):
    connects, store = client
    url = getattr(settings, f"{store}_url").partition("?")[0]
    assert refuses(connects, changed(settings, store, url=url, ca_file=""), "certificate verify failed")


@pytest.mark.behaviour("S11")
def test_no_client_connects_to_a_host_that_the_certificate_is_not_for(client, settings):
    connects, store = client
    url = getattr(settings, f"{store}_url").replace(HOST, "localhost")
    assert refuses(connects, changed(settings, store, url=url), "ostname")


@pytest.mark.behaviour("S11")
def test_a_client_without_tls_is_refused(settings, run):
    plain = settings.broker_url.replace("amqps", "amqp")
    with pytest.raises(REFUSED):
        by_celery(changed(settings, "broker", ca_file="", url=plain))
    options = parse(settings.database_url)
    pymysql.connect(**options).close()
    with pytest.raises(pymysql.OperationalError, match=r"insecure transport|Access denied"):
        pymysql.connect(**options | {"ssl": None, "ssl_disabled": True})
