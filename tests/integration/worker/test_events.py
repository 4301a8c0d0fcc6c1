"""Task events, which Flower shows: sent together, and none is missing."""

import asyncio
import signal
from collections import Counter

import pytest
from kombu import Connection, Exchange, Queue

from tests.integration.support import eventually, started

pytestmark = pytest.mark.integration

TASKS = 40


@pytest.fixture
def messages(broker_url):
    """What comes for those who watch tasks: a function that gives all messages, each a list of events."""
    queue = Queue("", Exchange("celeryev", type="topic"), routing_key="task.#", exclusive=True)
    with Connection(broker_url) as connection, connection.channel() as channel:
        bound = queue(channel)
        bound.declare()
        found = []

        def so_far():
            while message := bound.get(no_ack=True):
                events = message.decode()
                found.append(events if isinstance(events, list) else [events])
            return found

        yield so_far


def kinds(messages):
    return Counter(event["type"] for events in messages for event in events)


@pytest.mark.parametrize("kind", ["prefork", "threads"])
async def test_the_events_of_short_tasks_come_in_few_messages(start, link, messages, kind):
    start(CELERYKIT_WORKER_POOL_TYPE=kind)
    await asyncio.gather(*(link.call("task.echo", [number], wait=30) for number in range(TASKS)))
    eventually(lambda: kinds(messages())["task-succeeded"] == TASKS)
    assert kinds(messages()) == dict.fromkeys(("task-received", "task-started", "task-succeeded"), TASKS)
    assert len(messages()) < TASKS


@pytest.mark.parametrize("kind", ["prefork", "threads"])
async def test_a_worker_that_is_told_to_stop_tells_of_its_last_task(start, link, ledger, messages, kind):
    worker = start(CELERYKIT_WORKER_POOL_TYPE=kind)
    await started(link, ledger, "task.sleep", [2])
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(30) == 0
    assert kinds(messages())["task-succeeded"] == 1
