"""One list of tasks, done by each kind of pool, whose worker can be asked, drained and ended alike."""

import asyncio
import signal

import psutil
import pytest

from tests.integration.support import TOKEN, eventually, started

pytestmark = pytest.mark.integration

POOLS = ["prefork", "threads", "gevent"]
TASKS = """
@app.task(bind=True, name="own.second_try", max_retries=1, default_retry_delay=0)
def second_try(self):
    if not self.request.retries:
        raise self.retry()
    return self.request.retries
"""


@pytest.fixture(params=POOLS)
def pool(request):
    return {"CELERYKIT_WORKER_POOL_TYPE": request.param, "CELERYKIT_WORKER_CONCURRENCY": "4"}


async def test_every_kind_of_pool_does_the_same_tasks(start, link, pool, queue):
    worker = start(TASKS, **pool)
    echo, users, failed, again = await asyncio.gather(
        link.call("task.echo", [{"a": [1, "ä"]}], wait=30),
        link.call("task.query_users", [2], wait=30),
        link.call("task.fail", ["no"], wait=30),
        link.call("own.second_try", wait=30),
    )
    assert echo.result == {"a": [1, "ä"]}
    assert [row["name"] for row in users.result] == ["Margaret", "Radia"]
    assert (failed.state, failed.result["exc_message"]) == ("FAILURE", ["no"])
    assert again.result == 1
    success = f'worker_task_finished_total{{outcome="success",queue="{queue}",task="task.echo"}}'
    eventually(lambda: worker.metric(success) == 1)
    assert worker.metric(f'worker_slots{{queue="{queue}"}}') == 4
    assert worker.metric('worker_replies_total{outcome="pushed"}') >= 4
    assert worker.http("GET", "/livez") == (200, {"alive": True})


async def test_every_kind_of_pool_runs_as_many_tasks_at_once_as_it_has_slots(start, link, ledger, pool):
    start(**pool)
    outcomes = await asyncio.gather(*(link.call("task.sleep", [2], wait=30) for _ in range(4)))
    runs = [ledger(outcome.task_id)[0] for outcome in outcomes]
    assert max(began for _, _, began, _ in runs) < min(ended for *_, ended in runs)


async def test_every_kind_of_pool_drains_and_resumes(start, link, ledger, pool):
    worker = start(**pool)
    running = await started(link, ledger, "task.sleep", [3])
    status, report = worker.http("POST", "/drain", TOKEN)
    assert (status, report["draining"], report["active"]) == (200, True, 1)
    waiting = await link.send("task.echo", [1])
    assert (await link.wait(running, 30)).state == "SUCCESS"
    eventually(lambda: worker.http("GET", "/readyz")[1]["reserved"] == 0, what="the worker is empty")
    assert worker.http("GET", "/readyz")[0] == 503
    assert worker.http("GET", "/livez")[0] == 200
    assert ledger(waiting) == ()
    assert worker.http("POST", "/undrain", TOKEN)[0] == 200
    assert (await link.wait(waiting, 30)).state == "SUCCESS"


async def test_every_kind_of_pool_ends_its_task_when_told_to_stop(start, link, ledger, pool, broker, queue):
    worker = start(**pool)
    task_id = await started(link, ledger, "task.sleep", [2])
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(30) == 0
    ((*_, ended),) = ledger(task_id)
    assert ended is not None
    assert eventually(lambda: broker(queue).get("messages") == 0, what="its message acknowledged")


@pytest.mark.parametrize("kind", ["prefork", "gevent"])
async def test_a_task_beyond_its_limit_is_a_failure_where_the_pool_can_stop_it(start, link, kind):
    worker = start(CELERYKIT_WORKER_POOL_TYPE=kind)
    outcome = await link.call("task.sleep", [60], wait=30, time_limit=1)
    assert (outcome.state, outcome.result["exc_type"]) == ("FAILURE", "TimeLimitExceeded")
    assert worker.http("GET", "/readyz")[0] == 200


@pytest.mark.parametrize("kind", POOLS)
async def test_many_tasks_share_a_few_connections(start, link, kind):
    worker = start(CELERYKIT_WORKER_POOL_TYPE=kind, CELERYKIT_WORKER_CONCURRENCY="4")
    for _ in range(10):
        outcomes = await asyncio.gather(*(link.call("task.echo", [1], wait=30) for _ in range(20)))
        assert all(outcome.state == "SUCCESS" for outcome in outcomes)
    process = psutil.Process(worker.process.pid)
    family = [process, *process.children(recursive=True)]
    remote = [c for member in family for c in member.net_connections() if c.status == psutil.CONN_ESTABLISHED]
    # of each slot: results, replies, the ledger, and with prefork what it inherited; and the worker's own
    assert 0 < len({c.laddr for c in remote}) <= 4 * 3 + 6
