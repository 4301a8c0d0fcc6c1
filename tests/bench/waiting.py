"""Ten thousand calls that wait at once in one process: what a wait takes, and how late the loop runs.

`python -m tests.bench.waiting` prints one JSON object: `kib_per_wait`, by which the resident memory grows
from 1,000 to 10,000 waits; `loop_lag_p99_ms` and `loop_lag_max_ms` while all of them wait and
the sweep asks the database for them, and the share of a core that this takes; the longest lags while they
begin and while they are answered; `waits_at_once` and `ended_well`.

The process has never held as many waits before, so that no memory of earlier ones is there to be used again,
and neither the collector nor the allocator is asked for anything. Callers come by the hundred.
"""

import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import amqp
import psutil
from kombu import Connection

from celerykit import profile, schema
from celerykit.link import Link, Outcome
from celerykit.settings import Settings
from local.stores import Stores
from tests.bench import kits
from tests.bench.runs import QUEUE, TASK, WentWrong
from tests.integration.support import linked

FEW, MANY = 1_000, 10_000
AT_A_TIME = 100
WARM_UP = 200  # calls that pay for connections, imports and templates
SETTLE_SECONDS = 6  # longer than the age from which the sweep asks for a wait
HOLD_SECONDS = 12
WAIT_SECONDS = 300
LOOK_SECONDS = 0.005  # between two looks at the loop


def measure(stores: Stores, folder: Path) -> dict[str, float]:
    """Measure in a process of its own, on stores that run. Raises WentWrong if a call does not end well."""
    settings = Settings(broker_url=stores.rabbitmq.url, database_url=stores.mysql.url, queues=(QUEUE,))
    schema.upgrade(settings.database_url)
    fresh = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with answers_held(settings), fresh:
        return fresh.submit(in_this_process, settings).result()


@contextmanager
def answers_held(settings: Settings) -> Iterator[None]:
    """Take the queue's tasks like a worker, and answer none before `_release` asks for it."""
    ready, stop = Event(), Event()
    thread = Thread(target=_hold_answers, args=(settings, ready, stop))
    thread.start()
    try:
        if not ready.wait(30):
            raise WentWrong("nobody could consume the queue")
        yield
    finally:
        stop.set()
        thread.join()


def _hold_answers(settings: Settings, ready: Event, stop: Event) -> None:
    held: list[tuple[str, str, Any]] = []
    awaited: list[int] = []  # how many there must be before all are answered

    def take(message: Any) -> None:
        (value,) = json.loads(message.body)[0]
        if isinstance(value, dict):
            awaited.append(value["release"])
        else:
            held.append((message.properties["reply_to"], message.properties["correlation_id"], value))
        if awaited != [len(held)]:
            return
        for reply_to, task_id, result in held:
            answer = {"task_id": task_id, "status": "SUCCESS", "result": result, "traceback": None}
            body = json.dumps(answer | {"children": [], "date_done": None})
            channel.basic_publish(amqp.Message(body, correlation_id=task_id), routing_key=reply_to)
        held.clear()
        awaited.clear()

    with Connection(settings.broker_url) as connection:
        channel = connection.channel()
        profile.queue(QUEUE, settings)(channel).declare()
        channel.basic_consume(QUEUE, no_ack=True, callback=take)
        ready.set()
        while not stop.is_set():
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.1)


def in_this_process(settings: Settings) -> dict[str, float]:
    """Do all that is measured."""
    return asyncio.run(_measured(settings))


async def _measured(settings: Settings) -> dict[str, float]:
    async with linked(settings, queues={TASK: QUEUE}, max_in_flight=MANY) as link:
        calls = await _begin(link, WARM_UP)
        await _release(link, len(calls))
        await asyncio.gather(*calls)

        calls = await _begin(link, FEW)
        few = await _resident_kib()
        async with lag() as beginning:
            calls += await _begin(link, MANY - FEW)
        await _resident_kib()
        began = time.process_time()
        async with lag() as waiting:
            await asyncio.sleep(HOLD_SECONDS)
        busy = time.process_time() - began
        many, at_once = await _resident_kib(), link.in_flight
        async with lag() as ending:
            await _release(link, len(calls))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
    well = [
        isinstance(outcome, Outcome) and (outcome.state, outcome.result) == ("SUCCESS", number)
        for outcome, number in zip(outcomes, [*range(FEW), *range(MANY - FEW)], strict=True)
    ]
    if at_once != MANY or not all(well):
        wrong = next((repr(one) for one, right in zip(outcomes, well, strict=True) if not right), "")
        raise WentWrong(f"{at_once} of {MANY} waited at once and {sum(well)} ended well {wrong}")
    return {
        "kib_per_wait": round((many - few) / (MANY - FEW), 2),
        "loop_lag_p99_ms": _ms(statistics.quantiles(waiting, n=100)[-1]),
        "loop_lag_max_ms": _ms(max(waiting)),
        "loop_lag_max_ms_while_beginning": _ms(max(beginning)),
        "loop_lag_max_ms_while_answered": _ms(max(ending)),
        "cpu_share_while_waiting": round(busy / HOLD_SECONDS, 3),
        "waits_at_once": at_once,
        "ended_well": sum(well),
    }


async def _begin(link: Link, count: int) -> list["asyncio.Task[Outcome]"]:
    """Make calls, a few in each round of the loop."""
    calls = []
    for number in range(count):
        calls.append(asyncio.create_task(link.call(TASK, [number], wait=WAIT_SECONDS)))
        if number % AT_A_TIME == AT_A_TIME - 1:
            await asyncio.sleep(0)
    return calls


async def _release(link: Link, calls: int) -> None:
    """Have the calls answered, whenever the last of them has got there."""
    await link.send(TASK, [{"release": calls}])


async def _resident_kib() -> float:
    """Resident memory, once all is sent and the sweep has been at work."""
    await asyncio.sleep(SETTLE_SECONDS)
    return psutil.Process().memory_info().rss / 1024


@asynccontextmanager
async def lag() -> AsyncIterator[list[float]]:
    """Look at the loop all the time; gives the seconds by which it was late at each look."""
    late: list[float] = []

    async def look() -> None:
        while True:
            due = time.perf_counter() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            late.append(max(0.0, time.perf_counter() - due))

    looking = asyncio.create_task(look())
    try:
        yield late
    finally:
        await asyncio.sleep(2 * LOOK_SECONDS)
        looking.cancel()


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)


def main() -> None:
    """Run it on stores of its own, which are gone afterwards."""
    with kits.stores_of_its_own() as (stores, folder):
        print(json.dumps(measure(stores, folder)))  # noqa: T201


if __name__ == "__main__":
    main()
