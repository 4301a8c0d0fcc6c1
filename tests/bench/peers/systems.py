"""The other ways from the web to a worker, as systems of the bench: each as its users would write it."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from amqp.exceptions import NotFound
from kombu import Connection

from local.http import request
from local.ports import HOST
from local.process import Processes, StartError
from local.stores import Stores, connects, program
from tests.bench.runs import BODY, TASK, Target

PROGRAMS = Path(__file__).resolve().parent
REQUIREMENTS = PROGRAMS / "requirements.txt"
PYTHON = Path("~/.cache/celery-kit/bench").expanduser()  # the peers' environment: ours has other versions
NAMES = {"fastapi": "FastAPI", "faststream": "FastStream", "flower": "Flower"} | {
    name: name for name in ("aio-celery", "taskiq", "uvicorn")
}
START_SECONDS = 30
INSTALL_SECONDS = 300
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Peer:
    """A program of this folder; its commands are those of the peers' environment."""

    name: str
    answers: str
    web: str  # {port} is filled in
    path: str = "/tasks/echo"
    worker: str = ""  # who answers, if it brings its own, from this queue
    queue: str = ""
    redis: bool = False

    @contextmanager
    def running(self, stores: Stores, folder: Path) -> Iterator[Target]:
        """Start all of it; it is ready when it has given the right answer once."""
        commands, processes = environment() / "bin", Processes(folder)
        spare = stores.rabbitmq.run.ports.spare
        variables = {
            "BROKER_URL": stores.rabbitmq.url,
            "FLOWER_UNAUTHENTICATED_API": "true",
            "PYTHONPATH": str(PROGRAMS),
        }

        def start(what: str, command: str) -> None:
            name, *arguments = command.split()
            processes.start(what, [str(commands / name), *arguments], variables)

        try:
            if self.redis:
                variables["REDIS_URL"] = redis(processes, spare())
            if self.worker:
                start("worker", self.worker)
                consumed = partial(has_consumer, stores.rabbitmq.url, self.queue)
                processes.wait_ready("worker", consumed, START_SECONDS)
            port = spare()
            url = f"http://{HOST}:{port}{self.path}"
            start("web", self.web.format(port=port))
            processes.wait_ready("web", partial(echoes, url), START_SECONDS, what=self.name)
            pids = {name: process.pid for name in processes.names() if (process := processes.find(name))}
            answering = tuple(pid for name, pid in pids.items() if name != "web")
            yield Target(url=url, headers=JSON, body=BODY, pids=(pids["web"],), answering=answering)
        finally:
            processes.sweep()


def versions() -> list[str]:
    """The peers' names and versions."""
    pinned = (line.partition("==") for line in REQUIREMENTS.read_text().splitlines())
    return [f"{NAMES[name]} {number}" for name, _, number in pinned if name in NAMES]


def environment() -> Path:
    """The folder of the peers' Python. Raises StartError if it cannot be made, which is tried once."""
    if error := _make_environment():
        raise StartError(error)
    return PYTHON


@cache
def _make_environment() -> str | None:
    """Make it anew when requirements.txt or our Python has changed; what went wrong, if it did."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    ready = PYTHON / "ready"
    if ready.exists() and ready.read_text() == wanted:
        return None
    shutil.rmtree(PYTHON, ignore_errors=True)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]
    for command in (
        [sys.executable, "-m", "venv", str(PYTHON)],
        [str(PYTHON / "bin" / "python"), "-I", *install, str(REQUIREMENTS)],
    ):
        try:
            made = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS
            )
        except subprocess.TimeoutExpired:
            return f"the peers' environment was not made within {INSTALL_SECONDS} s"
        if made.returncode:
            return f"the peers' environment cannot be made\n{(made.stderr or made.stdout).strip()}"
    ready.write_text(wanted)
    return None


def redis(processes: Processes, port: int) -> str:
    """Start Redis, which keeps nothing on disk; its URL."""
    options = f"--bind {HOST} --port {port} --appendonly no --save".split()
    processes.start("redis", [program("redis-server"), *options, ""], {})
    processes.wait_ready("redis", partial(connects, port), START_SECONDS)
    return f"redis://{HOST}:{port}"


def has_consumer(broker_url: str, queue: str) -> bool:
    """Whether the queue is there and somebody takes its messages."""
    with suppress(NotFound), Connection(broker_url) as connection:
        return bool(connection.default_channel.queue_declare(queue, passive=True).consumer_count)
    return False


def echoes(url: str) -> bool:
    """Whether a call of the task is answered with what was sent."""
    with suppress(OSError, ValueError):
        status, body = request("POST", url, BODY.encode())
        return status == 200 and json.loads(body).get("result") == json.loads(BODY)["args"][0]
    return False


def uvicorn(module: str) -> str:
    """One process with uvloop and httptools, which uvicorn takes where they are, and no log of requests."""
    return f"uvicorn {module}:app --host {HOST} --port {{port}} --no-access-log"


SYSTEMS = (
    Peer(
        "flower-apply",
        "responder",
        f"celery -A flower_apply flower --address={HOST} --port={{port}}",
        path=f"/api/task/apply/{TASK}",
    ),
    Peer("fastapi-thread", "responder", uvicorn("fastapi_thread")),
    Peer("fastapi-polling", "responder", uvicorn("fastapi_polling")),
    Peer(
        "faststream-rpc",
        "own worker",
        uvicorn("faststream_rpc"),
        worker="faststream run faststream_rpc:worker",
        queue="faststream.echo",
    ),
    Peer(
        "aio-celery",
        "own worker",
        uvicorn("aio_celery_result"),
        worker="aio_celery worker aio_celery_result:tasks --loglevel WARNING",
        queue="aio-celery.echo",
        redis=True,
    ),
    Peer(
        "taskiq",
        "own worker",
        uvicorn("taskiq_result"),
        worker="taskiq worker taskiq_result:broker --workers 1 --log-level WARNING",
        queue="taskiq",
        redis=True,
    ),
)
