"""Children that are replaced and workers that are told to go soon: no task is lost."""

import asyncio
import signal

import pytest

from tests.integration.support import eventually, started

pytestmark = pytest.mark.integration

HOARD = """
hoard = []
@app.task(name="own.hoard")
def hoarding(mib):
    hoard.append(b"x" * mib * 2**20)
    return os.getpid()
"""
SLOW_ONCE = """
@app.task(bind=True, name="own.slow_once")
def slow_once(self):
    if not self.request.delivery_info["redelivered"]:
        time.sleep(300)
    return "again"
"""
EXITS = 'worker_child_exits_total{reason="%s"}'


async def test_a_child_is_replaced_after_so_many_tasks_and_none_is_lost_or_run_twice(start, link, ledger):
    worker = start(CELERYKIT_WORKER_MAX_TASKS_PER_CHILD="3")
    outcomes = await asyncio.gather(*(link.call("task.echo", [n], wait=60) for n in range(30)))
    assert [outcome.result for outcome in outcomes] == list(range(30))
    assert [len(ledger(outcome.task_id)) for outcome in outcomes] == [1] * 30
    # two children at work, of at most two tasks each, are all that is not counted yet
    assert eventually(lambda: worker.metric(EXITS % "recycled") >= 8)
    assert worker.http("GET", "/readyz")[1]["slots"] == 2


async def test_a_child_that_has_grown_too_big_is_replaced_after_its_task(start, link):
    worker = start(
        HOARD, CELERYKIT_WORKER_CONCURRENCY="1", CELERYKIT_WORKER_MAX_MEMORY_PER_CHILD_KIB="200000"
    )
    small = [(await link.call("own.hoard", [1], wait=30)).result for _ in range(3)]
    big = [(await link.call("own.hoard", [200], wait=30)).result for _ in range(3)]
    assert len(set(small)) == 1
    assert len(set(big)) == 3
    assert eventually(lambda: worker.metric(EXITS % "recycled") == 3)


async def test_a_child_that_is_killed_is_counted_with_its_signal(start, link):
    worker = start(
        "@app.task(name='own.die', acks_late=False)\ndef die():\n    os.kill(os.getpid(), 9)\n",
        CELERYKIT_WORKER_CONCURRENCY="1",
    )
    assert (await link.call("own.die", wait=30)).result["exc_type"] == "WorkerLostError"
    assert eventually(lambda: worker.metric(EXITS % "signal9") == 1)


async def test_a_soft_shutdown_ends_what_it_can_and_gives_the_rest_back(start, link, ledger, queue, broker):
    worker = start(SLOW_ONCE, CELERYKIT_SOFT_SHUTDOWN_SECONDS="4")
    slow = await link.send("own.slow_once")
    eventually(lambda: worker.http("GET", "/readyz")[1]["active"] == 1)
    short = await started(link, ledger, "task.sleep", [1])
    worker.process.send_signal(signal.SIGQUIT)
    worker.process.wait(30)
    ((*_, ended),) = ledger(short)
    assert ended is not None
    eventually(lambda: broker(queue).get("messages_ready") == 1, what="one task is back in its queue")
    start(SLOW_ONCE)
    assert (await link.wait(slow, 30)).result == "again"
    assert len(ledger(short)) == 1


@pytest.mark.parametrize("kind", ["prefork", "gevent"])
async def test_without_a_soft_shutdown_sigquit_gives_running_tasks_back_at_once(
    start, link, broker, queue, kind
):
    worker = start(SLOW_ONCE, CELERYKIT_WORKER_POOL_TYPE=kind)
    slow = await link.send("own.slow_once")
    eventually(lambda: worker.http("GET", "/readyz")[1]["active"] == 1)
    worker.process.send_signal(signal.SIGQUIT)
    worker.process.wait(20)
    eventually(lambda: broker(queue).get("messages_ready") == 1)
    start(SLOW_ONCE)
    assert (await link.wait(slow, 30)).result == "again"
