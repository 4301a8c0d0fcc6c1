"""The autoscaler and the workers' Deployment, from one worker to many and back, by a promise."""

import asyncio
import json
import time
from dataclasses import dataclass, field

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from local import ledger
from tests.e2e.cluster import RELEASE, WORKERS, eventually, is_ready
from tests.e2e.load import counted, rows
from tests.e2e.watch import Watcher

TASKS = 1000
LONG_SECONDS = 150  # a shrink begins after about 60 and is to be over by then
MIB = 2**20
pytestmark = pytest.mark.timeout(900)


@dataclass
class Watch(Watcher):
    """What was seen of the worker Deployment, every half second."""

    pause = 0.5
    passing = Exception  # an API that does not answer now does so later
    kit: object
    wanted: list = field(default_factory=list)  # (time, spec.replicas), on change
    ready_at: dict = field(default_factory=dict)  # pod → when it was first seen ready
    gone_at: dict = field(default_factory=dict)  # pod → when it was first seen to end
    drained: set = field(default_factory=set)  # pods that the autoscaler told to drain

    def look(self):
        now = time.time()
        replicas = self.kit.get("deployment", WORKERS)["spec"]["replicas"]
        if not self.wanted or self.wanted[-1][1] != replicas:
            self.wanted.append((now, replicas))
        alive = {pod["metadata"]["name"]: pod for pod in self.kit.pods("celery-kit/pool=default")}
        for name, pod in alive.items():
            if is_ready(pod):
                self.ready_at.setdefault(name, now)
        for name in self.ready_at.keys() - alive.keys():
            self.gone_at.setdefault(name, now)
        for decision in self.kit.explained()["decisions"]:
            self.drained.update(decision["drain"])

    @property
    def peak(self):
        return max(replicas for _, replicas in self.wanted)


def at_rest(kit):
    explained, workers = kit.explained(), kit.get("deployment", WORKERS)
    return (
        workers["status"].get("readyReplicas") == 1
        and workers["spec"]["replicas"] == 1
        and explained["draining"] == 0
        and sum(signal["value"] for signal in explained["inputs"]) == 0
    )


def send(kit, tasks):
    """Hand tasks to the gateway, 32 at once; returns when each was accepted, by its id."""
    url = f"http://{kit.address('gateway', 8000)}/v1/tasks/task.sleep"
    headers = {
        "Authorization": f"Bearer {kit.secret('gateway', 'api-key')}",
        "Content-Type": "application/json",
        "Prefer": "respond-async",
    }

    async def run():
        accepted = {}
        http, gate = AsyncHTTPClient(force_instance=True, max_clients=32), asyncio.Semaphore(32)

        async def one(seconds):
            async with gate:
                body = json.dumps({"kwargs": {"seconds": seconds}})
                answer = await http.fetch(
                    HTTPRequest(url, method="POST", headers=headers, body=body, request_timeout=60)
                )
                assert answer.code == 202
                accepted[json.loads(answer.body)["id"]] = time.time()

        try:
            await asyncio.gather(*(one(seconds) for seconds in tasks))
        finally:
            http.close()
        return accepted

    return asyncio.run(run())


def ended(kit, ids):
    done = {row.task_id for row in rows(kit, ids) if row.ended_at is not None}
    return done == set(ids)


def running(kit, ids):
    """The attempts at these tasks that have not ended."""
    return [row for row in rows(kit, ids) if row.ended_at is None]


def pod_of(row):
    return row.worker.rpartition("@")[2]


