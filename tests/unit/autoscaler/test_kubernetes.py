"""Workers as pods against a played API: only drained pods go, nobody's change is undone, faults hold."""

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from tornado.web import HTTPError

from autoscaler.actuators import ActuationError
from autoscaler.actuators.kubernetes import KubernetesActuator
from autoscaler.config import Kubernetes, Mode, Pool
from autoscaler.model import Action, Decision, Fleet, Reason
from tests.unit.autoscaler.fake_kubernetes import DEPLOYMENT, DRAIN_TOKEN, FakeKubernetes, playing

POOL = Pool(queues=("default",))


class Bench:
    """An actuator that leads, over a played cluster."""

    def __init__(self, fake: FakeKubernetes, actuator: KubernetesActuator) -> None:
        self.fake = fake
        self.actuator = actuator
        self.config = actuator._config

    async def have(self, count: int) -> list[str]:
        self.fake.replicas = count
        await self.fake.settle()
        return list(self.fake.pods)

    async def look(self) -> Fleet:
        return (await self.actuator.fleets())["default"]

    async def tick(self, **what: Any) -> Fleet:
        """Look and act once, as the loop does."""
        fleet = await self.look()
        decision = Decision(0, what.pop("action", Action.HOLD), Reason.DEADBAND, "words", **what)
        await self.actuator.act("default", POOL, decision)
        return fleet

    async def events(self, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(5):
            return [await self.fake.events.get() for _ in range(count)]

    async def drained(self, *names: str) -> None:
        """Drain, and have Kubernetes see it."""
        await self.tick(drain=names)
        self.fake.readiness()
        await self.tick()


@pytest.fixture
async def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeKubernetes]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    async with playing(tmp_path) as fake:
        yield fake


def actuator(
    fake: FakeKubernetes, identity: str = "me", timeout: float = 2, mode: Mode = "act"
) -> KubernetesActuator:
    config = Kubernetes(
        namespace="n", lease="lease", deployments={"default": DEPLOYMENT}, worker_port=fake.port
    )
    return KubernetesActuator(config, mode, DRAIN_TOKEN, identity, timeout, CollectorRegistry())


async def closed(made: KubernetesActuator) -> None:
    made.close()
    await made._cluster.close()


@pytest.fixture
async def bench(fake: FakeKubernetes) -> AsyncIterator[Bench]:
    made = actuator(fake)
    await made._leader.renew()
    running = asyncio.create_task(made.run())
    yield Bench(fake, made)
    running.cancel()
    await asyncio.wait({running})
    made.close()


async def test_more_workers_are_more_replicas_that_count_at_once(bench: Bench) -> None:
    await bench.have(1)
    bench.fake.makes_pods = False
    await bench.tick(start=3)
    assert bench.fake.replicas == 4
    fleet = await bench.look()
    assert (len(fleet.serving), fleet.ready) == (4, 1)


async def test_drained_pods_are_the_ones_that_go_and_the_number_falls_by_their_count(bench: Bench) -> None:
    names = await bench.have(5)
    victims = {names[1], names[3]}
    await bench.drained(*victims)
    assert bench.fake.replicas == 5
    await bench.tick()
    assert bench.fake.replicas == 3
    assert {pod.name for pod in bench.fake.removed} == victims
    assert all(pod.worker["draining"] for pod in bench.fake.removed)
    assert len((await bench.look()).serving) == 3


async def test_a_busy_worker_is_waited_for_and_an_empty_one_goes_before_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoscaler.pods.SETTLED_SECONDS", 0)
    names = await bench.have(3)
    bench.fake.pods[names[0]].worker["active"] = 1
    await bench.drained(names[0], names[1])
    for _ in range(3):
        await bench.tick()
    assert [pod.name for pod in bench.fake.removed] == [names[1]]
    bench.fake.pods[names[0]].worker["active"] = 0
    bench.fake.readiness()
    await bench.tick()
    assert bench.fake.replicas == 2  # empty for the first time
    await bench.tick()
    assert [pod.name for pod in bench.fake.removed] == [names[1], names[0]]


