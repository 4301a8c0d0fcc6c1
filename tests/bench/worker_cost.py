"""What an echo costs in a worker: CPU time of the parent and of its children, and tasks a second.

All tasks lie in the queue before the worker starts, so that nothing but the worker sets the pace. The
systems take turns, each time with a virtual host, a database and a worker of their own, and the figures are
medians. Prints one JSON object: `systems`, a list with `name`, `does`, `cpu_ms_parent`, `cpu_ms_child` and
`cpu_ms_task` (their sum), all a task, and `tasks_a_second`, which depends on the machine; and `ratios` of CPU
a task. Without options it writes the same to build/bench/worker.json and to docs/figures/worker.json, of
which docs/performance.md is made.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pymysql
from celery import Celery
from kombu import Connection, Queue

from celerykit import database, schema
from celerykit.profile import configure
from celerykit.settings import Settings
from local.http import request
from local.ports import Ports
from local.run import ROOT, Run
from local.stores import MySQL, RabbitMQ, Stores

TASKS, WARM_UP, ROUNDS = 4000, 500, 3
CONCURRENCY = 2
REPLIES = "gw.reply.bench"  # where a caller of the kit would wait
SECONDS = 120  # that the warm-up, and the rest, may take
SQLALCHEMY = "SQLAlchemy==2.1.9"  # of Celery's own database backend; the kit has no use for it
LIBRARIES = ROOT / "build" / "bench" / "stock"
REPORTS = (ROOT / "build" / "bench" / "worker.json", ROOT / "docs" / "figures" / "worker.json")

# without metrics and without records of tasks only here, to tell what they cost
KIT_TASKS = """
import os
from celerykit import metrics
from celerykit.profile import without_task_records
from worker.celery import app

class Nothing:
    def labels(self, *_): return self
    def inc(self, *_): pass
    def observe(self, *_): pass

if os.environ.get("WITHOUT") == "metrics":
    for name in ("received", "finished", "runtime", "queue_wait"):
        setattr(metrics, name, Nothing())
if os.environ.get("WITHOUT") == "records":
    without_task_records()

@app.task(name="bench.echo")
def echo(value):
    return value
"""
STOCK_TASKS = """
import os
from celery import Celery
app = Celery("stock", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])

@app.task(name="bench.echo")
def echo(value):
    return value
"""


@dataclass(frozen=True)
class System:
    """A worker as its users start it, and the tasks that it gets."""

    name: str
    does: str
    backend: str = ""  # of stock Celery: "rpc" or "db"; the kit has its own
    environment: dict[str, str] = field(default_factory=dict)
    task: str = "bench.echo"
    headers: dict[str, str] = field(default_factory=dict)


SYSTEMS = (
    System("kit", "a row, then a reply"),
    System("kit, reply only", "a reply, as the caller asked: x-gw-store: no", headers={"x-gw-store": "no"}),
    System("kit, fast", "the same with the profile fast", environment={"CELERYKIT_PROFILE": "fast"}),
    System(
        "kit, fast, reply only",
        "both",
        environment={"CELERYKIT_PROFILE": "fast"},
        headers={"x-gw-store": "no"},
    ),
    System("kit, no task events", "without events", environment={"CELERYKIT_TASK_EVENTS": "false"}),
    System("kit, no task records", "without a log record for each task", environment={"WITHOUT": "records"}),
    System("kit, no metrics", "without metrics of tasks", environment={"WITHOUT": "metrics"}),
    System("kit, example task", "a row, a reply, and two rows of the ledger", task="task.echo"),
    System("stock rpc", "Celery's own settings, a reply", backend="rpc"),
    System("stock db", "Celery's own settings, a row", backend="db"),
)
RATIOS = (
    ("kit", "stock db"),
    ("kit, fast", "stock db"),
    ("kit, fast", "kit"),
    ("kit, reply only", "stock rpc"),
    ("kit, fast, reply only", "stock rpc"),
)


@dataclass(frozen=True)
class Place:
    """What one run has for itself."""

    folder: Path
    broker_url: str
    database_url: str


@contextmanager
def virtual_host(rabbitmq: RabbitMQ) -> Iterator[str]:
    """A virtual host of the run's own, as an AMQP URL."""
    name = f"bench-{uuid4().hex[:8]}"
    page = f"{rabbitmq.management}/api/vhosts/{name}"
    request("PUT", page, b"{}", rabbitmq.login)
    try:
        yield rabbitmq.url_of(name)
    finally:
        request("DELETE", page, login=rabbitmq.login)


@contextmanager
def tables(mysql: MySQL) -> Iterator[str]:
    """A database of the run's own, as a URL; empty."""
    name = f"kit_{uuid4().hex[:8]}"

    def administer(statement: str) -> None:
        with pymysql.connect(**database.parse(mysql.url)) as admin, admin.cursor() as cursor:
            cursor.execute(statement)

    administer(f"CREATE DATABASE {name}")
    try:
        yield mysql.url_of(name)
    finally:
        administer(f"DROP DATABASE {name}")


def fill(system: System, place: Place, tasks: int) -> None:
    """Put the tasks into the queue, as the callers of a system do; nobody reads the answers."""
    app = Celery("bench", broker=place.broker_url, backend="disabled://", set_as_current=False)
    if not system.backend:
        schema.upgrade(place.database_url)
        configure(app, Settings(broker_url=place.broker_url, database_url=place.database_url))
    with Connection(place.broker_url) as connection, connection.channel() as channel:  # without confirms
        Queue(REPLIES, durable=True, queue_arguments={"x-queue-type": "classic"})(channel).declare()
        producer = app.amqp.Producer(channel)
        for number in range(tasks):
            app.send_task(
                system.task, [number], producer=producer, reply_to=REPLIES, headers=dict(system.headers)
            )