@pytest.mark.behaviour("C14", "C20", "S5")
def test_a_burst_brings_workers_and_takes_only_drained_ones_away(kit, tell):
    eventually(lambda: at_rest(kit), 180, "one worker and nothing to do")
    with Watch(kit) as watch:
        before = set(kit.names("pods"))
        began = time.time()
        accepted = send(kit, [0.5] * TASKS)
        assert len(accepted) == TASKS
        eventually(lambda: ended(kit, accepted), 400, "all tasks of the burst are done")
        drained_at = time.time()
        # A shrink is due soon: one of the workers is to be busy by then.
        long = send(kit, [LONG_SECONDS])
        eventually(lambda: running(kit, long), 30, "the long task runs")
        eventually(lambda: ended(kit, long), LONG_SECONDS + 60, "the long task is done")
        eventually(lambda: at_rest(kit), 300, "one worker again")
    new = [at for name, at in watch.ready_at.items() if name not in before]
    waited = ledger.waits(accepted, rows(kit, accepted))
    tell(
        f"{TASKS} tasks of 0.5 s: workers 1 → {watch.peak} → 1, first new worker ready after"
        f" {min(new) - began:.1f} s, all done after {drained_at - began:.0f} s, waits"
        f" p50 {ledger.quantile(waited, 0.5):.1f} s, p95 {ledger.quantile(waited, 0.95):.1f} s"
    )
    assert watch.peak >= 3
    counts = counted(kit, accepted | long)
    tell(f"done {counts.done}, lost {counts.lost}, twice {counts.run_twice}, cut {counts.interrupted}")
    assert (counts.done, counts.lost, counts.run_twice, counts.interrupted) == (TASKS + 1, 0, 0, 0)
    assert watch.gone_at
    assert watch.gone_at.keys() <= watch.drained, "a worker was removed that had not been drained"
    (row,) = rows(kit, long)
    assert min(watch.gone_at.values()) < row.ended_at, "no worker was removed while the long task ran"
    assert watch.gone_at.get(pod_of(row), row.ended_at) >= row.ended_at, "a worker went before its task ended"


def test_a_broker_that_restarts_amid_a_shrink_interrupts_no_task(kit, tell):
    eventually(lambda: at_rest(kit), 300, "one worker and nothing to do")
    with Watch(kit) as watch:
        accepted = send(kit, [1.0] * 200)
        eventually(lambda: ended(kit, accepted), 300, "the burst is done")
        long = send(kit, [LONG_SECONDS])
        eventually(lambda: running(kit, long), 30, "the long task runs")
        eventually(lambda: kit.explained()["draining"] > 0, 180, "workers drain", pause=0.1)
        kit.kubectl("delete", "pod", f"{RELEASE}-rabbitmq-0", "--wait=false")
        began = time.time()
        eventually(lambda: not broker_ready(kit), 60, "the broker ends", pause=0.2)
        eventually(lambda: broker_ready(kit), 120, "the broker is back")
        tell(f"the broker was away for {time.time() - began:.0f} s amid a shrink from {watch.peak}")
        accepted |= long
        accepted |= eventually(lambda: sent_again(kit), 60, "a task is accepted after the restart")
        eventually(lambda: ended(kit, accepted), 240, "all tasks are done")
        eventually(lambda: at_rest(kit), 300, "one worker again")
    counts = counted(kit, accepted)
    tell(f"done {counts.done}, lost {counts.lost}, twice {counts.run_twice}, cut {counts.interrupted}")
    assert (counts.lost, counts.interrupted) == (0, 0)
    assert watch.gone_at.keys() <= watch.drained, "a worker was removed that had not been drained"


def broker_ready(kit):
    return is_ready(kit.get("pod", f"{RELEASE}-rabbitmq-0"))


def sent_again(kit):
    answer = kit.gateway("/v1/tasks/task.echo", "POST", {"args": [1]}, Prefer="respond-async")
    return answer.status == 202 and {answer.json["id"]: time.time()}


def test_the_autoscaler_stays_below_64_mib(kit, tell):
    text = kit.ask("autoscaler", 8002, "/metrics").body.decode()
    resident = next(
        float(line.split()[1])
        for line in text.splitlines()
        if line.startswith("process_resident_memory_bytes")
    )
    tell(f"autoscaler: {resident / MIB:.0f} MiB resident")
    assert resident < 64 * MIB
