"""The loop and its HTTP port: each tick decides, acts, and can say why; the file is followed."""

import asyncio
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from autoscaler import policies
from autoscaler.actuators import ActuationError
from autoscaler.config import Autoscale, Pool
from autoscaler.history import History
from autoscaler.loop import ConfigFile, Loop
from autoscaler.model import Decision, Estimate, Fleet, Observation, Worker
from autoscaler.policies.learning import BOOT_SECONDS
from autoscaler.prometheus import Prometheus
from autoscaler.server import application
from tests.unit.autoscaler.fake_prometheus import NOW, FakePrometheus, matrix, series
from tests.unit.autoscaler.played_past import course, remembers


class FakeActuator:
    """Workers that are there the moment they are asked for."""

    def __init__(self) -> None:
        self.workers: dict[str, tuple[Worker, ...]] = {}
        self.decisions: list[tuple[str, Decision]] = []
        self.problem = ""
        self.unknown = ""
        self.leading = True
        self.leader = ""
        self.told: list[tuple[str, str]] = []

    async def run(self) -> None:
        pass

    def tell(self, name: str, decision: Decision, problem: str | None) -> None:
        self.told.append((name, decision.reason))

    async def fleets(self) -> Mapping[str, Fleet]:
        if self.unknown:
            return {pool: Fleet(unknown=self.unknown) for pool in ("default", *self.workers)}
        return {pool: Fleet(workers) for pool, workers in self.workers.items()}

    async def act(self, name: str, pool: Pool, decision: Decision) -> None:
        self.decisions.append((name, decision))
        if self.problem:
            raise ActuationError(self.problem)
        self.workers[name] = tuple(
            Worker(f"{name}-{i}", started=i, ready=True) for i in range(decision.workers)
        )

    def close(self) -> None:
        pass


THRESHOLD = {"policy": "threshold", "downWindowSeconds": 60}


class Bench:
    """A loop with a clock that the test moves."""

    def __init__(self, fake: FakePrometheus, path: Path) -> None:
        self.fake = fake
        self.path = path
        self.now = 100.0
        self.actuator = FakeActuator()
        self.write()
        self.prometheus = Prometheus(fake.url, 0.5, clock=lambda: NOW)
        self.history = History(fake.url, 0.5)
        self.loop = Loop(
            ConfigFile(path),
            self.prometheus,
            self.actuator,
            CollectorRegistry(),
            clock=lambda: self.now,
            history=self.history,
        )

    def write(self, pools: Mapping[str, Any] | None = None, **changes: Any) -> None:
        pools = {
            name: pool | {"autoscale": THRESHOLD | pool.get("autoscale", {})}
            for name, pool in (pools or {"default": {"queues": ["default"]}}).items()
        }
        whole = {
            "prometheusUrl": self.fake.url,
            "worker": {"pools": pools},
            "actuator": {
                "kind": "processes",
                "directory": "workers",
                "logDirectory": "log",
                "command": ["python"],
                "ports": {"from": 17100, "to": 17199},
            },
        }
        self.path.write_bytes(msgspec.yaml.encode(whole | changes))

    async def tick(self, seconds: float = 5) -> Decision:
        self.now += seconds
        await self.loop.tick()
        return self.actuator.decisions[-1][1]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.loop.metrics.registry.get_sample_value(f"autoscaler_{name}", labels)


