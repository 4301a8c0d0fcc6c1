"""The same load for two pools of one release on a real cluster: one keeps a promise, one follows a tuned HPA.

`make bench-cluster`: it installs the chart with the pools `slo`, which the
release's autoscaler scales, and `hpa-tuned`, whose replicas are set as an HPA with unlimited steps up and a
window of 120 s down would, by its port in autoscaler.policies.hpa from the same Prometheus; ReplicaSet and
kubelet then pick and end pods. Both get every task at the same moment. It writes build/bench/cluster.json and
docs/figures/cluster.json, of which docs/performance.md is made, and removes the release.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from subprocess import CalledProcessError
from typing import Any
from urllib.parse import quote

from autoscaler.config import Pool
from autoscaler.decide import decide
from autoscaler.model import Fleet, State, Worker
from autoscaler.prometheus import Prometheus
from autoscaler.simulator.contenders import contender
from autoscaler.simulator.loads import MINUTE, Load, load_of
from autoscaler.simulator.report import percentile
from autoscaler.simulator.setting import Setting
from celerykit.link import Link
from celerykit.settings import Settings
from local import ledger
from local.process import say
from local.run import ROOT
from tests.e2e.cluster import Cluster, Kit, cluster_tool, eventually, is_ready, passing
from tests.e2e.load import rows
from tests.e2e.watch import Watcher

REPORTS = (ROOT / "build" / "bench" / "cluster.json", ROOT / "docs" / "figures" / "cluster.json")
TASK = "task.sleep"
KEPT, TUNED = "slo", "hpa-tuned"
SETTING = Setting(slo=60, quantile=0.95, concurrency=2, boot=20, max_workers=5)
BURSTS, TASKS, SPREAD, APART = 4, 60, 10.0, 150.0  # seconds of each burst, and between two
MEAN_SECONDS = 4.0
END_SECONDS = 300  # after the last arrival, for all tasks to end
HOUR = 3600.0


def load() -> Load:
    """Four bursts of 60 tasks of 4 s, 150 s apart, over a task each five seconds."""
    random = Random("cluster")
    tasks = [
        (MINUTE / 2 + APART * number + random.uniform(0, SPREAD), random.expovariate(1 / MEAN_SECONDS))
        for number in range(BURSTS)
        for _ in range(TASKS)
    ]
    last = APART * BURSTS
    tasks += [(float(at), random.expovariate(1 / MEAN_SECONDS)) for at in range(0, int(last), 5)]
    return load_of("bursts", tasks)


def values() -> dict[str, Any]:
    """Two pools that differ in who scales them."""
    pool = {"concurrency": SETTING.concurrency, "poolType": "threads"}
    promise = {"policy": "slo", "sloSeconds": SETTING.slo, "maxWorkers": SETTING.max_workers}
    return {
        "grafana": {"enabled": False},
        "flower": {"enabled": False},
        "worker": {
            "pools": {
                "default": None,
                KEPT: {"queues": [KEPT], "autoscale": promise, **pool},
                TUNED: {"queues": [TUNED], "autoscale": {"enabled": False}, "replicas": 1, **pool},
            }
        },
    }


@dataclass
class Stay:
    """A pod's times, unix seconds."""

    created: float
    ready: float | None = None
    gone: float | None = None


@dataclass
class Pods(Watcher):
    """When the pods of both pools came, were ready and were gone."""

    pause = 1.0
    passing = Exception  # an API that does not answer now does so later
    kit: Kit
    stays: dict[str, dict[str, Stay]] = field(default_factory=lambda: {KEPT: {}, TUNED: {}})
    peaks: dict[str, int] = field(default_factory=lambda: {KEPT: 0, TUNED: 0})

    def look(self) -> None:
        """Note what has changed since the last look."""
        now = time.time()
        for pool, stays in self.stays.items():
            there = {pod["metadata"]["name"]: pod for pod in self._pods(pool)}
            self.peaks[pool] = max(self.peaks[pool], len(there))
            for name, pod in there.items():
                stay = stays.setdefault(name, Stay(now))
                if stay.ready is None and is_ready(pod):
                    stay.ready = now
            for name in stays.keys() - there.keys():
                stays[name].gone = stays[name].gone or now

    def _pods(self, pool: str) -> list[Any]:
        found: list[Any] = self.kit.get("pods", "-l", f"celery-kit/pool={pool}")["items"]
        return found

    def hours(self, pool: str, begin: float, end: float) -> float:
        """Worker-hours within these bounds, booting and ending pods too."""
        spans = ((max(begin, one.created), min(end, one.gone or end)) for one in self.stays[pool].values())
        return sum(max(0.0, until - since) for since, until in spans) / HOUR

    def boots(self, pool: str, begin: float) -> list[float]:
        """Seconds from the creation of the pods that came since then to their readiness."""
        stays = self.stays[pool].values()
        return sorted(one.ready - one.created for one in stays if one.ready and one.created > begin)