async def test_a_busy_worker_that_is_not_ready_keeps_the_number(bench: Bench) -> None:
    names = await bench.have(3)
    bench.fake.pods[names[0]].worker["active"] = 1
    await bench.drained(names[0], names[1])
    bench.fake.pods[names[0]].ready = False  # a ReplicaSet could take it for the empty one
    for _ in range(3):
        await bench.tick()
    assert bench.fake.replicas == 3


async def test_a_drained_pod_that_kubernetes_still_believes_ready_keeps_the_number(bench: Bench) -> None:
    names = await bench.have(2)
    for _ in range(4):
        await bench.tick(drain=(names[0],))
    assert bench.fake.replicas == 2
    bench.fake.readiness()
    await bench.tick()
    assert bench.fake.replicas == 2  # believed for the first time; a ReplicaSet may see it later than we
    await bench.tick()
    assert [pod.name for pod in bench.fake.removed] == [names[0]]


async def test_a_pod_that_is_not_ready_and_no_victim_holds_the_number_and_says_so(bench: Bench) -> None:
    names = await bench.have(3)
    await bench.drained(names[0])
    bench.fake.pods[names[1]].worker["ready"] = False
    for _ in range(3):
        fleet = await bench.tick()
    assert bench.fake.replicas == 3
    obstacle = fleet.obstacle(Action.HOLD)
    assert obstacle is not None
    assert (obstacle.reason, obstacle.words) == (
        Reason.VICTIMS_AMBIGUOUS,
        f"{names[1]} is not ready, and was not told to drain",
    )
    bench.fake.pods[names[1]].worker["ready"] = True
    await bench.tick()
    assert [pod.name for pod in bench.fake.removed] == [names[0]]


async def test_a_pod_that_turns_not_ready_just_before_the_number_falls_keeps_it(bench: Bench) -> None:
    names = await bench.have(3)
    await bench.drained(names[0])

    def turns() -> None:  # seen by the controller, which writes the Deployment's status
        bench.fake.pods[names[1]].ready = False
        bench.fake.version += 1

    bench.fake.between = turns
    with pytest.raises(ActuationError, match="409 the object has been modified"):
        await bench.tick()
    assert bench.fake.replicas == 3


async def test_a_recalled_worker_goes_on(bench: Bench) -> None:
    names = await bench.have(2)
    await bench.drained(names[0])
    assert [worker.name for worker in (await bench.look()).draining] == [names[0]]
    await bench.tick(recall=(names[0],))
    fleet = await bench.tick()
    assert (len(fleet.serving), fleet.ready, fleet.draining) == (2, 2, ())
    assert bench.fake.pods[names[0]].told[-1] == "/undrain"
    assert bench.fake.replicas == 2


async def test_a_draining_worker_is_adopted_by_the_next_autoscaler(bench: Bench) -> None:
    names = await bench.have(2)
    bench.fake.pods[names[1]].worker |= {"draining": True, "ready": False}
    bench.fake.readiness()
    fleet = await bench.tick()
    assert [worker.name for worker in fleet.draining] == [names[1]]
    await bench.tick()
    assert [pod.name for pod in bench.fake.removed] == [names[1]]


async def test_a_worker_whose_container_started_anew_is_told_again_to_drain(bench: Bench) -> None:
    names = await bench.have(2)
    await bench.drained(names[0])
    bench.fake.pods[names[0]].worker |= {"draining": False, "ready": True}
    fleet = await bench.tick()
    assert [worker.name for worker in fleet.draining] == [names[0]]
    assert bench.fake.pods[names[0]].worker["draining"]
    assert bench.fake.replicas == 2


async def test_a_worker_that_does_not_answer_is_named_and_keeps_its_pod(bench: Bench) -> None:
    names = await bench.have(2)
    bench.fake.pods[names[0]].deaf = True
    for _ in range(3):
        with pytest.raises(ActuationError, match=f"{names[0]} does not answer to /drain"):
            await bench.tick(drain=(names[0],))
    assert bench.fake.replicas == 2


