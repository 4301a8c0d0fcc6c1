"""Real workers behind the web: two hundred tasks at once, and an echo while others wait.

`python -m tests.bench.workers` prints one JSON object. `burst200_wall_seconds`: 200 requests at once that
each await a task of one second, from the first request to the last answer. `echo_behind_40_waits_ratio`: the
median latency of an echo while 40 requests await tasks of five seconds, over that without them, in turns.
Both also for FastAPI with a thread that waits; who answers that are plain Celery workers with `rpc://`.

The workers have 200 slots, so that none of this is a queue: two processes with 100 threads each, since a task
that sleeps needs a slot and no core. All are warm: each slot has its connections.
"""

import http.client
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import pymysql

from celerykit import schema
from local.process import Processes
from local.run import ROOT
from local.stores import MySQL, Stores, program
from tests.bench import kits
from tests.bench.load import Answer, parse
from tests.bench.peers.systems import SYSTEMS
from tests.bench.runs import QUEUE, Target, WentWrong

BURST, BURST_SECONDS = 200, 1
WAITS, WAIT_SECONDS = 40, 5
PROCESSES, THREADS = 2, 100
WARM_UPS, ROUNDS = 2, 3
BEGUN_SECONDS = 1  # in which all waits have begun
ECHO_SECONDS = 3  # of echoes, one after the other, in each turn
CONNECTIONS = 1000  # to the database, at most: each thread has one for its results and one for the ledger
START_SECONDS = 60
PATIENCE = 60  # seconds for all answers of one burst
PEER = "fastapi-thread"


def measure(stores: Stores, folder: Path) -> dict[str, float | str]:
    """Measure the gateway and its peer on stores that run. Raises WentWrong if the gateway's requests do."""
    schema.upgrade(stores.mysql.url)
    with (
        many_connections(stores.mysql),
        threads(stores, folder / "workers"),
        kits.gateway(stores, folder / "gateway") as target,
    ):
        figures: dict[str, float | str] = dict(measured(target, folder))
    (peer,) = (system for system in SYSTEMS if system.name == PEER)
    prefix = PEER.replace("-", "_")
    try:
        with stock_threads(stores, folder / "stock"), peer.running(stores, folder / PEER) as target:
            figures |= {f"{prefix}_{name}": value for name, value in measured(target, folder).items()}
    except Exception as error:  # noqa: BLE001  # a peer that fails is told as failing
        figures[f"{prefix}_error"] = f"{type(error).__name__}: {error}".partition("\n")[0]
    return figures


def measured(target: Target, folder: Path) -> dict[str, float]:
    """Both figures of one system."""
    for _ in range(WARM_UPS):  # each slot makes its connections, for which the time may not suffice
        with at_once(target, folder, BURST, BURST_SECONDS) as answers:
            answers()
    walls = [burst(target, folder) for _ in range(ROUNDS)]
    alone: list[float] = []
    behind: list[float] = []
    for _ in range(ROUNDS):
        alone += [took for _, took in echoes(target, ECHO_SECONDS)]
        behind += echoes_behind_waits(target, folder)
    return {
        "burst200_wall_seconds": round(statistics.median(walls), 2),
        "echo_behind_40_waits_ratio": round(statistics.median(behind) / statistics.median(alone), 2),
        "echo_alone_ms": round(1000 * statistics.median(alone), 2),
        "echo_behind_40_waits_ms": round(1000 * statistics.median(behind), 2),
    }


def burst(target: Target, folder: Path) -> float:
    """Seconds from the first request to the last answer of one burst."""
    with at_once(target, folder, BURST, BURST_SECONDS) as answers:
        ended = good(answers(), BURST)
    return max(answer.ended for answer in ended) - min(map(began, ended))


def echoes_behind_waits(target: Target, folder: Path) -> list[float]:
    """Seconds that each echo took while all waits were under way."""
    with at_once(target, folder, WAITS, WAIT_SECONDS) as answers:
        time.sleep(BEGUN_SECONDS)
        asked = echoes(target, ECHO_SECONDS)
        ended = good(answers(), WAITS)
    if asked[0][0] < max(map(began, ended)) or asked[-1][0] > min(answer.ended for answer in ended):
        raise WentWrong("the echoes were not all asked for while all waits were under way")
    return [took for _, took in asked]