@pytest.fixture
async def bench(fake: FakePrometheus, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(fake, tmp_path / "autoscaler.yaml")
    yield bench
    bench.prometheus.close()
    bench.history.close()


@pytest.fixture
async def get(bench: Bench) -> AsyncIterator[Any]:
    socket, port = bind_unused_port()
    server = HTTPServer(application(bench.loop))
    server.add_socket(socket)
    client = AsyncHTTPClient(force_instance=True)

    async def fetch(path: str) -> HTTPResponse:
        return await client.fetch(f"http://127.0.0.1:{port}{path}", raise_error=False)

    yield fetch
    client.close()
    server.stop()
    await server.close_all_connections()


async def test_a_backlog_rises_and_falls_and_the_workers_follow(bench: Bench) -> None:
    bench.fake.backlog(0)
    assert (await bench.tick()).workers == 1
    bench.fake.backlog(25, 10)
    assert (await bench.tick()).workers == 4
    bench.fake.backlog(0)
    for _ in range(12):
        assert (await bench.tick()).workers == 4
    assert (await bench.tick()).workers == 1


async def test_an_outage_holds_what_is_there_and_the_age_of_the_knowledge_shows(bench: Bench) -> None:
    bench.fake.backlog(40)
    await bench.tick()
    known = bench.metric("last_successful_query_timestamp_seconds", scale_target="default")
    bench.fake.status = 500
    for _ in range(50):
        assert (await bench.tick()).workers == 4
    assert bench.metric("last_successful_query_timestamp_seconds", scale_target="default") == known
    value = bench.metric("signal_value", scale_target="default", signal="backlog")
    assert value is not None
    assert value != value  # NaN: the last number must not look like a new one
    assert bench.metric("decisions_total", scale_target="default", action="hold", reason="QueryError") == 50


async def test_metrics_show_the_signal_its_threshold_and_the_limits(bench: Bench) -> None:
    bench.fake.backlog(220, 5, age=2)
    await bench.tick()
    bench.fake.backlog(120, age=3)
    await bench.tick()
    shown = {
        name: bench.metric(name, scale_target="default")
        for name in (
            "desired_replicas",
            "desired_replicas_unclamped",
            "current_replicas",
            "ready_replicas",
            "min_replicas",
            "max_replicas",
        )
    }
    assert list(shown.values()) == [10, 12, 10, 10, 1, 10]
    signal = {"scale_target": "default", "signal": "backlog"}
    assert bench.metric("signal_value", **signal) == 120
    assert bench.metric("signal_target", **signal) == 100
    assert bench.metric("signal_age_seconds", **signal) == 3
    assert bench.metric("decisions_total", scale_target="default", action="down", reason="QueryError") == 0


def slo_gauges(bench: Bench) -> dict[str, float | None]:
    names = ("seconds", "feasible")
    shown = {name: bench.metric(f"slo_{name}", scale_target="default") for name in names}
    for name in ("offered_load", "service_seconds", "startup_seconds", "oldest_wait_seconds"):
        shown[name] = bench.metric(name, scale_target="default")
    return shown


async def test_metrics_show_what_the_policy_slo_reckons_with(bench: Bench) -> None:
    scale = {"policy": "slo", "sloSeconds": 60, "expectedTaskSeconds": 4, "maxWorkers": 99}
    bench.write({"default": {"queues": ["default"], "concurrency": 1, "autoscale": scale}})
    bench.actuator.workers["default"] = (Worker("default-0", started=0, ready=True),)
    bench.fake.backlog(0)
    await bench.tick()
    bench.fake.backlog(30, age=0)
    await bench.tick()
    (pool,) = bench.loop.latest.values()
    assert slo_gauges(bench) == {
        "seconds": 60,
        "feasible": 1,
        "offered_load": pool.estimate.terms["offeredLoad"],
        "service_seconds": 4,
        "startup_seconds": pool.estimate.terms["bootSeconds"],
        "oldest_wait_seconds": 6,
    }
    for term in ("keep", "plan", "floor", "cap"):
        shown = bench.metric("term", scale_target="default", term=term)
        assert shown == pool.estimate.terms[term]
        assert shown > 0 or term == "floor"
    # one worker with one slot begins one task at once, and fifteen more in sixty seconds
    assert bench.metric("signal_target", scale_target="default", signal="backlog") == 16
    bench.fake.status = 503
    await bench.tick()
    shown = slo_gauges(bench)
    assert shown.pop("seconds") == 60
    assert all(value is not None and math.isnan(value) for value in shown.values())


async def test_a_promise_that_is_shorter_than_a_boot_shows(bench: Bench) -> None:
    bench.write({"default": {"queues": ["default"], "autoscale": {"policy": "slo", "sloSeconds": 2}}})
    bench.fake.backlog(0)
    await bench.tick()
    assert slo_gauges(bench)["feasible"] == 0


async def test_a_pool_with_thresholds_shows_nothing_of_promises(bench: Bench) -> None:
    bench.fake.backlog(220)
    await bench.tick()
    assert set(slo_gauges(bench).values()) == {None}
    assert bench.metric("term", scale_target="default", term="keep") is None


async def test_explain_tells_inputs_arithmetic_and_changes(bench: Bench, get: Any) -> None:
    bench.fake.backlog(0)
    await bench.tick()
    bench.fake.backlog(20, 5, age=2)
    for _ in range(3):
        await bench.tick()
    pool = msgspec.json.decode((await get("/explain")).body)["pools"]["default"]
    assert pool["inputs"] == [
        {"queue": "default", "signal": "ready", "value": 20, "ageSeconds": 2},
        {"queue": "default", "signal": "unacknowledged", "value": 5, "ageSeconds": 2},
    ]
    assert (pool["current"], pool["wanted"], pool["draining"], pool["unclamped"]) == (3, 3, 0, 3)
    assert pool["terms"] == {"backlog": 25, "upAbove": 30, "downBelow": 15, "wanted": 3}
    assert pool["last"]["words"] == (
        "backlog 25 is between 15 and 30; ceil(25 / 10) = 3; hold 3, within 1 to 10"
    )
    assert [(d["action"], d["reason"], d["from"], d["to"]) for d in pool["decisions"]] == [
        ("hold", "Deadband", 3, 3),
        ("up", "DrainBacklog", 1, 3),
        ("up", "AtMin", 0, 1),
    ]


async def test_explain_and_a_metric_tell_what_went_through_the_queues_and_who_says_so(
    bench: Bench, get: Any
) -> None:
    messages = [
        series(f"rabbitmq_detailed_queue_messages_{name}", 3, vhost="/", queue="default", instance="n")
        for name in ("ready", "unacked", "acked_total")
    ]

    def sources() -> list[float | None]:
        return [
            bench.metric("signal_source", scale_target="default", source=source)
            for source in ("broker", "workers", "backlog")
        ]

    bench.fake.body = matrix(*messages[:2])
    await bench.tick()
    assert sources() == [0, 0, 1]
    assert msgspec.json.decode((await get("/explain")).body)["pools"]["default"]["flows"] == []
    bench.fake.body = matrix(*messages)
    await bench.tick()
    assert sources() == [1, 0, 0]
    assert msgspec.json.decode((await get("/explain")).body)["pools"]["default"]["flows"] == [
        {"queue": "default", "source": "broker", "ended": 3, "arrived": None, "busySeconds": None}
    ]
    bench.fake.body = matrix()
    await bench.tick()
    assert sources() == [0, 0, 0]


async def test_an_observation_tells_when_it_was_and_how_many_slots_a_worker_has(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Observation] = []

    def look(memory: Any, observation: Observation, _scale: Autoscale, _now: float) -> tuple[Estimate, Any]:
        seen.append(observation)
        return Estimate(observation, workers=1), memory

    monkeypatch.setattr(policies, "POLICIES", {"threshold": look})
    bench.fake.backlog(0)
    began = time.time()
    bench.write({"default": {"queues": ["default"], "concurrency": 3}})
    await bench.tick()
    bench.actuator.workers["default"] = (
        Worker("starts", 0, slots=9),
        Worker("small", 0, ready=True, slots=4),
        Worker("large", 0, ready=True, slots=5),
    )
    await bench.tick()
    bench.actuator.leading = False
    await bench.tick()
    assert [observation.fleet.slots for observation in seen[:2]] == [3, 5]
    assert all(began <= observation.at <= time.time() for observation in seen)


async def test_every_change_is_one_log_line_and_the_same_hold_is_none(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "autoscaler")
    bench.fake.backlog(25)
    for _ in range(5):
        await bench.tick()
    lines = [record for record in caplog.records if record.message == "decision"]
    assert [(vars(line)["reason"], vars(line)["to"]) for line in lines] == [
        ("DrainBacklog", 3),
        ("Deadband", 3),
    ]


async def test_what_could_not_be_done_is_said_counted_and_tried_again(bench: Bench, get: Any) -> None:
    bench.fake.backlog(25)
    bench.actuator.problem = "no free port"
    await bench.tick()
    assert (await bench.tick()).start == 3
    assert bench.metric("failed_actions_total", scale_target="default") == 2
    explained = msgspec.json.decode((await get("/explain")).body)
    assert explained["pools"]["default"]["last"]["problem"] == "no free port"


async def test_a_good_new_file_counts_at_the_next_tick(bench: Bench) -> None:
    bench.fake.backlog(200)
    assert (await bench.tick()).workers == 10
    bench.write({"default": {"queues": ["default"], "autoscale": {"maxWorkers": 20}}})
    assert (await bench.tick()).workers == 20
    assert bench.metric("config_reloads_total", outcome="accepted") == 1
    assert bench.metric("max_replicas", scale_target="default") == 20


async def test_a_bad_new_file_is_refused_once_and_told_while_the_old_stays(
    bench: Bench, get: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bench.fake.backlog(30)
    await bench.tick()
    bench.write({"default": {"queues": ["default"], "autoscale": {"maxWorkers": "many"}}})
    for _ in range(3):
        assert (await bench.tick()).workers == 3
    problem = "worker.pools.default.autoscale.maxWorkers: Expected `int`, got `str`"
    assert bench.metric("config_reloads_total", outcome="refused") == 1
    assert [problem in line for line in caplog.messages].count(True) == 1
    health = await get("/healthz")
    assert (health.code, msgspec.json.decode(health.body)["configProblem"]) == (200, problem)
    assert msgspec.json.decode((await get("/explain")).body)["config"]["problem"] == problem
    bench.write()
    await bench.tick()
    assert msgspec.json.decode((await get("/healthz")).body)["configProblem"] is None


async def test_a_file_that_vanishes_or_moves_the_port_is_refused(bench: Bench) -> None:
    bench.fake.backlog(30)
    await bench.tick()
    bench.path.unlink()
    assert (await bench.tick()).workers == 3
    assert bench.loop.file.problem == "the file cannot be read"
    bench.write(port=1234)
    await bench.tick()
    assert bench.loop.file.problem == "port: cannot change while the autoscaler runs; restart it"


async def test_a_changed_pool_watches_anew_before_it_shrinks(bench: Bench) -> None:
    bench.fake.backlog(50)
    await bench.tick()
    bench.fake.backlog(0)
    for _ in range(12):
        await bench.tick()
    bench.write({"default": {"queues": ["default"], "autoscale": {"maxWorkers": 9}}})
    decision = await bench.tick()
    assert (decision.workers, decision.reason) == (5, "RestartHold")


async def test_a_removed_pool_shows_no_more_and_its_workers_are_drained(bench: Bench, get: Any) -> None:
    bench.write({"default": {"queues": ["default"]}, "gpu": {"queues": ["gpu"]}})
    bench.fake.backlog(30)
    await bench.tick()
    assert [name for name, _ in bench.actuator.decisions] == ["default", "gpu"]
    (worker,) = bench.actuator.workers["gpu"]
    bench.write()
    await bench.tick()
    names = [name for name, _ in bench.actuator.decisions]
    assert names == ["default", "gpu", "default", "gpu"]
    assert bench.actuator.decisions[-1][1].drain == (worker.name,)
    assert bench.metric("desired_replicas", scale_target="gpu") is None
    assert set(msgspec.json.decode((await get("/explain")).body)["pools"]) == {"default"}


async def test_readiness_follows_the_first_decision(bench: Bench, get: Any) -> None:
    assert (await get("/readyz")).code == 503
    assert (await get("/healthz")).code == 200
    await bench.tick()
    assert (await get("/readyz")).code == 200
    scraped = await get("/metrics")
    assert b'autoscaler_desired_replicas{scale_target="default"} 1.0' in scraped.body
    assert b'component="autoscaler"' in scraped.body


async def test_on_kubernetes_the_number_bears_its_deployment_and_no_other_metric_does(
    bench: Bench,
) -> None:
    bench.write(
        actuator={
            "kind": "kubernetes",
            "namespace": "team",
            "lease": "kit-autoscaler",
            "deployments": {"default": "kit-worker-default"},
        }
    )
    bench.loop = Loop(
        ConfigFile(bench.path), bench.prometheus, bench.actuator, CollectorRegistry(), clock=lambda: bench.now
    )
    bench.fake.backlog(25)
    await bench.tick()
    own = {"deployment": "kit-worker-default", "deployment_namespace": "team"}
    assert bench.metric("desired_replicas", scale_target="default", **own) == 3
    assert bench.metric("current_replicas", scale_target="default") is not None


@pytest.mark.behaviour("F13")
async def test_workers_that_cannot_be_seen_hold_what_was_seen_last_and_say_why(
    bench: Bench, get: Any
) -> None:
    bench.fake.backlog(30)
    await bench.tick()
    bench.fake.backlog(90)
    bench.actuator.unknown = "403 Forbidden"
    acted = len(bench.actuator.decisions)
    for _ in range(3):
        await bench.tick()
    pool = msgspec.json.decode((await get("/explain")).body)["pools"]["default"]
    assert (pool["last"]["to"], pool["last"]["reason"], pool["last"]["problem"]) == (
        3,
        "FleetUnknown",
        "403 Forbidden",
    )
    assert len(bench.actuator.decisions) == acted
    assert bench.metric("failed_actions_total", scale_target="default") == 3
    bench.actuator.unknown = ""
    assert (await bench.tick()).workers == 9


async def test_nothing_is_decided_before_the_workers_were_seen_once(
    bench: Bench, get: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bench.fake.backlog(30)
    bench.actuator.unknown = "403 Forbidden"
    for _ in range(3):
        await bench.loop.tick()
    assert bench.actuator.decisions == []
    assert bench.metric("desired_replicas", scale_target="default") is None
    ready = await get("/readyz")
    assert (ready.code, msgspec.json.decode(ready.body)["problems"]) == (503, {"default": "403 Forbidden"})
    assert [line for line in caplog.messages if "403" in line] == ["pool default: 403 Forbidden"]
    bench.actuator.unknown = ""
    await bench.tick()
    assert msgspec.json.decode((await get("/readyz")).body) == {"ready": True, "problems": {}}


async def test_a_follower_does_nothing_is_ready_and_says_who_leads(bench: Bench, get: Any) -> None:
    bench.fake.backlog(30)
    bench.actuator.leading = False
    await bench.loop.tick()
    assert (await get("/readyz")).code == 503  # nobody leads yet, as far as it knows
    bench.actuator.leader = "the other"
    await bench.loop.tick()
    assert (await get("/readyz")).code == 200
    assert bench.actuator.decisions == []
    explained = msgspec.json.decode((await get("/explain")).body)
    assert (explained["leading"], explained["leader"], explained["pools"]) == (False, "the other", {})
    assert bench.metric("leader") == 0


async def test_a_follower_that_takes_over_knows_the_down_window(bench: Bench) -> None:
    bench.actuator.workers["default"] = tuple(Worker(f"w{i}", started=i, ready=True) for i in range(5))
    bench.fake.backlog(0)
    bench.actuator.leading = False
    for _ in range(13):
        bench.now += 5
        await bench.loop.tick()
    bench.actuator.leading = True
    decision = await bench.tick()
    assert (decision.workers, decision.reason) == (1, "Idle")
    assert bench.metric("leader") == 1


async def test_a_follower_says_that_it_does_not_see_the_workers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleets: list[Fleet] = []

    def note(_: Any, seen: Observation, _scale: Autoscale, _now: float) -> tuple[Estimate, Any]:
        fleets.append(seen.fleet)
        return Estimate(seen, workers=1), None

    monkeypatch.setattr(policies, "POLICIES", {"threshold": note})
    bench.write({"default": {"queues": ["default"], "concurrency": 8}})
    bench.fake.backlog(0)
    bench.actuator.leading = False
    await bench.loop.tick()
    assert [(bool(fleet.unknown), fleet.slots, fleet.workers) for fleet in fleets] == [(True, 8, ())]


async def test_a_policy_remembers_from_tick_to_tick_until_its_pool_changes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, float]] = []

    def count(memory: Any, seen: Observation, _scale: Autoscale, now: float) -> tuple[Estimate, Any]:
        asked.append((memory, now))
        return Estimate(seen, workers=1), len(asked)

    monkeypatch.setattr(policies, "POLICIES", {"threshold": count})
    bench.fake.backlog(0)
    await bench.tick()
    bench.actuator.leading = False
    await bench.tick()
    bench.actuator.leading = True
    await bench.tick()
    bench.write({"default": {"queues": ["default"], "autoscale": {"minWorkers": 2}}})
    await bench.tick()
    assert asked == [(None, 105), (1, 110), (2, 115), (None, 120)]


async def test_a_leader_that_lost_the_lead_shows_no_numbers_any_more(bench: Bench) -> None:
    bench.fake.backlog(30)
    await bench.tick()
    bench.actuator.leading = False
    await bench.loop.tick()
    assert bench.metric("desired_replicas", scale_target="default") is None


async def test_every_change_is_told_to_those_who_look_at_the_workers(bench: Bench) -> None:
    bench.fake.backlog(25)
    for _ in range(5):
        await bench.tick()
    assert bench.actuator.told == [("default", "DrainBacklog"), ("default", "Deadband")]


@pytest.fixture(params=["dryRun", "advise"])
def planner(bench: Bench, request: pytest.FixtureRequest) -> Bench:
    """The bench in a mode that does nothing itself, over five workers that only others add or end."""
    bench.write(mode=request.param)
    bench.loop = Loop(
        ConfigFile(bench.path), bench.prometheus, bench.actuator, CollectorRegistry(), clock=lambda: bench.now
    )
    bench.actuator.workers["default"] = tuple(Worker(f"w{i}", started=i, ready=True) for i in range(5))
    return bench


async def test_what_is_not_done_is_decided_told_and_counted_as_if_it_were(planner: Bench, get: Any) -> None:
    planner.fake.backlog(80)
    numbers = []
    for backlog in (80, 80, 80, *[0] * 14):
        planner.fake.backlog(backlog)
        planner.now += 5
        await planner.loop.tick()
        numbers.append(planner.metric("desired_replicas", scale_target="default"))
    assert numbers == [8] * 15 + [1] * 2  # as in the mode `act`: at once up, and down after the window
    assert planner.actuator.decisions == []
    assert planner.metric("current_replicas", scale_target="default") == 5
    counted = {
        action: planner.metric("decisions_total", scale_target="default", action=action, reason=reason)
        for action, reason in (("up", "DrainBacklog"), ("down", "Idle"))
    }
    assert counted == {"up": 1, "down": 1}
    told = [reason for _, reason in planner.actuator.told]
    assert told == ["DrainBacklog", "Deadband", "RestartHold", "Stabilizing", "Idle", "AtMin"]


async def test_the_mode_is_told_by_explain_and_by_a_metric(planner: Bench, get: Any) -> None:
    await planner.loop.tick()
    mode = planner.loop.mode
    assert msgspec.json.decode((await get("/explain")).body)["mode"] == mode
    shown = {name: planner.metric("mode", mode=name) for name in ("act", "dryRun", "advise")}
    assert shown == {name: float(name == mode) for name in shown}


async def test_workers_of_a_removed_pool_are_left_alone_where_nothing_is_done(planner: Bench) -> None:
    planner.actuator.workers["gpu"] = (Worker("g", started=0, ready=True),)
    await planner.loop.tick()
    assert planner.actuator.decisions == []


async def test_workers_that_an_acting_autoscaler_left_draining_count_as_there(planner: Bench) -> None:
    planner.actuator.workers["default"] = tuple(
        Worker(f"w{i}", started=i, ready=i > 1, draining_seconds=9.0 if i < 2 else None) for i in range(5)
    )
    planner.fake.backlog(40)
    await planner.loop.tick()
    assert planner.metric("desired_replicas", scale_target="default") == 5


async def test_the_mode_changes_by_a_restart_only(bench: Bench) -> None:
    bench.fake.backlog(30)
    await bench.tick()
    bench.write(mode="dryRun")
    await bench.tick()
    assert bench.loop.file.problem == "mode: cannot change while the autoscaler runs; restart it"


async def test_the_loop_outlives_a_full_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ticked = asyncio.Event()
    tick = bench.loop.tick

    async def fails_once() -> None:
        monkeypatch.setattr(bench.loop, "tick", tick_and_tell)
        raise OSError(28, "No space left on device")

    async def tick_and_tell() -> None:
        await tick()
        ticked.set()

    monkeypatch.setattr(bench.loop, "tick", fails_once)
    bench.write(tickSeconds=0.01)
    bench.loop.file.reload()
    running = asyncio.create_task(bench.loop.run())
    await asyncio.wait_for(ticked.wait(), 5)
    running.cancel()


SLO = {"queues": ["default"], "autoscale": {"policy": "slo", "maxWorkers": 20}}


def busy(fake: FakePrometheus) -> None:
    """Ten minutes in which four tasks were at work and two ended in each step."""
    fake.others = remembers(course([0] * 121, [4] * 121, ended=[2 * number for number in range(121)]))
    fake.backlog(0, 4)


def asked_for_the_past(fake: FakePrometheus) -> int:
    return sum("vector(time())" in query for query in fake.queries)


@pytest.mark.parametrize("leading", [True, False])
async def test_whoever_starts_knows_at_once_what_was_before_and_asks_no_more(
    bench: Bench, leading: bool
) -> None:
    bench.write({"default": SLO, "slow": SLO | {"queues": ["slow"]}, "plain": {"queues": ["plain"]}})
    busy(bench.fake)
    bench.actuator.leading = leading
    for _ in range(3):
        await bench.loop.tick()
        bench.now += 5
    line = bench.loop._states["default"].memory.lines["default"]
    assert line.service == pytest.approx(10, rel=0.05)
    assert line.rate(300) == pytest.approx(0.4, rel=0.05)
    assert bench.loop._states["plain"].memory is None
    assert asked_for_the_past(bench.fake) == 1


async def test_who_follows_at_its_start_takes_no_worker_that_is_there_for_one_that_has_just_booted(
    bench: Bench,
) -> None:
    """Every start on Kubernetes is one: the lease is not ours at the first tick."""
    bench.write({"default": SLO})
    bench.fake.backlog(0, 4)
    bench.actuator.workers["default"] = (Worker("old", started=0, ready=True),)
    bench.actuator.leading = False
    await bench.loop.tick()
    bench.actuator.leading = True
    await bench.tick()
    assert bench.loop.latest["default"].estimate.terms["bootSeconds"] == BOOT_SECONDS


async def test_a_pool_whose_settings_changed_learns_anew_from_what_was_before(bench: Bench) -> None:
    bench.write({"default": SLO})
    busy(bench.fake)
    await bench.tick()
    bench.write({"default": SLO | {"autoscale": {"policy": "slo", "maxWorkers": 5}}})
    await bench.tick()
    assert asked_for_the_past(bench.fake) == 2
    assert bench.loop._states["default"].memory.lines["default"].service == pytest.approx(10, rel=0.05)


async def test_it_begins_with_nothing_where_what_was_before_is_not_known_and_says_so_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.write({"default": SLO})
    busy(bench.fake)
    bench.fake.others["label_replace(vector(time())"] = b"{}"
    for _ in range(2):
        await bench.tick()
    assert caplog.text.count("what was before is not known") == 1
    assert bench.loop._states["default"].memory.lines["default"].curve[0][1] == 4
    assert asked_for_the_past(bench.fake) == 1


async def test_while_prometheus_is_away_it_is_asked_again_for_what_was_before(bench: Bench) -> None:
    bench.write({"default": SLO})
    bench.fake.status = 503
    await bench.tick()
    busy(bench.fake)
    await bench.tick()
    assert bench.loop._states["default"].memory.lines["default"].service == pytest.approx(10, rel=0.05)


async def test_a_pool_that_learns_no_more_is_not_asked_for(bench: Bench) -> None:
    bench.write({"default": SLO})
    bench.fake.status = 503
    await bench.tick()
    bench.write()
    busy(bench.fake)
    await bench.tick()
    assert bench.loop._states["default"].memory is None


async def test_to_remember_takes_no_longer_than_a_query_may(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write({"default": SLO, "slow": SLO | {"queues": ["slow"]}})
    busy(bench.fake)

    def slow(*_: Any) -> None:
        bench.now += 6

    monkeypatch.setattr("autoscaler.loop.RECALLS", {"slo": slow})
    await bench.tick()
    assert caplog.text.count("there is no time to learn from what was before") == 1


MANY = [f"p{number}" for number in range(60)]


def write_many(bench: Bench, autoscale: Mapping[str, Any]) -> None:
    """Have many pools of two queues each, for which there are ports enough."""
    pools = {name: {"queues": [name, f"{name}-long"]} for name in MANY}
    bench.write({name: pool | {"autoscale": autoscale | {"maxWorkers": 1}} for name, pool in pools.items()})


async def test_of_many_pools_each_family_of_metrics_is_one_and_each_pool_is_explained(
    bench: Bench, get: Any
) -> None:
    write_many(bench, {})
    await bench.tick()
    text = (await get("/metrics")).body.decode()
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert len(heads) == len(set(heads))
    hold = 'autoscaler_decisions_total{action="hold",reason="QueryError",scale_target='
    counts = [line for line in text.splitlines() if line.startswith(hold)]
    assert counts == [f'{hold}"{name}"}} 0.0' for name in MANY]
    families = [family.name for family in text_string_to_metric_families(text)]
    assert len(families) == len(set(families))
    pools = msgspec.json.decode((await get("/explain")).body)["pools"]
    assert list(pools) == MANY
    assert all(len(pool["decisions"]) == 1 for pool in pools.values())


async def test_the_more_pools_there_are_the_fewer_decisions_of_each_are_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoscaler.loop.CHANGES_KEPT_OF_ALL", 600)
    write_many(bench, {})
    for _ in range(12):
        bench.loop.latest.clear()  # so that the same is news
        await bench.tick()
    assert {len(changes) for changes in bench.loop.changes.values()} == {10}


async def test_of_many_pools_what_was_before_is_asked_for_in_parts(bench: Bench) -> None:
    write_many(bench, {"policy": "slo"})
    busy(bench.fake)
    await bench.tick()
    asked = [query for query in bench.fake.queries if "vector(time())" in query]
    assert len(asked) == 2
    assert all("[600000ms:15000ms]" in query for query in asked)
    assert all(sum(bool(re.search(rf"\b{name}\b", query)) for query in asked) == 1 for name in MANY)


async def test_a_page_that_fails_amid_its_parts_is_no_answer(
    bench: Bench, get: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails:
        def collect(self) -> Iterator[Metric]:
            yield GaugeMetricFamily("some_number", "that is told before", value=1)
            raise RuntimeError("the next one fails")

    bench.loop.metrics.registry.register(Fails())  # type: ignore[arg-type]
    with pytest.raises(HTTPClientError, match="Connection closed"):
        await get("/metrics")
    assert "the next one fails" in caplog.text
