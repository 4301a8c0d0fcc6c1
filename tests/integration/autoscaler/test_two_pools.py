"""The autoscaler over two pools, on real queues, Prometheus and workers: a flood is one pool's own."""

import asyncio

import pytest

from tests.integration.autoscaler.real import Autoscaler
from tests.integration.support import echoed, eventually, linked

pytestmark = [pytest.mark.integration, pytest.mark.own_stores, pytest.mark.timeout(240)]

FLOOD = 100  # tasks of half a second
CALM_SECONDS = 5  # of one call, also on a slow machine; behind the flood it would be 17 at the least


@pytest.fixture
def explain(run, prometheus, vhost, broker_url, database_url):
    """What the autoscaler tells of its pools; it has begun with one worker of one slot for each."""
    scale = {
        "policy": "threshold",
        "targetBacklogPerWorker": 5,
        "maxWorkers": 3,
        "downWindowSeconds": 3,
        "cooldownSeconds": 1,
    }
    pools = {
        name: {"queues": [name], "vhost": vhost, "concurrency": 1, "autoscale": scale}
        for name in ("flooded", "calm")
    }
    autoscaler = Autoscaler(run, prometheus.url, broker_url, database_url, "two-pools", pools)
    autoscaler.start()
    try:
        eventually(
            lambda: [pool["ready"] for pool in autoscaler.pools().values()] == [1, 1], 60, "a worker of each"
        )
        yield autoscaler.pools
    finally:
        autoscaler.close()


async def test_a_flood_makes_its_own_pool_grow_and_neither_grows_nor_delays_the_other(
    explain, settings, ledger
):
    async with linked(settings, queues={"task.sleep": "flooded", "task.echo": "calm"}) as link:
        flood = [await link.send("task.sleep", [0.5]) for _ in range(FLOOD)]
        assert max(await echoed(link)) < CALM_SECONDS
        assert not ledger(flood[-1]), "most of the flood is still to come when the calm pool is done"
        await asyncio.to_thread(
            eventually, lambda: explain()["flooded"]["ready"] == 3, 60, "as many workers as the pool may have"
        )
        for task_id in flood:
            assert (await link.wait(task_id, 60)).state == "SUCCESS"
    eventually(lambda: explain()["flooded"]["current"] == 1, 60, "one worker, when the flood is over")
    assert {decision["to"] for decision in explain()["calm"]["decisions"]} == {1}
    assert {len(ledger(task_id)) for task_id in flood} == {1}
