"""What a Deployment and its pods come to, as tables: the fleet, and whether the number may fall."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.model import Action, Answer, Reason
from autoscaler.pods import PATIENCE_SECONDS, SETTLED_SECONDS, Deployment, Pod, View, fleet, removable

NOW = 1000.0
WORKS, BUSY = Answer(ready=True), Answer(ready=True, active=1)
DRAINED, DRAINS = Answer(draining=True), Answer(draining=True, active=1)
RESERVES = Answer(draining=True, reserved=1)
NO_ROOM = (Reason.UNSCHEDULABLE, "Insufficient cpu")


def deployment(replicas: int, rollout: str = "", failure: str = "") -> Deployment:
    return Deployment("kit", "uid", "7", replicas, {}, rollout, failure)


def pod(name: str, created: float = 0, **what: object) -> Pod:
    made = Pod(name, created, owner="rs", address="10.0.0.1", ready=True, running=True)
    return replace(made, **what)  # type: ignore[arg-type]


def view(
    replicas: int, *pods: tuple[Pod, Answer | None], told: Iterable[str] = (), seconds: float = 1.0
) -> View:
    answers = {pod.name: answer for pod, answer in pods if answer}
    return View(deployment(replicas), tuple(pod for pod, _ in pods), answers, dict.fromkeys(told, seconds))


A, B, C = (pod(name) for name in "abc")
A_DOWN, B_DOWN, C_DOWN = (pod(name, ready=False) for name in "abc")
WAITS = pod("a", ready=False, running=False)
EMPTY = frozenset("abc")


@pytest.mark.parametrize(
    ("seen", "before", "unborn", "expected"),
    [
        pytest.param(view(2, (A, WORKS), (B, BUSY)), EMPTY, 0, 0, id="nobody drains"),
        pytest.param(view(2, (A_DOWN, DRAINED), (B, BUSY)), EMPTY, 0, 1, id="a drained, empty victim"),
        pytest.param(
            view(3, (A_DOWN, DRAINED), (B, WORKS), (C_DOWN, DRAINED)), EMPTY, 0, 2, id="two such victims"
        ),
        pytest.param(view(1, (A_DOWN, DRAINED)), EMPTY, 0, 1, id="the last one"),
        pytest.param(view(2, (A_DOWN, DRAINED), (B, WORKS)), "", 0, 0, id="empty for the first time"),
        pytest.param(view(2, (A_DOWN, DRAINS), (B, WORKS)), EMPTY, 0, 0, id="a task runs"),
        pytest.param(view(2, (A_DOWN, RESERVES), (B, WORKS)), EMPTY, 0, 0, id="a task is held"),
        pytest.param(
            view(3, (A_DOWN, DRAINED), (B, DRAINS), (C, WORKS), told="b", seconds=SETTLED_SECONDS),
            EMPTY,
            0,
            1,
            id="one of two is busy and stays ready",
        ),
        pytest.param(
            view(3, (A_DOWN, DRAINED), (B, DRAINS), (C, WORKS), told="b", seconds=SETTLED_SECONDS - 1),
            EMPTY,
            0,
            0,
            id="one of two is busy and may not stay ready",
        ),
        pytest.param(
            view(3, (A_DOWN, DRAINED), (B, None), (C, WORKS), told="b", seconds=SETTLED_SECONDS),
            EMPTY,
            0,
            0,
            id="one of two does not answer",
        ),
        pytest.param(
            view(3, (A_DOWN, DRAINED), (B, BUSY), (C, WORKS), told="b", seconds=SETTLED_SECONDS),
            EMPTY,
            0,
            0,
            id="one of two does not drain yet",
        ),
        pytest.param(
            view(3, (A_DOWN, DRAINED), (B_DOWN, DRAINS), (C, WORKS)), EMPTY, 0, 0, id="and not ready"
        ),
        pytest.param(
            view(3, (A_DOWN, DRAINED), (B_DOWN, DRAINED), (C, WORKS)), "a", 0, 0, id="one was not empty yet"
        ),
        pytest.param(view(2, (A, DRAINED), (B, WORKS)), EMPTY, 0, 0, id="ready, as Kubernetes believes"),
        pytest.param(
            view(2, (A_DOWN, None), (B, WORKS), told="a"), EMPTY, 0, 0, id="a victim that does not answer"
        ),
        pytest.param(view(2, (WAITS, None), (B, WORKS), told="a"), EMPTY, 0, 1, id="nothing runs in it"),
        pytest.param(view(2, (WAITS, None), (B, WORKS)), EMPTY, 0, 0, id="nobody told it to go"),
        pytest.param(
            view(2, (A_DOWN, DRAINED), (B_DOWN, WORKS)), EMPTY, 0, "b is not ready,", id="another not ready"
        ),
        pytest.param(
            view(2, (A_DOWN, DRAINED), (B, Answer())), EMPTY, 0, "b is not ready,", id="it says so itself"
        ),
        pytest.param(
            view(2, (A_DOWN, DRAINED), (B, None)), EMPTY, 0, "b does not answer,", id="it does not answer"
        ),
        pytest.param(
            view(3, (A_DOWN, DRAINED), (B, WORKS)), EMPTY, 0, "kit has 2 pods for 3", id="a pod is to come"
        ),
        pytest.param(
            view(1, (A_DOWN, DRAINED), (B, WORKS)), EMPTY, 0, "kit has 2 pods for 1", id="a pod is to go"
        ),
        pytest.param(
            view(2, (A_DOWN, DRAINED), (pod("b", owner="new"), WORKS)),
            EMPTY,
            0,
            "the pods of kit are of more than one ReplicaSet",
            id="two ReplicaSets",
        ),
        pytest.param(
            replace(view(2, (A_DOWN, DRAINED), (B, WORKS)), deployment=deployment(2, "a rollout")),
            EMPTY,
            0,
            "a rollout",
            id="a rollout",
        ),
        pytest.param(view(3, (A, WORKS), (B, WORKS)), "", 1, 1, id="a replica without a pod"),
        pytest.param(view(3, (A_DOWN, DRAINED), (B, WORKS)), EMPTY, 1, 2, id="and a drained one"),
        pytest.param(view(3, (A_DOWN, DRAINS), (B, WORKS)), EMPTY, 1, 0, id="and a busy one"),
        pytest.param(
            view(4, (A, WORKS), (B, WORKS)),
            "",
            1,
            "kit has 2 pods for 4 replicas, of which 1 shall",
            id="both",
        ),
    ],
)
def test_the_number_falls_by_exactly_the_pods_that_may_go(
    seen: View, before: str, unborn: int, expected: int | str
) -> None:
    found = removable(seen, before, unborn)
    assert found == expected if isinstance(expected, int) else str(found).startswith(expected)


answers = st.sampled_from([None, WORKS, BUSY, DRAINED, DRAINS, RESERVES, Answer()])
pods = st.builds(
    lambda ready, running, owner: pod("", ready=ready, running=running, owner=owner),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["rs", "rs", "rs", "old"]),
)
views = st.builds(
    lambda replicas, found, told, rollout: View(
        deployment(replicas, rollout),
        tuple(replace(pod, name=str(n), created=n) for n, (pod, _) in enumerate(found)),
        {str(n): answer for n, (_, answer) in enumerate(found) if answer},
        dict.fromkeys(told, 1.0),
    ),
    st.integers(0, 8),
    st.lists(st.tuples(pods, answers), max_size=8),
    st.sets(st.sampled_from("01234567")),
    st.sampled_from(["", "", "a rollout"]),
)


@given(views, st.integers(0, 3))
def test_what_a_replica_set_removes_is_never_a_worker_that_may_hold_a_task(seen: View, unborn: int) -> None:
    found = removable(seen, "01234567", unborn)
    if not isinstance(found, int) or not found:
        return
    left = seen.deployment.replicas - found
    not_ready_first = sorted(seen.pods, key=lambda pod: pod.ready)
    for going in not_ready_first[: max(0, len(seen.pods) - left)]:
        assert seen.answer(going).drained or not going.running
        assert not going.ready
    for stays in (pod for pod in seen.pods if pod.name not in seen.empty):
        assert stays.ready
        assert seen.answer(stays).ready or seen.answer(stays).draining


@given(views)
def test_the_workers_are_as_many_as_the_replicas(seen: View) -> None:
    found = fleet(seen, NOW)
    assert len(found.workers) == seen.deployment.replicas
    assert len({worker.name for worker in found.workers}) == len(found.workers)


def test_a_replica_without_a_pod_is_a_worker_that_comes() -> None:
    found = fleet(view(3, (A, WORKS)), NOW)
    assert [(worker.name, worker.ready) for worker in found.serving] == [
        ("a", True),
        ("kit #2", False),
        ("kit #3", False),
    ]


def test_pods_too_many_are_not_counted_and_the_drained_ones_are_the_first_of_them() -> None:
    lowered = view(1, (A, WORKS), (B_DOWN, DRAINED), (C_DOWN, DRAINED))
    assert [worker.name for worker in fleet(lowered, NOW).workers] == ["a"]
    assert fleet(lowered, NOW).obstacles == ()
    surge = view(2, (A, WORKS), (B, BUSY), (pod("new", 5, ready=False), None))
    assert [worker.name for worker in fleet(surge, NOW).workers] == ["a", "b"]


def test_a_worker_drains_since_it_was_told_or_says_so() -> None:
    found = fleet(view(3, (A, WORKS), (B, DRAINS), (C, None), told="c"), NOW)
    assert [(worker.name, worker.draining_seconds) for worker in found.draining] == [("b", 0.0), ("c", 1.0)]


ROOMLESS = {"ready": False, "running": False, "trouble": NO_ROOM}


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        pytest.param((0, NOW - PATIENCE_SECONDS - 1), {Action.HOLD, Action.UP}, id="the newest, for long"),
        pytest.param((0, NOW - PATIENCE_SECONDS + 1), {Action.HOLD}, id="the newest, not for long"),
        pytest.param((NOW - 1, 0), {Action.HOLD}, id="not the newest"),
    ],
)
@pytest.mark.behaviour("F7")
def test_no_more_are_asked_for_while_the_newest_pod_does_not_come_up(
    created: tuple[float, float], expected: set[Action]
) -> None:
    seen = view(2, (pod("a", created[0]), WORKS), (pod("b", created[1], **ROOMLESS), None))
    (obstacle,) = fleet(seen, NOW).obstacles
    assert (obstacle.reason, set(obstacle.bars)) == (Reason.UNSCHEDULABLE, expected)
    assert obstacle.words == "b does not come up: Insufficient cpu"


def test_what_bars_most_is_told_first() -> None:
    seen = view(2, (A_DOWN, DRAINED), (pod("b", **ROOMLESS), None))
    seen = replace(seen, deployment=deployment(2, "a rollout", "a quota"))
    reasons = [obstacle.reason for obstacle in fleet(seen, NOW, "HorizontalPodAutoscaler x").obstacles]
    assert reasons == [
        Reason.PAUSED,
        Reason.VICTIMS_AMBIGUOUS,
        Reason.UNSCHEDULABLE,
        Reason.UNSCHEDULABLE,
    ]


def test_a_worker_has_as_many_slots_as_it_says() -> None:
    seen = fleet(view(3, (A, Answer(ready=True, slots=4)), (B, None)), NOW)
    assert [worker.slots for worker in seen.workers] == [4, 0, 0]
