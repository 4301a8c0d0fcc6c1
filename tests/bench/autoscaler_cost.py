"""What the autoscaler costs: a tick over a thousand pools, and a day of rest with one.

Prints one JSON object and writes it to build/bench/autoscaler_cost.json. Of the thousand pools, with their
queues on a cluster of three nodes and three workers each, all played: `cpu_seconds_per_tick` and
`seconds_per_tick` (medians; the second on a busy machine is much more), `answer_mib` (of Prometheus, for one
tick), `rss_mib` at the end and `peak_rss_mib`. Of the program with one pool, which ticks every five seconds
and has nothing to do: `idle_cpu_share` (of one core) and `idle_rss_mib`.

Fails if a tick takes more than a second of CPU, or the program at rest more than 64 MiB or a hundredth of a
core.
"""

import asyncio
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec
import psutil
from prometheus_client import CollectorRegistry

from autoscaler.loop import ConfigFile, Loop
from autoscaler.model import Decision, Fleet, Worker
from autoscaler.prometheus import Prometheus
from local.run import ROOT
from tests.unit.autoscaler.fake_prometheus import FakePrometheus, serving, vector

POOLS, WORKERS, NODES = 1000, 3, 3
SCRAPES = 6  # in a range of 30 s
TICKS = 10
REST_SECONDS = 60
MIB = 2**20
MOST_TICK_SECONDS, MOST_REST_MIB, MOST_REST_SHARE = 1.0, 64, 0.01


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


def messages(pools: int, now: float) -> bytes:
    """What Prometheus answers of the broker, with the labels that a cluster adds."""

    def told(name: str, queue: str, node: int, **labels: str) -> dict[str, Any]:
        labels |= {
            "__name__": f"rabbitmq_detailed_queue_{name}",
            "vhost": "/",
            "queue": queue,
            "job": "kit-rabbitmq",
            "namespace": "team",
            "service": "kit-rabbitmq-headless",
            "pod": f"kit-rabbitmq-{node}",
            "container": "rabbitmq",
            "endpoint": "metrics",
            "instance": f"10.0.0.{node}:15692",
        }
        return {"metric": labels, "values": [[now - 5 * age, "20"] for age in range(SCRAPES)]}

    result = []
    for number in range(pools):
        queue = f"queue-{number}"
        result += [told(name, queue, number % NODES) for name in ("messages_ready", "messages_unacked")]
        for node in range(NODES):
            result.append(told("messages_acked_total", queue, node))
            result.append(told("exchange_messages_published_total", queue, node, exchange=queue))
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


def counts(pools: int) -> bytes:
    """What Prometheus answers of the workers."""
    numbers: list[tuple[dict[str, str], float]] = []
    for pool in range(pools):
        for worker in range(WORKERS):
            labels = {"pool": f"pool-{pool}", "instance": f"10.{worker}.{pool // 256}.{pool % 256}:8001"}
            numbers.append((labels | {"what": "started"}, 1_700_000_000.25))
            numbers += [
                (labels | {"what": what, "queue": f"queue-{pool}"}, 1234.5678) for what in ("ended", "busy")
            ]
    return vector(*numbers)


def configure(path: Path, pools: int, url: str, port: int = 8002) -> None:
    """Write the autoscaler's file."""
    config = {
        "prometheusUrl": url,
        "host": "127.0.0.1",
        "port": port,
        "worker": {
            "pools": {
                f"pool-{n}": {"queues": [f"queue-{n}"], "autoscale": {"minWorkers": 0}} for n in range(pools)
            }
        },
        "actuator": {
            "kind": "processes",
            "directory": str(path.parent / "workers"),
            "logDirectory": str(path.parent / "log"),
            "command": ["true"],
            "ports": {"from": 1, "to": 65535},
        },
    }
    path.write_bytes(msgspec.yaml.encode(config))


async def ticks(path: Path) -> dict[str, float]:
    """In a process of its own: tick over all pools of the file."""
    file = ConfigFile(path)
    prometheus = Prometheus(file.current.prometheus_url, 30)
    loop = Loop(file, prometheus, Actuator(len(file.current.worker.pools)), CollectorRegistry())
    took, worked = [], []
    for _ in range(TICKS):
        wall, cpu = time.perf_counter(), time.process_time()
        await loop.tick()
        took.append(time.perf_counter() - wall)
        worked.append(time.process_time() - cpu)
    tick = next(iter(loop.latest.values()))
    assert tick.estimate.observation.sources == {"broker"}, tick
    prometheus.close()
    return {
        "seconds_per_tick": round(statistics.median(took), 3),
        "cpu_seconds_per_tick": round(statistics.median(worked), 3),
        "rss_mib": round(psutil.Process().memory_info().rss / MIB, 1),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


async def many(fake: FakePrometheus, path: Path) -> dict[str, float]:
    """Play Prometheus for a process that ticks."""
    now = time.time()
    fake.date, fake.body, fake.workers = formatdate(now, usegmt=True), messages(POOLS, now), counts(POOLS)
    configure(path, POOLS, fake.url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.autoscaler_cost", str(path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return {"answer_mib": round((len(fake.body) + len(fake.workers)) / MIB, 1)} | found


async def rest(fake: FakePrometheus, path: Path, port: int) -> dict[str, float]:
    """Play Prometheus for the program, which has nothing to do."""
    fake.date, fake.body, fake.workers = None, messages(1, time.time() + REST_SECONDS), counts(1)
    configure(path, 1, fake.url, port)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "autoscaler", "--config", str(path)),
        cwd=ROOT,
        env=os.environ | {"CELERYKIT_DRAIN_TOKEN": "token", "PYTHONPATH": str(ROOT / "services")},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        while len(fake.queries) < 4:  # noqa: ASYNC110  # it has begun, and ticked twice
            await asyncio.sleep(0.1)
        program = psutil.Process(process.pid)
        before = program.cpu_times()
        await asyncio.sleep(REST_SECONDS)
        after = program.cpu_times()
        used = after.user + after.system - before.user - before.system
        return {
            "idle_cpu_share": round(used / REST_SECONDS, 4),
            "idle_rss_mib": round(program.memory_info().rss / MIB, 1),
        }
    finally:
        process.terminate()
        await process.wait()


async def measure(folder: Path) -> dict[str, float]:
    """Measure the one after the other."""
    from local.ports import Ports

    path = folder / "autoscaler.yaml"
    async with serving() as fake:
        found = await many(fake, path)
    async with serving() as fake:
        return {"pools": POOLS} | found | await rest(fake, path, Ports.free().autoscaler)


def main() -> None:
    """Measure, print and write."""
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps(asyncio.run(ticks(Path(sys.argv[1])))) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder)))
    text = json.dumps(found, indent=2)
    sys.stdout.write(text + "\n")
    target = ROOT / "build" / "bench" / "autoscaler_cost.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n")
    if found["cpu_seconds_per_tick"] > MOST_TICK_SECONDS:
        raise SystemExit(f"a tick over {POOLS} pools takes more than {MOST_TICK_SECONDS:g} s of CPU")
    if found["idle_rss_mib"] > MOST_REST_MIB:
        raise SystemExit(f"at rest it takes more than {MOST_REST_MIB} MiB")
    if found["idle_cpu_share"] > MOST_REST_SHARE:
        raise SystemExit(f"at rest it takes more than {MOST_REST_SHARE:.0%} of a core")


if __name__ == "__main__":
    main()
