"""How many workers: the policy `threshold` and the rules that hold for every policy."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.config import Autoscale
from autoscaler.decide import decide
from autoscaler.model import (
    Action,
    Decision,
    Fleet,
    Observation,
    Obstacle,
    Reason,
    Signal,
    State,
    Worker,
)
from autoscaler.policies import estimate

BAD = (Reason.HOLD_STALE_METRICS, Reason.QUERY_ERROR, Reason.SEVERAL_SERIES)
NOW = 1000.0
WINDOW = 60.0


def threshold(**keys: Any) -> Autoscale:
    return Autoscale(policy="threshold", **{"down_window_seconds": WINDOW, **keys})


DEFAULTS = threshold()


def fleet(serving: int, draining: int = 0, draining_seconds: float = 1.0) -> Fleet:
    return Fleet(
        tuple(Worker(f"w{i}", started=i, ready=True) for i in range(serving))
        + tuple(Worker(f"d{i}", started=i, draining_seconds=draining_seconds) for i in range(draining))
    )


def seen(backlog: float, workers: Fleet, problem: Reason | None = None) -> Observation:
    ready = Signal("default", "ready", backlog, 1.0)
    return Observation((ready,), problem, "why" if problem else "", workers)


def watched(*asked: tuple[float, int], scale: Autoscale = DEFAULTS, stepped_down: float = -math.inf) -> State:
    """A state whose down window is filled, with what was asked for so many seconds ago."""
    history = tuple((NOW - ago, number) for ago, number in asked) or ((NOW - 1, 0),)
    return State(history, NOW - (scale.down_window_seconds or 0) - 1, stepped_down=stepped_down)


def step(
    backlog: float,
    workers: Fleet | int,
    state: State | None = None,
    scale: Autoscale = DEFAULTS,
    problem: Reason | None = None,
    now: float = NOW,
) -> tuple[Decision, State]:
    there = fleet(workers) if isinstance(workers, int) else workers
    state = watched(scale=scale) if state is None else state
    asked, _ = estimate(state.memory, seen(backlog, there, problem), scale, now)
    return decide(state, asked, scale, now)


@pytest.mark.parametrize(
    ("backlog", "workers", "expected", "reason"),
    [
        # 10 messages a worker: up above 10 x N, down below 5 x N
        (11, 1, 2, Reason.DRAIN_BACKLOG),
        (10, 1, 1, Reason.DEADBAND),
        (95, 1, 10, Reason.DRAIN_BACKLOG),
        (1000, 1, 10, Reason.DRAIN_BACKLOG),
        (1000, 10, 10, Reason.AT_MAX),
        (20, 4, 4, Reason.DEADBAND),
        (19, 4, 2, Reason.IDLE),
        (0, 4, 1, Reason.IDLE),
        (0, 1, 1, Reason.AT_MIN),
        (0, 0, 1, Reason.AT_MIN),
        (25, 0, 3, Reason.DRAIN_BACKLOG),
        (500, 12, 10, Reason.AT_MAX),
        (0, 12, 1, Reason.AT_MAX),
    ],
)
def test_threshold_decides_by_the_table(backlog: int, workers: int, expected: int, reason: Reason) -> None:
    decision, _ = step(backlog, workers)
    assert (decision.workers, decision.reason) == (expected, reason)


def test_thresholds_are_factors_of_what_the_workers_hold() -> None:
    scale = threshold(target_backlog_per_worker=2, up_threshold=1.5, down_threshold=0.25)
    assert step(9, 3, scale=scale)[0].action is Action.HOLD  # 9 = 1.5 x 2 x 3
    assert step(10, 3, scale=scale)[0].workers == 5
    assert step(1.5, 3, scale=scale)[0].action is Action.HOLD  # 1.5 = 0.25 x 2 x 3
    assert step(1, 3, scale=scale)[0].workers == 1


def test_an_upper_threshold_below_one_never_shrinks() -> None:
    scale = threshold(up_threshold=0.5, down_threshold=0.1)
    decision, _ = step(12, 2, scale=scale)  # 12 > 0.5 x 10 x 2, but ceil(12 / 10) = 2
    assert decision.action is Action.HOLD


def test_unacknowledged_messages_keep_the_last_worker() -> None:
    scale = threshold(min_workers=0)
    observation = Observation(
        (Signal("default", "ready", 0, 1), Signal("default", "unacknowledged", 1, 1)), fleet=fleet(3)
    )
    asked, _ = estimate(None, observation, scale, NOW)
    decision, _ = decide(watched(), asked, scale, NOW)
    assert decision.workers == 1


def test_down_goes_to_the_most_that_was_asked_for_within_the_window() -> None:
    assert step(0, 8, watched((61, 9), (59, 5), (5, 2)))[0].workers == 5
    decision, _ = step(0, 8, watched((59, 8), (5, 2)))
    assert (decision.workers, decision.reason) == (8, Reason.STABILIZING)


def test_down_steps_are_a_cooldown_apart() -> None:
    decision, _ = step(0, 5, watched(stepped_down=NOW - 29))
    assert (decision.workers, decision.reason) == (5, Reason.COOLDOWN)
    decision, state = step(0, 5, watched((5, 3), stepped_down=NOW - 30), threshold(down_window_seconds=10))
    assert decision.workers == 3
    decision, state = step(0, 3, state, threshold(down_window_seconds=10), now=NOW + 25)
    assert (decision.workers, decision.reason) == (3, Reason.COOLDOWN)
    assert step(0, 3, state, threshold(down_window_seconds=10), now=NOW + 30)[0].workers == 1


@pytest.mark.behaviour("F9")
def test_a_restart_holds_down_until_the_window_is_filled_and_lets_up_through() -> None:
    state = State()
    for second in range(0, 60, 5):
        decision, state = step(0, 5, state, now=NOW + second)
        assert (decision.workers, decision.reason) == (5, Reason.RESTART_HOLD)
    assert step(0, 5, state, now=NOW + 60)[0].workers == 1
    assert step(100, 5, State())[0].workers == 10


def test_a_gap_in_the_data_begins_the_window_anew() -> None:
    _, state = step(0, 5, watched((5, 0)), problem=Reason.QUERY_ERROR)
    decision, state = step(0, 5, state, now=NOW + 40)  # the last good data were 45 s ago, more than 30
    assert (decision.workers, decision.reason) == (5, Reason.STABILIZING)
    for second in range(45, 100, 5):
        decision, state = step(0, 5, state, now=NOW + second)
        assert decision.workers == 5
    assert step(0, 5, state, now=NOW + 100)[0].workers == 1


def test_one_missed_sample_is_no_gap() -> None:
    _, state = step(0, 5, watched((5, 0)), problem=Reason.QUERY_ERROR)
    assert step(0, 5, state, now=NOW + 5)[0].workers == 1


@pytest.mark.parametrize("problem", BAD)
def test_bad_data_hold_the_number_but_never_below_the_minimum(problem: Reason) -> None:
    decision, _ = step(0, 5, problem=problem)
    assert (decision.workers, decision.reason, decision.action) == (5, problem, Action.HOLD)
    assert "why" in decision.words
    decision, _ = step(0, 1, scale=threshold(min_workers=3), problem=problem)
    assert (decision.workers, decision.reason, decision.start) == (3, Reason.AT_MIN, 2)
    assert step(0, 12, problem=problem)[0].workers == 12


def test_victims_are_not_ready_then_idle_then_newest() -> None:
    workers = Fleet(
        (
            Worker("old-idle", 1, ready=True),
            Worker("new-idle", 2, ready=True),
            Worker("busy", 5, ready=True, active=1),
            Worker("reserved", 4, ready=True, reserved=1),
            Worker("starting", 0),
        )
    )
    assert step(19, workers)[0].drain == ("starting", "new-idle", "old-idle")
    assert step(9, workers)[0].drain == ("starting", "new-idle", "old-idle", "reserved")


def test_more_recalls_draining_workers_before_it_starts_new_ones() -> None:
    decision, _ = step(25, fleet(1, draining=1))
    assert (decision.reason, decision.recall, decision.start) == (Reason.RECALLED, ("d0",), 1)
    assert decision.workers == 3


def test_a_drain_that_takes_too_long_is_recalled_and_not_begun_again_at_once() -> None:
    there = fleet(1, draining=2, draining_seconds=601)
    decision, state = step(7, there)
    assert (decision.action, decision.reason) == (Action.UP, Reason.RECALLED)
    assert (set(decision.recall), decision.workers) == ({"d0", "d1"}, 3)
    decision, _ = step(0, 3, state, now=NOW + 5)
    assert (decision.workers, decision.reason) == (3, Reason.COOLDOWN)


def barred(*actions: Action, workers: Fleet, reason: Reason = Reason.UNSCHEDULABLE) -> Fleet:
    return replace(workers, obstacles=(Obstacle(reason, "the obstacle", frozenset(actions)),))


@pytest.mark.parametrize(
    ("bars", "backlog", "expected", "reason"),
    [
        ((Action.UP,), 100, 4, Reason.UNSCHEDULABLE),
        ((Action.UP,), 0, 1, Reason.IDLE),
        ((Action.UP,), 30, 4, Reason.DEADBAND),
        ((Action.DOWN,), 0, 4, Reason.UNSCHEDULABLE),
        ((Action.DOWN,), 100, 10, Reason.DRAIN_BACKLOG),
        ((Action.HOLD,), 30, 4, Reason.UNSCHEDULABLE),
        ((Action.HOLD,), 100, 10, Reason.DRAIN_BACKLOG),
    ],
)
def test_an_obstacle_holds_what_it_bars_and_tells_itself(
    bars: tuple[Action, ...], backlog: int, expected: int, reason: Reason
) -> None:
    decision, state = step(backlog, barred(*bars, workers=fleet(4)))
    assert (decision.workers, decision.reason) == (expected, reason)
    if reason is Reason.UNSCHEDULABLE:
        assert decision.action is Action.HOLD
        assert decision.words.startswith("the obstacle; backlog")
        assert state.stepped_down == -math.inf


def test_workers_that_are_there_are_recalled_past_an_obstacle() -> None:
    decision, _ = step(100, barred(Action.UP, workers=fleet(4, draining=2)))
    assert (decision.workers, decision.start, set(decision.recall)) == (6, 0, {"d0", "d1"})


def test_a_drain_that_takes_too_long_is_recalled_past_an_obstacle() -> None:
    decision, _ = step(30, barred(Action.HOLD, workers=fleet(4, draining=1, draining_seconds=601)))
    assert (decision.reason, decision.recall) == (Reason.RECALLED, ("d0",))


def manual(there: int, ago: float = 10, draining: int = 0) -> Fleet:
    return replace(fleet(there, draining), manual_seconds=ago)


@pytest.mark.parametrize("policy", ["slo", "threshold"])
@pytest.mark.parametrize(("backlog", "workers"), [(1000, 2), (0, 7), (30, 3)])
@pytest.mark.behaviour("F10")
def test_a_number_that_somebody_else_has_set_is_kept_for_a_while(
    policy: str, backlog: int, workers: int
) -> None:
    scale = Autoscale(policy=policy, down_window_seconds=WINDOW)
    decision, _ = step(backlog, manual(workers), scale=scale)
    assert (decision.workers, decision.action, decision.reason) == (workers, Action.HOLD, Reason.MANUAL_HOLD)
    assert decision.words.endswith(f"somebody else has set {workers} 10 s ago, which is kept for 300 s")


@pytest.mark.parametrize(("ago", "hold"), [(300, 300), (0, 0)])
@pytest.mark.behaviour("F10")
def test_when_the_while_is_over_or_none_scaling_goes_on(ago: float, hold: float) -> None:
    scale = threshold(manual_hold_seconds=hold)
    assert step(1000, manual(2, ago), scale=scale)[0].workers == 10
    assert step(0, manual(7, ago), scale=scale)[0].workers == 1


@pytest.mark.behaviour("F10")
def test_a_number_that_somebody_else_has_set_counts_within_the_limits() -> None:
    decision, _ = step(1000, manual(0))
    assert (decision.workers, decision.reason) == (1, Reason.AT_MIN)
    decision, _ = step(0, manual(12))
    assert (decision.workers, decision.reason) == (10, Reason.AT_MAX)
    decision, _ = step(0, manual(12), State())
    assert (decision.workers, decision.reason) == (12, Reason.RESTART_HOLD)


def test_workers_that_drain_while_somebody_else_sets_the_number_are_among_those_that_were_meant() -> None:
    decision, _ = step(0, manual(4, draining=3))
    assert (decision.workers, set(decision.recall)) == (7, {"d0", "d1", "d2"})


def test_what_is_wrong_with_the_data_is_told_before_a_number_that_somebody_else_has_set() -> None:
    decision, _ = step(0, manual(7), problem=Reason.QUERY_ERROR)
    assert (decision.workers, decision.reason) == (7, Reason.QUERY_ERROR)


scales = st.builds(
    lambda low, extra, target, up, down, window, cooldown: threshold(
        min_workers=low,
        max_workers=max(1, low + extra),
        target_backlog_per_worker=target,
        up_threshold=up,
        down_threshold=down * up,
        down_window_seconds=window,
        cooldown_seconds=cooldown,
    ),
    st.integers(0, 5),
    st.integers(0, 20),
    st.floats(0.1, 100),
    st.floats(0.1, 3),
    st.floats(0, 0.99),
    st.integers(0, 120),
    st.integers(0, 120),
)
backlogs = st.integers(0, 3000)
fleets = st.builds(fleet, st.integers(0, 30), st.integers(0, 5), st.sampled_from([1.0, 599.0, 601.0]))
manual_fleets = st.builds(manual, st.integers(0, 30), st.floats(0, 299), st.integers(0, 5))
states = st.builds(
    lambda asked, since, after_gap, stepped: State(
        tuple(sorted((NOW - ago, number) for ago, number in asked)), NOW - since, after_gap, NOW - stepped
    ),
    st.lists(st.tuples(st.integers(0, 150), st.integers(0, 40)), max_size=8),
    st.integers(0, 200),
    st.booleans(),
    st.integers(0, 200),
)


@given(scales, states, fleets, backlogs, backlogs)
def test_a_larger_backlog_never_gives_fewer_workers(
    scale: Autoscale, state: State, there: Fleet, one: int, other: int
) -> None:
    there = replace(there, workers=there.serving)
    small, large = sorted((one, other))
    assert step(small, there, state, scale)[0].workers <= step(large, there, state, scale)[0].workers


@given(scales, states, fleets, backlogs, st.sampled_from(BAD))
def test_bad_data_never_shrink(
    scale: Autoscale, state: State, there: Fleet, backlog: int, problem: Reason
) -> None:
    decision, _ = step(backlog, there, state, scale, problem)
    assert decision.workers >= len(there.serving)
    assert not decision.drain
    if len(there.serving) >= scale.min_workers and decision.reason is not Reason.RECALLED:
        assert (decision.workers, decision.reason) == (len(there.serving), problem)


@given(scales, states, manual_fleets, backlogs, st.sampled_from((None, *BAD)))
def test_a_number_that_somebody_else_has_set_changes_to_the_next_limit_at_most(
    scale: Autoscale, state: State, there: Fleet, backlog: int, problem: Reason | None
) -> None:
    decision, _ = step(backlog, there, state, scale, problem)
    low, high, was = scale.min_workers, scale.max_workers, len(there.workers)
    if low <= was <= high:
        assert decision.workers == was
    else:
        assert low <= decision.workers <= max(high, was)
        assert decision.workers >= min(high, was)


@given(scales, states, st.one_of(fleets, manual_fleets), backlogs, st.sampled_from((None, *BAD)))
def test_the_number_stays_within_the_limits_but_for_holds_and_what_cannot_be_drained(
    scale: Autoscale, state: State, there: Fleet, backlog: int, problem: Reason | None
) -> None:
    decision, _ = step(backlog, there, state, scale, problem)
    assert decision.workers >= scale.min_workers
    assert decision.workers <= max(scale.max_workers, len(there.workers))
    if decision.start:
        assert decision.workers <= scale.max_workers


@given(scales, states, st.one_of(fleets, manual_fleets), backlogs, st.sampled_from((None, *BAD)))
def test_a_decision_is_of_one_piece(
    scale: Autoscale, state: State, there: Fleet, backlog: int, problem: Reason | None
) -> None:
    decision, _ = step(backlog, there, state, scale, problem)
    change = decision.start + len(decision.recall) - len(decision.drain)
    assert decision.workers == len(there.serving) + change
    assert set(decision.drain) <= {worker.name for worker in there.serving}
    assert set(decision.recall) <= {worker.name for worker in there.draining}
    if decision.start:
        assert len(decision.recall) == len(there.draining)
    expected = Action.UP if change > 0 else Action.DOWN if change < 0 else Action.HOLD
    assert decision.action is expected
    assert decision.words


@given(scales, states, fleets, backlogs)
def test_the_same_look_again_changes_nothing_more(
    scale: Autoscale, state: State, there: Fleet, backlog: int
) -> None:
    there = replace(there, workers=there.serving)
    decision, after = step(backlog, there, state, scale)
    assert step(backlog, there, state, scale) == (decision, after)
    again, _ = step(backlog, decision.workers, after, scale)
    if scale.cooldown_seconds or decision.action is not Action.DOWN:
        assert again.action is Action.HOLD


@given(scales, st.lists(backlogs, min_size=2, max_size=40), st.integers(1, 20))
def test_a_simulated_pool_steps_down_at_most_once_in_a_cooldown(
    scale: Autoscale, course: list[int], tick: int
) -> None:
    number, state, last_down = 10, State(), -math.inf
    for index, backlog in enumerate(course):
        now = float(index * tick)
        decision, state = step(backlog, number, state, scale, now=now)
        if decision.workers < number:
            assert now - last_down >= scale.cooldown_seconds
            assert now >= (scale.down_window_seconds or 0)
            last_down = now
        number = decision.workers


@given(scales, states, st.integers(1, 3000))
def test_from_zero_any_backlog_gives_workers_at_the_next_tick(
    scale: Autoscale, state: State, backlog: int
) -> None:
    decision, _ = step(backlog, 0, state, scale)
    assert decision.workers >= 1
    assert decision.workers == max(
        min(math.ceil(backlog / scale.target_backlog_per_worker), scale.max_workers), scale.min_workers
    )
