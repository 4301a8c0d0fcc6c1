"""The profile `fast`: more is taken than runs, and what no slot has begun with goes back in the end."""

import signal

import pytest

from celerykit.profile import FAST_PREFETCH
from tests.integration.support import TOKEN, eventually, started

pytestmark = pytest.mark.integration

FAST = {"CELERYKIT_PROFILE": "fast", "CELERYKIT_WORKER_CONCURRENCY": "1"}


@pytest.fixture(params=["prefork", "threads"])
def fast(request):
    return FAST | {"CELERYKIT_WORKER_POOL_TYPE": request.param}


async def filled(worker, link, ledger):
    """Have a worker run one task and hold others; returns the one, and those that wait for it."""
    running = await started(link, ledger, "task.sleep", [3])
    waiting = [await link.send("task.echo", [number]) for number in range(FAST_PREFETCH + 5)]
    eventually(lambda: worker.http("GET", "/readyz")[1]["reserved"] == FAST_PREFETCH)
    return running, waiting


def is_running(ledger, task_id):
    ((*_, ended),) = ledger(task_id)
    return ended is None


async def test_a_draining_worker_gives_back_what_it_has_not_begun_and_another_does_it(
    start, link, ledger, fast
):
    worker = start(**fast)
    running, waiting = await filled(worker, link, ledger)
    assert worker.http("POST", "/drain", TOKEN)[1]["reserved"] == 1
    assert is_running(ledger, running)
    start(**fast)
    for task_id in waiting:
        assert (await link.wait(task_id, 30)).state == "SUCCESS"
    runs = [ledger(task_id) for task_id in [running, *waiting]]
    assert [len(attempts) for attempts in runs] == [1] * len(runs)
    assert runs[0][0][1] not in {name for ((_, name, *_),) in runs[1:]}


async def test_a_worker_that_takes_tasks_again_does_what_it_gave_back(start, link, ledger, fast):
    worker = start(**fast)
    running, waiting = await filled(worker, link, ledger)
    worker.http("POST", "/drain", TOKEN)
    assert worker.http("POST", "/undrain", TOKEN)[0] == 200
    for task_id in (running, *waiting):
        assert (await link.wait(task_id, 30)).state == "SUCCESS"
        assert len(ledger(task_id)) == 1
    eventually(lambda: worker.http("GET", "/readyz")[1]["reserved"] == 0)


async def test_a_worker_that_is_told_to_stop_ends_its_task_and_begins_no_other(
    start, link, ledger, fast, broker, queue
):
    worker = start(**fast)
    running, waiting = await filled(worker, link, ledger)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(30) == 0
    assert not is_running(ledger, running)
    assert [ledger(task_id) for task_id in waiting] == [()] * len(waiting)
    eventually(lambda: broker(queue).get("messages_ready") == len(waiting), what="they are in the queue")


async def test_only_what_fails_is_logged(start, link):
    worker = start(**FAST)
    assert (await link.call("task.echo", [1], wait=30)).state == "SUCCESS"
    assert (await link.call("task.fail", ["no luck"], wait=30)).state == "FAILURE"
    eventually(lambda: "no luck" in worker.log.read_text())
    assert "task.echo[" not in worker.log.read_text()
