"""The counters of the ledger, each made non-zero by what real workers did."""

import os
import signal
from uuid import uuid4

import pytest

from local import ledger as oracle
from local.http import request
from tests.integration.support import eventually, started

pytestmark = pytest.mark.integration


@pytest.fixture
def count(database_url):
    """Judge tasks by the ledger; `stopped` are the workers that were stopped."""
    return lambda ids, stopped=(): oracle.count(ids, oracle.read_rows(database_url, ids), (), stopped)


async def test_a_task_that_ended_is_done(start_worker, link, count):
    start_worker()
    outcome = await link.call("task.echo", [1], wait=20)
    assert count([outcome.task_id]) == oracle.Counts(done=1, lost=0, run_twice=0, interrupted=0)


async def test_a_task_whose_message_is_thrown_away_is_lost(start_worker, link, count, stores, vhost):
    start_worker().end()
    task_id = await link.send("task.echo", [1])
    rabbitmq = stores.rabbitmq
    url = f"{rabbitmq.management}/api/queues/{vhost}/default/contents"
    assert request("DELETE", url, login=rabbitmq.login)[0] == 204
    assert count([task_id]).lost == 1


async def test_a_task_that_came_to_its_end_twice_is_run_twice(start_worker, link, count):
    start_worker()
    task_id = str(uuid4())
    for _ in range(2):
        await link.send("task.echo", [1], task_id=task_id)
    eventually(lambda: count([task_id]).run_twice == 1, what="the second end")


async def test_a_task_cut_short_by_our_stop_is_interrupted(start_worker, link, ledger, count):
    worker = start_worker()
    task_id = await started(link, ledger, "task.sleep", [30])
    ((_, name, _, _),) = ledger(task_id)
    worker.process.send_signal(signal.SIGTERM)
    os.killpg(worker.process.pid, signal.SIGKILL)  # with no grace at all
    worker.process.wait()
    assert count([task_id], stopped={name.partition("@")[0]}).interrupted == 1
    assert count([task_id]).interrupted == 0, "a worker that died by itself is no stop of ours"
