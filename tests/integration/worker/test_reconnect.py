"""Workers whose connection to the broker breaks while they work, or who die after it: nothing runs twice."""

import asyncio

import pytest

from tests.integration.proxy import Proxy
from tests.integration.support import eventually

pytestmark = pytest.mark.integration

SLOTS = 4
# writes its result as a worker does, and dies before it can reply or acknowledge
ONCE = """
from worker.ledger import recorded

@app.task(name="own.once", bind=True)
@recorded
def once(self):
    self.backend.store_result(self.request.id, "once", "SUCCESS")
    os.killpg(os.getpgrp(), 9)
"""


async def test_a_task_delivered_again_after_its_success_does_not_run_and_its_caller_is_answered(
    start, link, ledger, queue
):
    first = start(ONCE)
    call = asyncio.create_task(link.call("own.once", wait=60))
    await asyncio.to_thread(first.process.wait, 30)
    second = await asyncio.to_thread(start, ONCE)
    outcome = await call
    assert (outcome.state, outcome.result) == ("SUCCESS", "once")
    again = f'worker_task_received_total{{queue="{queue}",redelivered="true",task="own.once"}}'
    eventually(lambda: second.metric(again) == 1, what="the second delivery")
    eventually(lambda: second.http("GET", "/readyz")[1]["reserved"] == 0, what="its acknowledgement")
    assert len(ledger(outcome.task_id)) == 1


@pytest.mark.own_stores
@pytest.mark.parametrize("kind", ["prefork", "threads", "gevent"])
async def test_all_slots_are_used_again_after_the_connection_broke(
    start, link, ledger, run, broker_url, kind
):
    with Proxy(run.ports.amqp) as proxy:
        worker = start(
            CELERYKIT_BROKER_URL=broker_url.replace(f":{run.ports.amqp}/", f":{proxy.port}/"),
            CELERYKIT_WORKER_CONCURRENCY=str(SLOTS),
            CELERYKIT_WORKER_POOL_TYPE=kind,
        )
        running = [await link.send("task.sleep", [3]) for _ in range(SLOTS)]
        eventually(lambda: all(map(ledger, running)), what="all slots busy")
        assert proxy.reset() > 0
        eventually(lambda: worker.metric("worker_broker_reconnects_total") == 1, what="a new connection")
        for task_id in running:
            assert (await link.wait(task_id, 60)).state == "SUCCESS"
        eventually(lambda: worker.http("GET", "/readyz")[1]["reserved"] == 0, what="the worker is empty")

        outcomes = await asyncio.gather(*(link.call("task.sleep", [2], wait=60) for _ in range(SLOTS)))
        runs = [ledger(outcome.task_id)[0] for outcome in outcomes]
        assert max(began for _, _, began, _ in runs) < min(ended for *_, ended in runs)
