"""What went through a queue, on real RabbitMQ, Prometheus and workers: a task counts once, whoever ran it."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from autoscaler.config import Pool
from autoscaler.model import Observation
from autoscaler.prometheus import Prometheus
from local.process import write_atomically
from tests.integration.support import linked

pytestmark = [pytest.mark.integration, pytest.mark.own_stores, pytest.mark.timeout(240)]

NAP = 0.1  # seconds of a task


@pytest.fixture
def observe(prometheus, vhost):
    """Observe a pool until it is as wanted; returns the observation. Another pool has no workers."""
    client = Prometheus(prometheus.url, 5)
    pools = {
        "flows": Pool(queues=("default",), vhost=vhost),
        "other": Pool(queues=("default",), vhost="other"),
    }

    async def until(good: Callable[[Observation], bool]) -> Observation:
        deadline = time.monotonic() + 60
        while True:
            seen = await client.observe(pools)
            assert seen["other"].flows == (), "the same queue of another virtual host"
            if good(seen["flows"]):
                return seen["flows"]
            assert time.monotonic() < deadline, seen["flows"]
            await asyncio.sleep(0.5)

    yield until
    client.close()


@pytest.fixture
def counted(run, start_worker):
    """Start a worker that Prometheus reads, and end it."""
    targets = run.folder("workers") / "targets.json"

    @contextmanager
    def start() -> Iterator[None]:
        worker = start_worker(CELERYKIT_POOL="flows")
        found = [{"targets": [f"127.0.0.1:{worker.port}"], "labels": {"pool": "flows"}}]
        write_atomically(targets, msgspec.json.encode(found))
        yield
        worker.end()

    yield start
    write_atomically(targets, b"[]")


def ended(tasks: int) -> Callable[[Observation], bool]:
    """Whether so many ended by the broker and by the workers, who are not read at the same moment."""
    return lambda seen: (
        seen.backlog == 0
        and any(flow.ended >= tasks and flow.busy_seconds >= tasks * NAP for flow in seen.flows)
    )


async def test_totals_rise_by_the_tasks_that_ended_over_workers_that_come_and_go(observe, counted, settings):
    async with linked(settings, queues={"task.sleep": "default"}) as link:

        async def work(tasks: int) -> None:
            for task_id in [await link.send("task.sleep", [NAP]) for _ in range(tasks)]:
                assert (await link.wait(task_id, 60)).state == "SUCCESS"

        with counted():
            seen = await observe(lambda seen: bool(seen.flows) and seen.problem is None)
            assert seen.flows[0].ended == 0
            await work(7)
            assert (await observe(ended(7))).flows[0].ended == 7
        with counted():
            await work(5)
            seen = await observe(ended(12))
    (flow,) = seen.flows
    assert (seen.problem, flow.ended) == (None, 12)
    # RabbitMQ before 4.0 does not tell what arrived
    assert flow.arrived == 12 if flow.source == "broker" else math.isnan(flow.arrived)
    assert flow.busy_seconds < 12 * (NAP + 2)
