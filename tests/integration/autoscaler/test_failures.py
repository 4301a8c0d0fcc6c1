"""What becomes of a load when Prometheus, the autoscaler or the broker goes: real ones, and real workers."""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.autoscaler.real import Autoscaler
from tests.integration.support import eventually, linked

pytestmark = [pytest.mark.integration, pytest.mark.own_stores, pytest.mark.timeout(240)]

WINDOW = 8.0  # seconds that are watched before a worker goes


@pytest.fixture
def scaling(run, prometheus, vhost, broker_url, database_url):
    """Start an autoscaler of pools with this scaling, and await their least workers, of one slot each."""
    made: list[Autoscaler] = []

    def start(**pools: dict[str, Any]) -> Autoscaler:
        policies = {
            name: {
                "queues": [f"{name}-{uuid.uuid4().hex[:8]}"],  # nothing of another test waits there
                "vhost": vhost,
                "concurrency": 1,
                "autoscale": {"maxWorkers": 6, "downWindowSeconds": WINDOW, "cooldownSeconds": 1} | scale,
            }
            for name, scale in pools.items()
        }
        autoscaler = Autoscaler(run, prometheus.url, broker_url, database_url, "failures", policies)
        made.append(autoscaler)
        autoscaler.start()
        least = [pool["autoscale"].get("minWorkers", 1) for pool in policies.values()]
        eventually(
            lambda: (
                [(pool["ready"], pool["inputProblem"]) for pool in autoscaler.pools().values()]
                == [(number, None) for number in least]
            ),
            60,
            "the least workers, and fresh numbers of their queues",
        )
        return autoscaler

    yield start
    for autoscaler in made:
        autoscaler.close()


async def awaited(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Await a condition while the link goes on."""
    await asyncio.to_thread(eventually, condition, seconds, what)


def queue(autoscaler: Autoscaler, pool: str) -> str:
    name: str = autoscaler.pools()[pool]["inputs"][0]["queue"]
    return name


def reasons(autoscaler: Autoscaler, pool: str) -> set[str]:
    told = autoscaler.pools().get(pool, {"decisions": []})  # none before its first tick
    return {decision["reason"] for decision in told["decisions"]}


@pytest.mark.behaviour("F3")
async def test_without_prometheus_nobody_goes_and_more_come_once_all_are_busy(
    scaling, stores, settings, ledger
):
    autoscaler = scaling(promise={"policy": "slo"}, backlog={"policy": "threshold"})
    before, tasks_go_to = autoscaler.living(), queue(autoscaler, "promise")
    stores.prometheus.stop()
    try:
        async with linked(settings, queues={"task.sleep": tasks_go_to}) as link:
            tasks = [await link.send("task.sleep", [28]) for _ in range(2)]
            await awaited(
                lambda: "FallbackReplicas" in reasons(autoscaler, "promise"), 40, "more, as all are busy"
            )
            await awaited(lambda: all(map(ledger, tasks)), 20, "the new one works")
            calm = autoscaler.pools()["backlog"]
            assert (calm["wanted"], calm["last"]["reason"]) == (1, "QueryError")
            assert before < autoscaler.living()
    finally:
        stores.prometheus.start()
    await awaited(
        lambda: {pool["inputProblem"] for pool in autoscaler.pools().values()} == {None}, 30, "it goes on"
    )


@pytest.mark.behaviour("F9")
async def test_workers_live_on_without_the_autoscaler_and_none_goes_before_the_next_has_watched(
    scaling, settings
):
    autoscaler = scaling(promise={"policy": "slo", "sloSeconds": 5})
    async with linked(settings, queues={"task.sleep": queue(autoscaler, "promise")}) as link:
        tasks = [await link.send("task.sleep", [6]) for _ in range(4)]
        await awaited(lambda: autoscaler.pools()["promise"]["ready"] >= 3, 40, "more workers")
        before = autoscaler.living()
        autoscaler.kill()
        for task_id in tasks:
            assert (await link.wait(task_id, 30)).state == "SUCCESS"
        assert autoscaler.living() == before
        began = time.monotonic()
        autoscaler.start()
        await awaited(lambda: "RestartHold" in reasons(autoscaler, "promise"), 20, "it watches")
        assert {worker["name"] for worker in autoscaler.pools()["promise"]["workers"]} == before
        await awaited(lambda: autoscaler.pools()["promise"]["wanted"] < len(before), 40, "fewer")
        assert time.monotonic() - began >= WINDOW


@pytest.mark.behaviour("F15")
async def test_a_broker_that_restarts_under_load_brings_no_more_workers(scaling, stores, settings, ledger):
    scale = {"minWorkers": 2, "sloSeconds": 120, "expectedTaskSeconds": 12}
    autoscaler = scaling(
        promise=scale | {"policy": "slo"}, backlog=scale | {"policy": "threshold", "upThreshold": 2}
    )
    tasks = []
    for pool in autoscaler.pools():
        async with linked(settings, queues={"task.sleep": queue(autoscaler, pool)}) as link:
            tasks += [await link.send("task.sleep", [12]) for _ in range(4)]
    await awaited(
        lambda: all(
            {one["signal"]: one["value"] for one in pool["inputs"]} == {"ready": 2, "unacknowledged": 2}
            for pool in autoscaler.pools().values()
        ),
        20,
        "half of it is at work",
    )
    stores.rabbitmq.stop()
    stores.rabbitmq.start()

    def done() -> bool:
        assert [pool["wanted"] for pool in autoscaler.pools().values()] == [2, 2]
        return all(any(row[-1] for row in ledger(task)) for task in tasks)

    await awaited(done, 90, "every task has ended")