def echoes(target: Target, seconds: float) -> list[tuple[float, float]]:
    """When each of some requests was sent, one after the other on one connection, and the seconds it took."""
    parts = urlsplit(target.url)
    end, took = time.time() + seconds, []
    with closing(http.client.HTTPConnection(parts.netloc, timeout=30)) as connection:
        while not took or time.time() < end:
            sent = time.time()
            connection.request(target.method, parts.path, target.body, target.headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != HTTPStatus.OK:
                raise WentWrong(f"an echo was answered with {answer.status}: {body.decode()[:200]}")
            took.append((sent, time.time() - sent))
    return took


@contextmanager
def at_once(target: Target, folder: Path, count: int, seconds: float) -> Iterator[Callable[[], list[Answer]]]:
    """Send requests at once that each await a task which sleeps; gives what awaits all answers."""
    log, body = folder / "waits.log", folder / "waits.json"
    log.unlink(missing_ok=True)
    body.write_text(json.dumps({"args": [seconds]}))
    command = [program("h2load"), "--h1", f"--log-file={log}", f"--data={body}"]
    command += [f"--clients={count}", f"--requests={count}"]
    command += [f"--header={name}: {value}" for name, value in target.headers.items()]
    tool = subprocess.Popen([*command, target.url.replace("echo", "sleep")], stdout=subprocess.DEVNULL)

    def answers() -> list[Answer]:
        try:
            tool.wait(PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise WentWrong(f"not all of {count} requests at once were answered in {PATIENCE} s") from error
        return parse(log.read_text())

    try:
        yield answers
    finally:
        tool.kill()
        tool.wait()


def good(answers: list[Answer], count: int) -> list[Answer]:
    """The answers, if there are as many and all are good."""
    right = sum(answer.status == HTTPStatus.OK for answer in answers)
    if right < count:
        raise WentWrong(f"{right} of {count} requests at once were answered with 200")
    return answers


def began(answer: Answer) -> float:
    """When a request was sent."""
    return answer.ended - answer.ms / 1000


@contextmanager
def threads(stores: Stores, folder: Path) -> Iterator[None]:
    """The kit's workers, with slots for all."""
    pool = {"CELERYKIT_WORKER_POOL_TYPE": "threads", "CELERYKIT_WORKER_CONCURRENCY": str(THREADS)}
    with kits.workers(stores, folder, PROCESSES, **pool):
        yield


@contextmanager
def stock_threads(stores: Stores, folder: Path) -> Iterator[None]:
    """Plain Celery workers, with as many slots."""
    processes = Processes(folder)
    command = [sys.executable, "-m", "celery", "-A", "tests.bench.stock_worker", "worker", "-Q", QUEUE]
    try:
        for number in range(PROCESSES):
            name = f"stock-{number}"
            pool = ["-P", "threads", f"-c{THREADS}", f"--hostname={name}@%h", "-lINFO"]
            processes.start(name, [*command, *pool], {"BROKER_URL": stores.rabbitmq.url}, cwd=ROOT)
        for name in processes.names():
            processes.wait_ready(name, lambda name=name: " ready." in processes.tail(name), START_SECONDS)
        yield
    finally:
        processes.sweep()


@contextmanager
def many_connections(mysql: MySQL) -> Iterator[None]:
    """Have the server take more connections than the kit's on this machine needs otherwise."""
    socket = mysql.run.folder("mysql") / "data" / "mysql.sock"
    with closing(pymysql.connect(unix_socket=str(socket), user="root")) as admin, admin.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.max_connections")
        ((was,),) = cursor.fetchall()
        cursor.execute("SET GLOBAL max_connections = %s", (CONNECTIONS,))
        try:
            yield
        finally:
            cursor.execute("SET GLOBAL max_connections = %s", (was,))


def main() -> None:
    """Run it on stores of its own, which are gone afterwards."""
    with kits.stores_of_its_own() as (stores, folder):
        print(json.dumps(measure(stores, folder)))  # noqa: T201


if __name__ == "__main__":
    main()
