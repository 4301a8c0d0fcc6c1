"""What Prometheus remembers of real queues and workers: as many tasks are rebuilt as were sent."""

import asyncio
import json
import math
import time
from collections.abc import Iterator

import msgspec
import pytest

from autoscaler.__main__ import main
from autoscaler.config import Autoscale, Pool
from autoscaler.history import History
from autoscaler.past import Past, looks
from autoscaler.policies import RECALLS
from local.process import write_atomically
from tests.integration.support import linked

pytestmark = [pytest.mark.integration, pytest.mark.own_stores, pytest.mark.timeout(240)]

NAP = 0.2  # seconds of a task
SLOTS = 2
BURSTS = (60, 25)
FEW = 3  # that may be rebuilt more or less, as queues and workers are read at different moments
NAME = "remembered"


@pytest.fixture
def counted(run, start_worker) -> Iterator[None]:
    """A worker that Prometheus reads."""
    targets = run.folder("workers") / "targets.json"
    worker = start_worker(CELERYKIT_POOL=NAME, CELERYKIT_WORKER_CONCURRENCY=str(SLOTS))
    found = [{"targets": [f"127.0.0.1:{worker.port}"], "labels": {"pool": NAME}}]
    write_atomically(targets, msgspec.json.encode(found))
    yield
    write_atomically(targets, b"[]")


async def test_as_many_tasks_are_rebuilt_as_were_sent_and_take_as_long(
    prometheus, vhost, settings, counted, capsys
):
    pool = Pool(queues=("default",), vhost=vhost)
    history = History(prometheus.url, 5)

    async def until(quiet: int, ended: int) -> Past:
        """Await that nothing is there for so many moments, after so many ends."""
        deadline = time.monotonic() + 90
        while True:
            pasts = await history.recent({NAME: pool})
            past = pasts.get((vhost, "default"))
            if (
                past
                and past.ended[-1] == ended
                and not any(past.ready[-quiet:] + past.unacknowledged[-quiet:])
            ):
                return past
            assert time.monotonic() < deadline, past
            await asyncio.sleep(1)

    await until(1, 0)
    async with linked(settings, queues={"task.sleep": "default"}) as link:
        sent = 0
        for burst in BURSTS:
            for task_id in [await link.send("task.sleep", [NAP]) for _ in range(burst)]:
                assert (await link.wait(task_id, 60)).state == "SUCCESS"
            sent += burst
            past = await until(4, sent)
    memory = RECALLS["slo"](looks(pool, {(vhost, "default"): past}, 1000.0), Autoscale())
    history.close()
    line = memory.lines["default"]
    assert line.curve[-1][1] > sent - FEW
    assert (line.waiting, math.isnan(line.told)) == (0, True)
    assert line.service < 2, "it was taken to be 5"

    options = ["--prometheus", prometheus.url, "--queue", "default", "--vhost", vhost, "--hours", "0.1"]
    options += ["--slo", "10", "--concurrency", str(SLOTS), "--boot", "5", "--json"]
    await asyncio.to_thread(main, ["recommend", *options])
    said = json.loads(capsys.readouterr().out)
    assert said["tasks"] == pytest.approx(sent, abs=FEW)
    assert said["service_seconds"] == pytest.approx(NAP, abs=0.15)
    assert "tell what ended" in said["load"][0]
