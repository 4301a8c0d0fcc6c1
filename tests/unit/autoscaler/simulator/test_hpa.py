"""The port of the HorizontalPodAutoscaler does what Kubernetes documents of it.

The examples are those of kubernetes.io/docs: "Horizontal Pod Autoscaling" (here HPA), its sections "Algorithm
details" and "Configurable scaling behavior", and of KEP-853, "Configurable scale velocity for HPA".
"""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.model import Action, Reason
from autoscaler.policies import hpa
from autoscaler.policies.hpa import Behavior, ScalingPolicy, ScalingRules
from tests.unit.autoscaler.simulator.replay import Pool, observe, ported

NEVER_HELD = ScalingRules((ScalingPolicy("Percent", 100, 15),), 0)


def pool(behavior: Behavior, workers: int, low: int = 1, high: int = 1000) -> Pool:
    return Pool(partial(hpa.estimate, behavior=behavior), ported(10, low, high), workers)


def down(*policies: ScalingPolicy, select: str = "Max", window: float = 0) -> Behavior:
    return Behavior(scale_down=ScalingRules(policies, window, select))


@pytest.mark.parametrize(
    ("average", "workers"),
    [
        (200, 8),  # HPA, Algorithm details: 200m where 100m is wanted doubles the number
        (50, 2),  # HPA, Algorithm details: 50m halves it
        (110, 4),  # HPA, Algorithm details: within a tolerance of 0.1 nothing is done
        (90, 4),
        (111, 5),
        (89, 4),  # ceil(3.56)
        (74, 3),
    ],
)
def test_the_number_follows_the_ratio_of_the_average_to_its_target(average: float, workers: int) -> None:
    assert hpa.recommend(average * 4, 100, 4) == workers


def test_the_tolerance_leaves_a_tenth_of_the_workers_missing() -> None:
    assert hpa.recommend(36, 3, 9) == 12
    assert hpa.recommend(40, 4, 10) == 10
    assert hpa.recommend(44, 4, 10) == 10  # eleven would be right


def test_from_zero_the_tolerance_does_not_count() -> None:
    assert hpa.recommend(0, 10, 0) == 0
    assert hpa.recommend(1, 10, 0) == 1


def test_of_two_policies_down_the_one_with_the_larger_change_counts() -> None:
    # HPA, Scaling policies: 4 pods or 10 % a minute, from 80 to 10. 8 of 80 go, 8 of 72 (7.2 rounded up), and
    # from 40 on 4 at a time.
    behavior = down(ScalingPolicy("Pods", 4, 60), ScalingPolicy("Percent", 10, 60))
    numbers = pool(behavior, 80).course([100] * 17, every=60)
    assert numbers == [72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20, 16, 12, 10, 10, 10, 10]


def test_with_min_the_policy_with_the_smaller_change_counts() -> None:
    # HPA, Example: limit scale down rate: 10 % a minute, but no more than 5
    behavior = down(ScalingPolicy("Percent", 10, 60), ScalingPolicy("Pods", 5, 60), select="Min")
    assert pool(behavior, 100).course([0] * 4, every=60) == [95, 90, 85, 80]
    assert pool(behavior, 30).course([0] * 4, every=60) == [27, 24, 21, 18]


def test_a_policy_counts_what_changed_within_its_period() -> None:
    # HPA, Example: limit scale down rate: 10 % a minute holds for any minute, not for each sync
    numbers = pool(down(ScalingPolicy("Percent", 10, 60)), 100).course([0] * 9, every=15)
    assert numbers == [90, 90, 90, 90, 81, 81, 81, 81, 72]


def test_a_disabled_direction_does_not_move() -> None:
    # HPA, Example: disable scale down
    held = pool(Behavior(scale_down=ScalingRules((), 0, "Disabled")), 50)
    assert held.course([0, 0, 600], every=600) == [50, 50, 60]
    assert pool(Behavior(scale_up=ScalingRules((), 0, "Disabled")), 5).course([600], every=15) == [5]


def test_down_waits_for_five_minutes_and_then_goes_to_the_most_that_was_called_for_in_them() -> None:
    # HPA, Default Behavior and Stabilization window
    numbers = pool(hpa.DEFAULT, 10).course([30] * 8 + [60] * 2 + [30] * 22, every=15)
    assert numbers[:20] == [10] * 20  # the 10 that it began with are in the window
    assert numbers[20:29] == [6] * 9
    assert numbers[29:] == [3] * 3  # at 435 s the last call for 6, at 135 s, is out of the window


