"""The autoscaler's loop over the pools of a file, for as many ticks as `tests.bench.many_pools` tells of.

`python -m tests.bench.ticking FILE` prints what that took as one JSON object. It loads nothing but what the
program does, so that its memory is the program's.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import REGISTRY
from tornado.httpserver import HTTPServer

# all that the program has loaded on a cluster
import autoscaler.__main__
import autoscaler.actuators.kubernetes  # noqa: F401
from autoscaler.history import History
from autoscaler.loop import ConfigFile, Loop
from autoscaler.model import Decision, Fleet, Worker
from autoscaler.prometheus import Prometheus
from autoscaler.server import application
from tests.bench.many_pools import DENSE, HOST, MOMENTS, WORKERS


class Actuator:
    """Workers that are there and do nothing."""

    leading, leader = True, ""

    def __init__(self, pools: int) -> None:
        self._fleets = {
            f"pool-{n}": Fleet(
                tuple(Worker(f"pool-{n}-{i}", started=i, ready=True, slots=2) for i in range(WORKERS))
            )
            for n in range(pools)
        }

    async def run(self) -> None:
        """Nothing goes on between ticks."""

    async def fleets(self) -> Mapping[str, Fleet]:
        """All workers."""
        return self._fleets

    async def act(self, name: str, pool: object, decision: Decision) -> None:
        """Nothing is done."""

    def tell(self, name: str, decision: Decision, problem: str | None) -> None:
        """Nobody listens."""

    def close(self) -> None:
        """There is nothing to let go of."""


class Clock:
    """The time of the day that is played, in unix seconds."""

    now = MOMENTS[0]

    def __call__(self) -> float:
        return self.now


async def ticks(path: Path) -> dict[str, float]:
    """Tick over all pools of the file."""
    file, clock = ConfigFile(path), Clock()
    prometheus, history = (kind(file.current.prometheus_url, 30) for kind in (Prometheus, History))
    actuator = Actuator(len(file.current.worker.pools))
    loop = Loop(file, prometheus, actuator, REGISTRY, clock, history)
    HTTPServer(application(loop)).listen(file.current.port, HOST)
    took, worked = [], []
    time.time = clock
    for moment in MOMENTS:
        clock.now = moment
        wall, cpu = time.perf_counter(), time.process_time()
        await loop.tick()
        took.append(time.perf_counter() - wall)
        worked.append(time.process_time() - cpu)
        await asyncio.sleep(0)
    tick = next(iter(loop.latest.values()))
    assert tick.estimate.observation.sources == {"broker"}, tick
    memory = _memory()
    return {
        "seconds_per_tick": round(_median(took[DENSE:]), 3),
        "cpu_seconds_per_tick": round(_median(worked[DENSE:]), 3),
        "rss_mib": round(memory["VmRSS"], 1),
        "peak_rss_mib": round(memory["VmHWM"], 1),
    }


def _median(numbers: list[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]  # the module `statistics` would be half a MiB of ours


def _memory() -> dict[str, float]:
    """What the kernel counts, in MiB: unlike that of getrusage its peak has nothing of who started us."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) / 1024 for words in lines if words[-1] == "kB"}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(ticks(Path(sys.argv[1])))) + "\n")
