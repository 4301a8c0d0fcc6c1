"""Several queues: pools that do not wait for each other, tasks that send tasks, queues that are others."""

import os
import signal
import subprocess
import sys

import pytest
from kombu import Connection

from tests.integration.support import SERVICES, TOKEN, echoed, eventually, linked

pytestmark = pytest.mark.integration

CALM_SECONDS = 5  # of one call, also on a slow machine; behind the flood it would be 200

PARENT = """
app.conf.task_routes = {{"own.routed": {{"queue": "{other}"}}}}

@app.task(name="own.parent")
def parent(how):
    if how == "option":
        app.send_task("own.child", queue="{other}", task_id="child-of-option")
    else:
        app.send_task("own.routed", task_id="child-of-routes")
"""
CHILD = """
@app.task(name="own.child")
@app.task(name="own.routed")
def child():
    return "{queue}"
"""


async def test_a_flood_on_one_queue_does_not_delay_another_pool(start, settings, ledger, queue):
    other = f"{queue}-slow"
    one_slot = {"CELERYKIT_WORKER_CONCURRENCY": "1"}
    start(CELERYKIT_POOL="fast", **one_slot)
    start(CELERYKIT_POOL="slow", CELERYKIT_QUEUES=other, **one_slot)
    async with linked(settings, queues={"task.echo": queue, "task.sleep": other}) as link:
        flood = [await link.send("task.sleep", [2]) for _ in range(100)]
        eventually(lambda: ledger(flood[0]))
        assert max(await echoed(link)) < CALM_SECONDS
        begun = sum(bool(ledger(task_id)) for task_id in flood)
        assert begun < len(flood) / 2, "most of the flood is still to come when the other pool is done"


@pytest.mark.parametrize("how", ["option", "routes"])
async def test_a_task_sends_another_to_a_queue_of_another_pool(start, link, settings, queue, how, broker):
    other = f"{queue}-other"
    start(PARENT.format(other=other), CELERYKIT_DELIVERY_LIMIT="5")
    assert (await link.call("own.parent", [how], wait=30)).state == "SUCCESS"
    # made by who sent first, and what the workers of that queue expect
    eventually(lambda: (broker(other) or {}).get("messages_ready") == 1)
    start(CHILD.format(queue=other), CELERYKIT_QUEUES=other, CELERYKIT_DELIVERY_LIMIT="5")
    assert (await link.wait(f"child-of-{how}", 30)).result == other


def test_a_worker_started_by_hand_answers_for_the_queues_and_slots_it_was_given(start, queue, monkeypatch):
    options = ["-Q", queue, "-P", "threads", "--concurrency", "3"]
    command = [sys.executable, "-m", "celery", "-A", "worker", "worker", *options]
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **rest: popen(command, **rest))
    worker = start(CELERYKIT_QUEUES="another")
    assert worker.http("GET", "/readyz")[1]["slots"] == 3
    assert worker.metric(f'worker_slots{{queue="{queue}"}}') == 3
    assert worker.http("POST", "/drain", TOKEN)[0] == 200
    assert worker.http("GET", "/readyz")[0] == 503
    assert worker.http("POST", "/undrain", TOKEN)[0] == 200
    assert worker.http("GET", "/readyz")[0] == 200
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(30) == 0


def other_queue(channel, name):
    """A queue as plain Celery makes it."""
    channel.exchange_declare(name, "direct", durable=True, auto_delete=False)
    channel.queue_declare(name, durable=True, auto_delete=False)


def other_exchange(channel, name):
    channel.exchange_declare(name, "direct", durable=True, auto_delete=False)


def other_dead_letters(channel, name):
    channel.queue_declare(f"{name}.dlq", durable=True, auto_delete=False)


@pytest.mark.parametrize("made", [other_queue, other_exchange, other_dead_letters])
@pytest.mark.parametrize("kind", ["prefork", "gevent"])
def test_a_queue_that_is_another_one_ends_the_worker_with_one_message(
    broker_url, database_url, queue, made, kind
):
    with Connection(broker_url) as connection:
        made(connection.default_channel, queue)
    done = subprocess.run(
        [sys.executable, "-m", "worker"],
        env=os.environ
        | {
            "CELERYKIT_BROKER_URL": broker_url,
            "CELERYKIT_DATABASE_URL": database_url,
            "CELERYKIT_QUEUES": queue,
            "CELERYKIT_WORKER_PORT": "0",
            "CELERYKIT_WORKER_POOL_TYPE": kind,
            "PYTHONPATH": str(SERVICES),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "CRITICAL" in line]
    assert queue in line
    assert "delete it" in line
    assert "Traceback" not in done.stderr