@contextmanager
def worker(system: System, place: Place) -> Iterator[psutil.Popen]:
    """A worker as a process, ended for sure."""
    (place.folder / "echoes.py").write_text(STOCK_TASKS if system.backend else KIT_TASKS)
    environment = {
        "PYTHONPATH": os.pathsep.join(map(str, (place.folder, ROOT / "services", LIBRARIES))),
        "BROKER": place.broker_url,
        "BACKEND": place.database_url.replace("mysql", "db+mysql+pymysql", 1)
        if system.backend == "db"
        else "rpc://",
        "CELERYKIT_BROKER_URL": place.broker_url,
        "CELERYKIT_DATABASE_URL": place.database_url,
        "CELERYKIT_WORKER_CONCURRENCY": str(CONCURRENCY),
        "CELERYKIT_WORKER_PORT": "0",
        "CELERYKIT_WORKER_TASK_MODULES": "echoes",
    }
    command = ["worker"]
    if system.backend:
        command = ["celery", "--app=echoes", "worker", f"--concurrency={CONCURRENCY}"]
    with (place.folder / "log").open("w") as log:
        process = psutil.Popen(
            [sys.executable, "-m", *command],
            cwd=place.folder,
            env=os.environ | environment | system.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        for one in (*process.children(recursive=True), process):
            one.kill()
        process.wait()


@contextmanager
def counter(system: System, place: Place) -> Iterator[Callable[[], int]]:
    """What tells how many tasks have ended: the rows, or the replies, which come after them."""
    if system.backend == "db":
        with database.connect(place.database_url) as connection, connection.cursor() as cursor:

            def rows() -> int:
                with suppress(pymysql.ProgrammingError):  # Celery makes the table for the first
                    cursor.execute("SELECT COUNT(*) FROM celery_taskmeta")
                    return int(cursor.fetchone()[0])
                return 0

            yield rows
    else:
        with Connection(place.broker_url) as connection, connection.channel() as channel:
            yield lambda: int(channel.queue_declare(REPLIES, passive=True).message_count)


def cpu(process: psutil.Process) -> tuple[float, float]:
    """Seconds of CPU so far, of the parent and of its children."""
    used = [sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True))]
    return used[0], sum(used[1:])


def measure(system: System, place: Place, tasks: int) -> dict[str, float]:
    """One worker, from a full queue to an empty one, less the warm-up."""
    fill(system, place, tasks)
    with worker(system, place) as process, counter(system, place) as ended:

        def reach(least: int) -> tuple[int, float, float, float]:
            limit = time.monotonic() + SECONDS
            while (done := ended()) < least:
                if time.monotonic() > limit or process.poll() is not None:
                    raise SystemExit(
                        f"{system.name}: {done} of {least} tasks have ended\n"
                        f"{(place.folder / 'log').read_text()[-2000:]}"
                    )
                time.sleep(0.02)
            return done, time.monotonic(), *cpu(process)

        before, after = reach(WARM_UP), reach(tasks)
    done, seconds, parent, child = (late - early for early, late in zip(before, after, strict=True))
    return {
        "cpu_ms_parent": 1000 * parent / done,
        "cpu_ms_child": 1000 * child / done,
        "cpu_ms_task": 1000 * (parent + child) / done,
        "tasks_a_second": done / seconds,
    }


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Each figure's median over the runs."""
    return {name: round(statistics.median(one[name] for one in runs), 3) for name in runs[0]}


def compare(home: Path, systems: Sequence[System], tasks: int, rounds: int) -> dict[str, Any]:
    """Run all systems in turn on stores of their own."""
    runs: dict[str, list[dict[str, float]]] = {system.name: [] for system in systems}
    stores = Stores(Run(home, Ports.free()))
    try:
        stores.rabbitmq.start()
        stores.mysql.start()
        for number, system in product(range(rounds), systems):
            with virtual_host(stores.rabbitmq) as broker_url, tables(stores.mysql) as database_url:
                folder = stores.rabbitmq.run.folder(f"{system.name} {number}")
                figures = measure(system, Place(folder, broker_url, database_url), tasks)
            print(system.name, *(f"{name}: {value:.3f}" for name, value in figures.items()))  # noqa: T201
            runs[system.name].append(figures)
    finally:
        stores.stop()
    found = {name: medians(of) for name, of in runs.items()}
    return {
        "systems": [{"name": one.name, "does": one.does, **found[one.name]} for one in systems],
        "ratios": {
            f"{ours} / {theirs}": round(found[ours]["cpu_ms_task"] / found[theirs]["cpu_ms_task"], 2)
            for ours, theirs in RATIOS
            if {ours, theirs} <= found.keys()
        },
    }


def main() -> None:
    """Measure and write the report."""
    arguments = argparse.ArgumentParser(prog="python -m tests.bench.worker_cost")
    arguments.add_argument("--tasks", type=int, default=TASKS)
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--only", action="append", help="the name of a system; may be given again")
    given = arguments.parse_args()
    systems = [system for system in SYSTEMS if not given.only or system.name in given.only]
    if not LIBRARIES.exists():
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--no-deps", f"--target={LIBRARIES}", SQLALCHEMY],
            check=True,
        )
    with tempfile.TemporaryDirectory() as home:
        report = compare(Path(home), systems, given.tasks, given.rounds)
    text = json.dumps(report, indent=1) + "\n"
    print(text)  # noqa: T201
    if len(sys.argv) == 1:
        for path in REPORTS:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


if __name__ == "__main__":
    main()