async def test_replicas_without_a_pod_and_pods_in_which_nothing_runs_need_no_drain(bench: Bench) -> None:
    names = await bench.have(2)
    bench.fake.makes_pods = False
    bench.fake.replicas = 4
    stuck = bench.fake.add(ready=False, running=False)
    fleet = await bench.look()
    (unborn,) = {worker.name for worker in fleet.serving} - {*names, stuck.name}
    await bench.tick(drain=(stuck.name,))
    await bench.tick()
    await bench.tick()
    assert bench.fake.replicas == 4  # the one without a pod may come any moment
    await bench.tick(drain=(unborn,))
    assert (bench.fake.replicas, [pod.name for pod in bench.fake.removed]) == (2, [stuck.name])


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"observedGeneration": 0}, "is not carried out yet"),
        ({"updatedReplicas": 1}, "a rollout of kit-worker-default is in progress: 1 of 3 pods are new"),
    ],
)
async def test_a_rollout_keeps_the_number_and_drains_nobody_more(
    bench: Bench, status: dict[str, Any], words: str
) -> None:
    names = await bench.have(3)
    await bench.drained(names[0])
    bench.fake.status = status
    for _ in range(3):
        fleet = await bench.tick()
    assert bench.fake.replicas == 3
    for action in (Action.HOLD, Action.DOWN):
        obstacle = fleet.obstacle(action)
        assert obstacle is not None
        assert obstacle.reason is Reason.VICTIMS_AMBIGUOUS
        assert words in obstacle.words
    assert fleet.obstacle(Action.UP) is None


@pytest.mark.behaviour("F12")
async def test_a_foreign_change_of_the_number_is_seen_and_not_overwritten(bench: Bench) -> None:
    await bench.have(2)
    fleet = await bench.look()
    assert len(fleet.serving) == 2
    await bench.have(5)
    with pytest.raises(ActuationError, match="was scaled from 2 to 5 meanwhile"):
        await bench.actuator.act("default", POOL, Decision(3, Action.UP, Reason.DRAIN_BACKLOG, "", start=1))
    bench.fake.between = lambda: setattr(bench.fake, "version", bench.fake.version + 1)
    with pytest.raises(ActuationError, match="cannot scale kit-worker-default: 409"):
        await bench.tick(start=1)
    bench.fake.between = None
    await bench.tick(start=1)
    assert bench.fake.replicas == 6


@pytest.mark.behaviour("F12")
async def test_a_number_that_was_set_just_before_it_falls_is_left_alone(bench: Bench) -> None:
    names = await bench.have(5)
    await bench.drained(names[0])
    looks, look = [], bench.actuator._look

    async def late(name: str) -> Any:
        if looks:
            await bench.have(8)
        looks.append(name)
        return await look(name)

    bench.actuator._look = late  # type: ignore[method-assign]
    with pytest.raises(ActuationError, match="was scaled from 5 to 8 meanwhile"):
        await bench.tick()
    assert (bench.fake.replicas, bench.fake.removed) == (8, [])
    assert (await bench.look()).manual_seconds is not None


@pytest.mark.behaviour("F10")
async def test_a_number_that_a_person_sets_is_told_from_our_own(bench: Bench) -> None:
    await bench.have(2)
    assert (await bench.tick(start=1)).manual_seconds is None  # what it was before us, nobody knows
    assert (await bench.tick()).manual_seconds is None
    await bench.have(7)
    since = [(await bench.tick()).manual_seconds or math.nan for _ in range(3)]
    assert since == sorted(since)
    assert 0 <= since[0] < since[-1] < 5
    names = list(bench.fake.pods)
    await bench.drained(names[0])
    await bench.tick()
    assert bench.fake.replicas == 6
    assert ((await bench.look()).manual_seconds or 0) > since[-1]  # our own step begins nothing anew