def test_a_window_of_a_minute_waits_for_a_minute() -> None:
    # HPA, Example: change downscale stabilization window
    behavior = down(ScalingPolicy("Percent", 100, 15), window=60)
    assert pool(behavior, 10).course([10] * 5, every=15) == [10, 10, 10, 10, 1]


def test_by_default_up_is_double_or_four_more_in_fifteen_seconds() -> None:
    # HPA, Default Behavior: 4 pods or 100 %, whichever is more, till the steady state
    assert pool(hpa.DEFAULT, 1).course([400] * 6, every=15) == [5, 10, 20, 40, 40, 40]


def test_a_sync_within_the_period_adds_no_more() -> None:
    assert pool(hpa.DEFAULT, 1).course([400] * 7, every=5) == [5, 5, 5, 10, 10, 10, 20]


def test_nine_hundred_percent_is_ten_times_as_many_a_minute() -> None:
    # KEP-853, story 1: from 1 to 10 to 100 to 1000
    fast = Behavior(scale_up=ScalingRules((ScalingPolicy("Percent", 900, 60),)))
    assert pool(fast, 1).course([10_000] * 4, every=60) == [10, 100, 1000, 1000]


def test_one_pod_in_ten_minutes_is_one_pod_in_ten_minutes() -> None:
    # KEP-853, story 3: up and down by one pod at a time
    slow = Behavior(scale_up=ScalingRules((ScalingPolicy("Pods", 1, 600),)))
    assert pool(slow, 1).course([90] * 5, every=300) == [2, 2, 3, 3, 4]


def test_a_window_for_up_takes_the_least_that_was_called_for() -> None:
    # KEP-853, stabilization of scale up: a spike within the window does not count
    damped = Behavior(scale_up=ScalingRules((ScalingPolicy("Percent", 100, 15),), 60), scale_down=NEVER_HELD)
    assert pool(damped, 2).course([20, 40, 40, 20, 40, 40, 40, 40], every=15) == [2, 2, 2, 2, 2, 2, 2, 4]


def test_what_shrank_within_the_period_may_come_back_beyond_the_limit() -> None:
    # As in the controller since 1.26: the start of the period is before the pods went
    quick = Behavior(scale_down=NEVER_HELD)
    assert pool(quick, 20).course([100, 400], every=5) == [10, 40]


def test_the_tuned_one_goes_up_at_once_and_down_after_two_minutes() -> None:
    numbers = pool(hpa.TUNED, 1).course([400] + [10] * 9, every=15)
    assert numbers == [40] * 8 + [1, 1]


def test_it_begins_anew_with_the_number_that_is_there() -> None:
    fresh = pool(hpa.DEFAULT, 7)
    assert fresh.course([0] * 20, every=15) == [7] * 20
    assert fresh.at(300, 0) == 1


def test_without_a_metric_the_number_is_held_and_nothing_is_learned() -> None:
    held = pool(hpa.DEFAULT, 6)
    held.at(0, 60)
    before = held.memory
    assert held.course([None] * 40, every=15, start=15) == [6] * 40
    assert held.memory == before
    assert held.asked is not None
    assert held.asked.reason is Reason.HOLD_STALE_METRICS


def test_outside_the_limits_the_metric_is_not_asked() -> None:
    assert pool(hpa.DEFAULT, 12, high=8).at(0, None) == 8
    assert pool(hpa.DEFAULT, 1, low=3).at(0, None) == 3


def test_it_says_why_it_holds() -> None:
    steady, _ = hpa.estimate(None, observe(40, 4), ported(), 0)
    assert (steady.action, steady.reason) == (Action.HOLD, Reason.DEADBAND)
    held, _ = hpa.estimate(None, observe(0, 4), ported(), 0)
    assert (held.action, held.reason) == (Action.HOLD, Reason.STABILIZING)
    assert held.words == "backlog 0 / 10 a worker calls for 0; within the window 4, within the rate 4"


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=60), st.integers(1, 60))
def test_by_default_it_never_shrinks_below_what_was_called_for_in_five_minutes(
    backlogs: list[int], workers: int
) -> None:
    followed = pool(hpa.DEFAULT, workers, high=60)
    called: list[int] = [workers]
    for index, backlog in enumerate(backlogs):
        before = followed.workers
        called.append(hpa.recommend(backlog, 10, before))
        after = followed.at(15.0 * index, backlog)
        assert 1 <= after <= min(60, max(2 * before, before + 4))
        if after < before:
            assert after >= min(60, max(called[-20:]))