async def follow(kit: Kit, until: asyncio.Event) -> None:
    """Be the HPA of the pool `hpa-tuned`."""
    one = contender(TUNED, SETTING)
    pools = {TUNED: Pool(queues=(TUNED,), autoscale=one.scale)}
    state, memory = State(), None
    while not until.is_set():
        prometheus = Prometheus(f"http://{await asyncio.to_thread(kit.address, 'prometheus', 9090)}", 5)
        seen = (await prometheus.observe(pools))[TUNED]
        prometheus.close()
        deployment = f"deployment/kit-worker-{TUNED}"
        there = (await asyncio.to_thread(kit.get, deployment))["spec"]["replicas"]
        fleet = Fleet(tuple(Worker(f"w{n}", n, ready=True) for n in range(there)))
        now = time.monotonic()
        asked, memory = one.policy(memory, replace(seen, fleet=fleet), one.scale, now)
        decision, state = decide(state, asked, one.scale, now)
        if decision.workers != there:
            await asyncio.to_thread(kit.kubectl, "scale", deployment, f"--replicas={decision.workers}")
        try:
            await asyncio.wait_for(until.wait(), one.period)
        except TimeoutError:
            continue


async def send(kit: Kit, tasks: Load) -> dict[str, dict[str, float]]:
    """Publish each task to both queues at its time; gives when, unix seconds, by pool and id."""
    user, password = (quote(part, safe="") for part in kit.login("rabbitmq"))
    address = f"amqp://{user}:{password}@{kit.address('rabbitmq', 5672)}"
    settings = Settings(broker_url=address, database_url=kit.database_url())
    links = {pool: Link(settings, queues={TASK: pool}) for pool in (KEPT, TUNED)}
    sent: dict[str, dict[str, float]] = {pool: {} for pool in links}
    for link in links.values():
        await link.start()
    try:
        async with asyncio.timeout(30):
            while not all(link.connected for link in links.values()):  # noqa: ASYNC110  # there is no event
                await asyncio.sleep(0.1)
        begin = time.time() + 1
        for number, (arrival, service) in enumerate(zip(tasks.arrivals, tasks.services, strict=True)):
            await asyncio.sleep(max(0.0, begin + arrival - time.time()))
            for pool, link in links.items():
                name = f"{pool}-{number}"
                sent[pool][name] = time.time()
                await link.send(TASK, [service], task_id=name, store=False)
    finally:
        for link in links.values():
            await link.close()
    return sent


async def play(kit: Kit, tasks: Load) -> dict[str, dict[str, float]]:
    """Send the load while the HPA follows it, until all tasks have ended."""
    until = asyncio.Event()
    following = asyncio.create_task(follow(kit, until))
    try:
        sent = await send(kit, tasks)
        await asyncio.to_thread(
            eventually, lambda: all(_ended(kit, ids) for ids in sent.values()), END_SECONDS, "all tasks end"
        )
    finally:
        until.set()
        await asyncio.gather(following, return_exceptions=True)
    if following.exception():
        raise RuntimeError("the HPA failed") from following.exception()
    return sent


def _ended(kit: Kit, sent: Mapping[str, float]) -> bool:
    return {row.task_id for row in rows(kit, list(sent)) if row.ended_at is not None} == sent.keys()


def told(kit: Kit, pods: Pods, sent: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """A row of figures for each pool; both count until the last task of both has ended."""
    attempts = {pool: rows(kit, list(ids)) for pool, ids in sent.items()}
    begin = min(min(ids.values()) for ids in sent.values())
    end = max(row.ended_at for found in attempts.values() for row in found if row.ended_at is not None)
    figures = []
    for pool, found in attempts.items():
        started: dict[str, float] = {}
        for row in found:
            if row.ended_at is not None:
                started[row.task_id] = row.started_at
        waits = sorted(max(0.0, at - sent[pool][name]) for name, at in started.items())
        boots = pods.boots(pool, begin)
        workers = {row.worker.partition("@")[0] for row in found}
        counts = ledger.count(sent[pool], found, set(), workers)
        figures.append(
            {
                "policy": pool,
                "tasks": len(sent[pool]),
                "late_percent": round(100 * sum(wait > SETTING.slo for wait in waits) / len(waits), 2),
                "p50": round(percentile(waits, 0.5), 1),
                "p95": round(percentile(waits, 0.95), 1),
                "worker_hours": round(pods.hours(pool, begin, end), 4),
                "peak": pods.peaks[pool],
                "boot_seconds": round(percentile(boots, 0.5), 1),
                "interrupted": counts.interrupted,
                "run_twice": counts.run_twice,
                "lost": counts.lost,
            }
        )
    return figures


def main() -> int:
    """Play once and write the report."""
    cluster = Cluster(cluster_tool("up"))
    tasks = load()
    with passing(cluster, "helm3") as kit, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "values.json"
        file.write_text(json.dumps(values()))
        say(f"installed in {kit.install(f'--values={file}'):.0f} s")
        try:
            with Pods(kit) as pods:
                sent = asyncio.run(play(kit, tasks))
                time.sleep(2 * Pods.pause)
            figures = told(kit, pods, sent)
        except (AssertionError, CalledProcessError) as error:
            error.add_note(kit.state())
            raise
    report = {
        "made_by": "make bench-cluster",
        "setting": {
            "slo": SETTING.slo,
            "concurrency": SETTING.concurrency,
            "max_workers": SETTING.max_workers,
        },
        "does": (load.__doc__ or "").strip(),
        "rows": figures,
    }
    text = json.dumps(report, indent=1) + "\n"
    say(text)
    for path in REPORTS:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