async def test_a_write_of_ours_whose_answer_was_lost_is_no_persons(bench: Bench) -> None:
    await bench.have(2)
    bench.actuator._cluster._timeout = 0.3
    bench.fake.answers_patches = False
    with pytest.raises(ActuationError, match=r"no answer in 0\.3 s"):
        await bench.tick(start=3)
    assert bench.fake.replicas == 5
    assert (await bench.look()).manual_seconds is None


async def test_a_number_that_comes_with_a_new_template_is_a_manifests_and_no_persons(bench: Bench) -> None:
    await bench.have(2)
    await bench.tick()
    bench.fake.image = "kit:2"
    await bench.have(1)
    assert (await bench.look()).manual_seconds is None
    bench.fake.image = "kit:3"
    assert (await bench.look()).manual_seconds is None
    await bench.have(4)
    assert (await bench.look()).manual_seconds is not None


@pytest.mark.behaviour("F16")
async def test_pods_that_crash_or_are_evicted_are_nobodys_change_of_the_number(bench: Bench) -> None:
    names = await bench.have(3)
    await bench.tick()
    del bench.fake.pods[names[0]]
    assert (await bench.tick()).manual_seconds is None
    await bench.fake.settle()
    assert (await bench.tick()).manual_seconds is None


async def test_what_another_autoscaler_or_scaler_has_set_is_no_persons(bench: Bench) -> None:
    await bench.have(2)
    await bench.tick()
    bench.fake.hpas = [HPA]
    await bench.have(5)
    assert (await bench.tick()).manual_seconds is None
    bench.fake.hpas = []
    assert (await bench.tick()).manual_seconds is None
    bench.actuator._leader.terms += 1  # another led meanwhile
    await bench.have(9)
    assert (await bench.tick()).manual_seconds is None


@pytest.mark.parametrize("mode", ["dryRun", "advise"])
async def test_where_no_number_is_set_none_is_a_persons(fake: FakeKubernetes, mode: Mode) -> None:
    made = actuator(fake, mode=mode)
    for number in (1, 4):
        fake.replicas = number
        await fake.settle()
        assert (await made.fleets())["default"].manual_seconds is None
    await closed(made)


HPA = {
    "metadata": {"name": "theirs"},
    "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": DEPLOYMENT}},
}
SCALED = {"metadata": {"name": "keda"}, "spec": {"scaleTargetRef": {"name": DEPLOYMENT}}}


@pytest.mark.parametrize(
    ("kind", "objects", "words"),
    [
        ("hpas", [HPA], "HorizontalPodAutoscaler theirs scales kit-worker-default too"),
        ("scaled_objects", [SCALED], "ScaledObject keda scales kit-worker-default too"),
    ],
)
@pytest.mark.behaviour("F11")
async def test_a_deployment_that_something_else_scales_is_left_alone_until_that_is_gone(
    bench: Bench, kind: str, objects: list[Any], words: str
) -> None:
    names = await bench.have(3)
    await bench.drained(names[0])
    setattr(bench.fake, kind, objects)
    fleet = await bench.look()
    for action in Action:
        obstacle = fleet.obstacle(action)
        assert obstacle is not None
        assert (obstacle.reason, obstacle.words) == (Reason.PAUSED, words)
    await bench.tick()
    assert not bench.fake.pods[names[0]].worker["draining"]  # nobody else would let it go on
    assert bench.fake.replicas == 3
    setattr(bench.fake, kind, [])
    assert (await bench.look()).obstacles == ()


async def test_scalers_of_other_deployments_and_a_cluster_without_keda_are_fine(bench: Bench) -> None:
    await bench.have(1)
    bench.fake.hpas = [
        {"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": k, "name": n}}}
        for k, n in (("Deployment", "web"), ("StatefulSet", DEPLOYMENT))
    ]
    assert (await bench.look()).obstacles == ()


