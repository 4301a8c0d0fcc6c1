"""What nobody can go below: F1, a bare call over AMQP without HTTP, and F2, HTTP without a call.

F1 is aiormq on one connection with a classic reply queue and the message that the gateway sends, without
confirms, deadlines, limits or a database; its CPU is the caller's. F2 is a Tornado handler that answers a
constant.

`python -m tests.bench.floors call AMQP-URL --load NAME --seconds N --log FILE` is F1 and its load at once,
and writes a log as h2load does; `python -m tests.bench.floors constant PORT` is F2.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiormq
import msgspec
from pamqp.commands import Basic
from tornado.web import Application, RequestHandler

from celerykit.envelope import Envelopes, Message
from celerykit.settings import Settings
from local.http import answers
from local.ports import HOST
from local.run import ROOT
from local.stores import Stores
from tests.bench.load import ARGUMENT, CONNECTIONS, OPEN_RATE
from tests.bench.runs import BODY, F1, F2, OPEN, QUEUE, TASK, Target

START_SECONDS = 30
CONSTANT = msgspec.json.encode({"id": str(uuid4()), "state": "SUCCESS", "result": ARGUMENT})


class Call:
    """F1; the tool that makes the load is the caller itself."""

    name = F1
    answers = "responder"

    @contextmanager
    def running(self, stores: Stores, folder: Path) -> Iterator[Target]:
        """There is nothing to start."""
        yield Target(url=stores.rabbitmq.url)


class Constant:
    """F2."""

    name = F2
    answers = "none"

    @contextmanager
    def running(self, stores: Stores, folder: Path) -> Iterator[Target]:
        run = stores.rabbitmq.run
        port = run.ports.spare()
        url = f"http://{HOST}:{port}/"
        run.processes.start(
            self.name, [sys.executable, "-m", "tests.bench.floors", "constant", str(port)], {}, cwd=ROOT
        )
        try:
            run.processes.wait_ready(self.name, partial(answers, url), START_SECONDS)
            process = run.processes.find(self.name)
            assert process is not None
            yield Target(
                url=url, headers={"Content-Type": "application/json"}, body=BODY, pids=(process.pid,)
            )
        finally:
            run.processes.stop(self.name)


def task_message(url: str, reply_to: str) -> Message:
    """The task's message, with all headers, as Celery makes it for the gateway."""
    settings = Settings(broker_url=url, database_url="mysql://unused/unused", queues=(QUEUE,))
    envelopes = Envelopes(settings, lambda: reply_to)
    task = envelopes.signature(TASK, [ARGUMENT], {}, queue=QUEUE)
    _, (message,) = envelopes.canvas(task)  # by Celery's own code, not after a template
    return message


class Caller:
    """Sends the task and awaits its answer, with as little as can be."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self.log: list[tuple[float, float]] = []  # start and end of each call

    async def connect(self, url: str) -> None:
        """Connect, and consume the answers."""
        connection = await aiormq.connect(url)
        self._channel = await connection.channel(publisher_confirms=False)
        declared = await self._channel.queue_declare(
            arguments={"x-queue-type": "classic", "x-expires": 60_000}
        )
        queue = str(declared.queue)
        await self._channel.basic_consume(queue, self._receive, no_ack=True)
        self._message = task_message(url, queue)
        # as the gateway sends a float, which pamqp would write with 32 bits
        text = {name: str(value) for name, value in self._message.headers.items() if isinstance(value, float)}
        self._headers = self._message.headers | text

    async def call(self) -> Any:
        """Call once."""
        message, task_id, began = self._message, str(uuid4()), time.time()
        future = self._waiting[task_id] = asyncio.get_running_loop().create_future()
        properties: dict[str, Any] = message.properties | {
            "headers": self._headers | {"id": task_id, "root_id": task_id},
            "correlation_id": task_id,
        }
        await self._channel.basic_publish(
            message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
            properties=Basic.Properties(**properties),
        )
        answer = await future
        self.log.append((began, time.time()))
        return answer

    async def _receive(self, delivery: Any) -> None:
        future = self._waiting.pop(delivery.header.properties.correlation_id, None)
        if future is not None:
            future.set_result(delivery.body)


async def call(url: str, load: str, seconds: float, begin: Callable[[], None]) -> list[tuple[float, float]]:
    """Call in a closed or an open loop for so long; start and end of each call."""
    caller, loop = Caller(), asyncio.get_running_loop()
    await caller.connect(url)
    assert msgspec.json.decode(await caller.call())["result"] == ARGUMENT
    begin()
    end = loop.time() + seconds

    async def again() -> None:
        while loop.time() < end:
            await caller.call()

    async with asyncio.TaskGroup() as group:
        if load == OPEN:
            due = loop.time()
            while due < end:
                await asyncio.sleep(due - loop.time())
                group.create_task(caller.call())
                due += 1 / OPEN_RATE
        else:
            for _ in range(CONNECTIONS[load]):
                group.create_task(again())
    return caller.log


async def constant(port: int) -> None:
    """Answer all requests alike."""

    class Answer(RequestHandler):
        def get(self) -> None:
            self.post()

        def post(self) -> None:
            self.set_header("Content-Type", "application/json")
            self.write(CONSTANT)

    Application([("/", Answer)]).listen(port, HOST)
    await asyncio.Event().wait()


def main() -> None:
    """One of the floors, by its name."""
    parser = argparse.ArgumentParser(description="The floors of the gateway's bench.")
    floors = parser.add_subparsers(dest="floor", required=True)
    f1 = floors.add_parser("call", help="call the task over AMQP")
    f1.add_argument("url")
    f1.add_argument("--load", choices=[*CONNECTIONS, OPEN], required=True)
    f1.add_argument("--seconds", type=float, required=True)
    f1.add_argument("--log", type=Path, required=True)
    f2 = floors.add_parser("constant", help="answer a constant over HTTP")
    f2.add_argument("port", type=int)
    given = parser.parse_args()
    if given.floor == "constant":
        asyncio.run(constant(given.port))
    else:
        calls = asyncio.run(call(given.url, given.load, given.seconds, given.log.touch))
        lines = (f"{began * 1e6:.0f}\t200\t{(ended - began) * 1e6:.0f}\n" for began, ended in calls)
        given.log.write_text("".join(lines))


if __name__ == "__main__":
    main()
