"""What the integration tests share beside fixtures: awaiting a condition, and a worker as a process."""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import asynccontextmanager, contextmanager, suppress

from celerykit.link import Link
from local.http import request
from local.run import ROOT

TOKEN = "drain-token"
SERVICES = ROOT / "services"
FLOWER = [sys.executable, "-m", "celery", "-A", "celerykit.app", "flower"]
FLOWER += ["--conf=services/flower/flowerconfig.py"]


def eventually(condition: Callable[[], object], seconds: float = 60, what: str = "") -> object:
    """Await a condition; returns what it gave when it was true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError, urllib.error.URLError):
            if value := condition():
                return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {what or condition}")


class Worker:
    """`python -m worker`, as a process."""

    def __init__(self, run, broker_url, database_url, **environment):
        self.port = run.ports.spare()
        self.log = run.home / "log" / f"worker-{self.port}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker"],
                env=os.environ
                | {
                    "CELERYKIT_BROKER_URL": broker_url,
                    "CELERYKIT_DATABASE_URL": database_url,
                    "CELERYKIT_WORKER_HOST": "127.0.0.1",
                    "CELERYKIT_WORKER_PORT": str(self.port),
                    "CELERYKIT_DRAIN_TOKEN": TOKEN,
                    "PYTHONPATH": str(SERVICES),
                }
                | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def http(self, method, path, token=None):
        """Status and body of a request to its port; JSON is decoded."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                status, body, kind = answer.status, answer.read(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            with error:
                status, body, kind = error.code, error.read(), error.headers["Content-Type"]
        return status, json.loads(body) if kind == "application/json" else body.decode()

    def metric(self, series):
        """The value of a series, 0 if there is none."""
        for line in self.http("GET", "/metrics")[1].splitlines():
            if line.startswith(series + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def ready(self):
        """Await that it consumes."""
        eventually(lambda: self.http("GET", "/readyz")[0] == 200, what=f"{self.log.read_text()[-2000:]}")
        return self

    def end(self):
        """End it and its children for sure."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()


@contextmanager
def broker_and_database(stores):
    """Both, running. Prometheus starts with the first test that asks it."""
    try:
        stores.rabbitmq.launch()
        stores.mysql.start()
        stores.rabbitmq.wait()
        yield stores
    finally:
        stores.stop()


@contextmanager
def flower_runs(run, environment):
    """Flower as the kit starts it; gives its URL."""
    url = f"http://127.0.0.1:{run.ports.flower}"
    with (run.home / "log" / "flower-test.log").open("w") as log:
        process = subprocess.Popen(FLOWER, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: request("GET", f"{url}/healthcheck")[0] == 200, what="Flower")
        yield url
    finally:
        process.terminate()
        process.wait(30)


@asynccontextmanager
async def linked(settings, **options):
    """A link that is connected: only then may a test keep its loop busy while it awaits something else."""
    link = Link(settings, **options)
    await link.start()
    try:
        while not link.connected:  # noqa: ASYNC110  # there is no event of it
            await asyncio.sleep(0.01)
        yield link
    finally:
        await link.close()


async def echoed(link, calls=20):
    """Call `task.echo` time and again; returns the seconds that each call took."""
    clock, took = asyncio.get_running_loop().time, []
    for number in range(calls):
        began = clock()
        assert (await link.call("task.echo", [number], wait=30)).result == number
        took.append(clock() - began)
    return took


async def started(link, ledger, name, args):
    """Send a task and await that it runs; returns its id."""
    task_id = await link.send(name, args)
    eventually(lambda: ledger(task_id), what="the task's start")
    return task_id


def run_worker(**environment):
    """Run `python -m worker` to its end, with settings that are good but for these."""
    good = {
        "CELERYKIT_BROKER_URL": "amqp://u:p@127.0.0.1:1/v",
        "CELERYKIT_DATABASE_URL": "mysql://u:p@127.0.0.1:1/d",
    }
    return subprocess.run(
        [sys.executable, "-m", "worker"],
        env=os.environ | {"PYTHONPATH": str(SERVICES)} | good | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


PLAIN_TASKS = """
import os
import time
from celery import Celery
app = Celery("plain", broker=os.environ["BROKER"], backend="rpc://")

@app.task
def add(x, y):
    return x + y

@app.task
def fail():
    raise KeyError("plain")

@app.task
def sleep(seconds):
    time.sleep(seconds)
    return seconds
"""


class PlainWorker:
    """An unmodified Celery app on RabbitMQ, started by hand as its authors do."""

    def __init__(self, folder, broker_url, queue):
        (folder / "plain.py").write_text(PLAIN_TASKS)
        log = folder / "log"
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "plain", "worker", "-Q", queue, "-c1", "-lINFO"],
                cwd=folder,
                env=os.environ | {"BROKER": broker_url},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(lambda: " ready." in log.read_text(), what="the plain worker")

    def end(self):
        os.killpg(self._process.pid, 9)
        self._process.wait()