@pytest.mark.parametrize(
    ("where", "code", "words"),
    [
        ("/horizontalpodautoscalers", 403, "cannot list HorizontalPodAutoscalers: 403 fault 403"),
        ("/scaledobjects", 403, "cannot list ScaledObjects: 403"),
        (f"/deployments/{DEPLOYMENT}", 404, f"cannot read Deployment {DEPLOYMENT}: 404"),
        ("/pods", 500, "cannot list pods: 500"),
        ("/pods", 429, "cannot list pods: 429"),
        ("/pods", None, "cannot list pods: no answer in 0.3 s"),
    ],
)
@pytest.mark.behaviour("F13")
async def test_a_fault_of_the_api_is_told_in_words_and_the_next_look_is_good(
    bench: Bench, where: str, code: int | None, words: str
) -> None:
    await bench.have(1)
    bench.actuator._cluster._timeout = 0.3
    bench.fake.faults = {where: code}
    assert words in (await bench.look()).unknown
    bench.fake.faults = {}
    assert len((await bench.look()).serving) == 1


@pytest.mark.parametrize("code", [403, 409, 429, 500, 503])
@pytest.mark.behaviour("F13")
async def test_a_number_that_the_api_does_not_take_is_told_and_tried_once_a_tick(
    bench: Bench, code: int
) -> None:
    await bench.have(1)
    tries = []

    def refuse() -> None:
        tries.append(code)
        raise HTTPError(code)

    bench.fake.between = refuse
    for number in range(1, 4):
        with pytest.raises(ActuationError, match=f"cannot scale {DEPLOYMENT}: .*{code}"):
            await bench.tick(start=2)
        assert len(tries) == number
    bench.fake.between = None
    await bench.tick(start=2)
    assert bench.fake.replicas == 3
    assert (await bench.look()).manual_seconds is None


async def test_a_cluster_that_is_gone_is_told_in_words(fake: FakeKubernetes, tmp_path: Path) -> None:
    text = (tmp_path / "kubeconfig").read_text()
    (tmp_path / "kubeconfig").write_text(text.replace(fake.url, "http://127.0.0.1:1"))
    fleets = await actuator(fake).fleets()
    assert "Kubernetes: cannot list HorizontalPodAutoscalers: " in fleets["default"].unknown


async def test_a_token_that_was_replaced_is_read_anew(bench: Bench, tmp_path: Path) -> None:
    await bench.have(1)
    assert (await bench.look()).unknown == ""
    bench.fake.token = "rotated"
    assert "401 Unauthorized" in (await bench.look()).unknown
    (tmp_path / "token").write_text("rotated\n")
    assert (await bench.look()).unknown == ""


