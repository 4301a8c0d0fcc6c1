"""The kit's own programs under the bench: the gateway as shipped, and who answers its tasks."""

import hashlib
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from local.http import answers
from local.ports import HOST, Ports
from local.process import Processes
from local.run import ROOT, Run
from local.stores import Stores
from tests.bench.runs import BODY, GATEWAY, TASK, Target
from tests.integration.support import broker_and_database

START_SECONDS = 60
WORKERS = 2  # with two children each: a process of Celery's may not be what bounds the machine


def addresses(stores: Stores) -> dict[str, str]:
    """Where the stores are, for every program of the kit."""
    return {"CELERYKIT_BROKER_URL": stores.rabbitmq.url, "CELERYKIT_DATABASE_URL": stores.mysql.url}


@contextmanager
def stores_of_its_own() -> Iterator[tuple[Stores, Path]]:
    """RabbitMQ and MariaDB, and a folder for what runs on them; all gone afterwards."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # after what stands in `finally`
    with tempfile.TemporaryDirectory() as home:
        run = Run(Path(home), Ports.free())
        try:
            with broker_and_database(Stores(run)) as stores:
                yield stores, run.folder("bench")
        finally:
            run.processes.sweep()


@contextmanager
def gateway(stores: Stores, folder: Path, **settings: str) -> Iterator[Target]:
    """`python -m gateway` with an API key and its log in a file; all else as shipped, but for `settings`."""
    processes, port, key = Processes(folder), stores.rabbitmq.run.ports.spare(), secrets.token_urlsafe(24)
    digest = hashlib.sha256(key.encode()).hexdigest()
    own = {
        "CELERYKIT_GATEWAY_HOST": HOST,
        "CELERYKIT_GATEWAY_PORT": str(port),
        "CELERYKIT_GATEWAY_API_KEYS": f"bench:{digest}",
    }
    processes.start("gateway", [sys.executable, "-m", "gateway"], addresses(stores) | own | settings)
    url = f"http://{HOST}:{port}"
    try:
        processes.wait_ready("gateway", partial(answers, f"{url}/readyz"), START_SECONDS)
        process = processes.find("gateway")
        assert process is not None
        headers = {"Content-Type": "application/json", "Prefer": "wait=10", "X-API-Key": key}
        yield Target(url=f"{url}/v1/tasks/{TASK}", headers=headers, body=BODY, pids=(process.pid,))
    finally:
        processes.sweep()


class Gateway:
    """The gateway, with whoever answers."""

    name = GATEWAY

    def __init__(self, answers: str) -> None:
        self.answers = answers

    def running(self, stores: Stores, folder: Path) -> AbstractContextManager[Target]:
        """Start it."""
        return gateway(stores, folder)


@contextmanager
def answering(who: str, stores: Stores, folder: Path) -> Iterator[tuple[int, ...]]:
    """Start who answers the task, if a system does not bring its own; the process ids.

    Of workers with that of the database, which keeps their results.
    """
    starts = {"responder": responder, "workers": workers}
    if who not in starts:
        yield ()
        return
    with starts[who](stores, folder) as pids:
        database = stores.mysql.run.processes.find("mysql") if who == "workers" else None
        yield (*pids, database.pid) if database else pids


@contextmanager
def responder(stores: Stores, folder: Path) -> Iterator[tuple[int, ...]]:
    """What answers as a worker does, at a small part of a worker's cost."""
    processes = Processes(folder)
    command = [sys.executable, "-m", "tests.bench.responder", stores.rabbitmq.url]
    processes.start("responder", command, {}, cwd=ROOT)
    try:
        processes.wait_ready("responder", lambda: "ready" in processes.tail("responder"), START_SECONDS)
        yield running(processes)
    finally:
        processes.sweep()


@contextmanager
def workers(stores: Stores, folder: Path, count: int = WORKERS, **settings: str) -> Iterator[tuple[int, ...]]:
    """`python -m worker`, with two children each and all else by default, or as `settings` say."""
    processes, ports = Processes(folder), stores.rabbitmq.run.ports
    own = {"CELERYKIT_WORKER_HOST": HOST, "CELERYKIT_WORKER_CONCURRENCY": "2"} | settings
    try:
        for number in range(count):
            port = ports.spare()
            name = f"worker-{number}"
            where = {"CELERYKIT_WORKER_PORT": str(port)}
            processes.start(name, [sys.executable, "-m", "worker"], addresses(stores) | own | where)
            processes.wait_ready(name, partial(answers, f"http://{HOST}:{port}/readyz"), START_SECONDS)
        yield running(processes)
    finally:
        processes.sweep()


def running(processes: Processes) -> tuple[int, ...]:
    """The ids of all that was started."""
    found = (processes.find(name) for name in processes.names())
    return tuple(process.pid for process in found if process is not None)