@pytest.mark.behaviour("F7")
async def test_pods_that_find_no_room_are_told_and_after_a_while_no_more_are_asked_for(bench: Bench) -> None:
    await bench.have(1)
    unschedulable = [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu"}]
    bench.fake.replicas = 2
    bench.fake.add(ready=False, running=False, conditions=unschedulable, created="2026-11-23T12:05:00Z")
    obstacle = (await bench.look()).obstacle(Action.UP)
    assert obstacle is not None
    assert obstacle.reason is Reason.UNSCHEDULABLE
    assert obstacle.words.endswith("0/1 nodes: Insufficient cpu")


@pytest.mark.behaviour("F7")
async def test_no_room_in_a_quota_is_told(bench: Bench) -> None:
    await bench.have(1)
    bench.fake.status = {
        "conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]
    }
    obstacle = (await bench.look()).obstacle(Action.UP)
    assert obstacle is not None
    assert (obstacle.reason, obstacle.words) == (
        Reason.UNSCHEDULABLE,
        f"{DEPLOYMENT} cannot make a pod: exceeded quota",
    )


async def test_a_pool_that_is_configured_no_more_keeps_its_number_and_its_workers_go_on(bench: Bench) -> None:
    names = await bench.have(3)
    await bench.drained(names[0])
    await bench.look()
    gone = Decision(0, Action.DOWN, Reason.AT_MAX, "", drain=tuple(names))
    await bench.actuator.act("default", None, gone)
    assert bench.fake.replicas == 3
    assert not any(pod.worker["draining"] for pod in bench.fake.pods.values())


async def test_changes_and_troubles_become_events_and_quiet_holds_do_not(bench: Bench) -> None:
    await bench.have(1)
    await bench.look()
    tell = bench.actuator.tell
    tell("default", Decision(1, Action.HOLD, Reason.DEADBAND, "quiet"), None)
    tell("default", Decision(3, Action.UP, Reason.DRAIN_BACKLOG, "backlog 25"), None)
    tell("default", Decision(1, Action.HOLD, Reason.QUERY_ERROR, "no answer"), None)
    tell("default", Decision(1, Action.DOWN, Reason.IDLE, "backlog 0"), "a conflict")
    events = await bench.events(3)
    assert [(event["type"], event["reason"], event["message"]) for event in events] == [
        ("Normal", "ScaledUp", "DrainBacklog: backlog 25"),
        ("Warning", "Held", "QueryError: no answer"),
        ("Warning", "ScaledDown", "Idle: backlog 0; a conflict"),
    ]
    about = events[0]["involvedObject"]
    assert (about["kind"], about["name"], about["uid"]) == ("Deployment", DEPLOYMENT, f"uid-{DEPLOYMENT}")


@pytest.mark.parametrize(("mode", "reason"), [("dryRun", "WouldScaleUp"), ("advise", "AdvisedUp")])
async def test_an_event_of_what_is_not_done_does_not_say_that_it_was(
    fake: FakeKubernetes, mode: Mode, reason: str
) -> None:
    made = actuator(fake, mode=mode)
    await fake.settle()
    await made.fleets()
    telling = asyncio.create_task(made._make_events())
    made.tell("default", Decision(3, Action.UP, Reason.DRAIN_BACKLOG, "backlog 25"), None)
    assert (await asyncio.wait_for(fake.events.get(), 5))["reason"] == reason
    telling.cancel()
    await closed(made)


@pytest.mark.parametrize(("mode", "paused"), [("dryRun", True), ("advise", False)])
async def test_advice_is_given_to_whoever_scales_the_deployment(
    fake: FakeKubernetes, mode: Mode, paused: bool
) -> None:
    fake.hpas = [HPA]
    if not paused:
        fake.faults = {"/horizontalpodautoscalers": 403, "/scaledobjects": 403}  # its Role has no such right
    made = actuator(fake, mode=mode)
    await fake.settle()
    fleet = (await made.fleets())["default"]
    assert fleet.unknown == ""
    assert bool(fleet.obstacle(Action.UP)) is paused
    await closed(made)


@pytest.mark.behaviour("F13")
async def test_calls_that_fail_are_counted_by_verb_and_code_and_a_missing_kind_is_no_failure(
    fake: FakeKubernetes,
) -> None:
    made = actuator(fake, timeout=1)
    errors = made._cluster._errors
    await fake.settle()
    await made.fleets()  # without KEDA
    assert not errors.collect()[0].samples
    fake.faults = {"/pods": 403, f"/deployments/{DEPLOYMENT}/scale": None}
    await made.fleets()
    with pytest.raises(ActuationError):
        await made._cluster.scale(DEPLOYMENT)
    counted = {
        (s.labels["verb"], s.labels["code"]): s.value
        for s in errors.collect()[0].samples
        if s.name.endswith("_total")
    }
    assert counted == {("list", "403"): 1, ("get", "0"): 1}
    await closed(made)


async def test_events_are_few_though_decisions_flap(bench: Bench) -> None:
    await bench.have(1)
    await bench.look()
    for n in range(100):
        bench.actuator.tell("default", Decision(n, Action.UP, Reason.DRAIN_BACKLOG, str(n)), None)
    await bench.events(10)
    assert bench.actuator._events.empty()


@pytest.mark.behaviour("F14")
async def test_no_more_is_done_once_the_lease_is_not_ours(bench: Bench) -> None:
    await bench.have(1)
    await bench.look()
    bench.actuator._leader.until = 0
    with pytest.raises(ActuationError, match="the lease was not renewed in time"):
        await bench.actuator.act("default", POOL, Decision(2, Action.UP, Reason.DRAIN_BACKLOG, "", start=1))
    assert bench.fake.replicas == 1
