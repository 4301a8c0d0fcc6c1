"""The port of the stepping autoscalers goes by the age of the oldest waiting task, as Judoscale documents.

The rules are those of judoscale.com: docs/tuning-your-application (Tuning) and guides/autoscaling-behavior
(Behavior).
"""

from functools import partial

from autoscaler.model import Reason
from autoscaler.policies import step
from tests.unit.autoscaler.simulator.replay import Pool, ported

WITHIN = step.Range(up_above_seconds=15, down_below_seconds=3, up_every_seconds=20)


def pool(workers: int, low: int = 1, high: int = 10) -> Pool:
    return Pool(partial(step.estimate, within=WITHIN), ported(4, low, high), workers)


def course(followed: Pool, ages: list[float], start: float = 0) -> list[int]:
    return [followed.at(start + 10 * index, 9, oldest=age) for index, age in enumerate(ages)]


def test_it_goes_up_by_one_at_a_time_and_no_sooner_than_the_frequency() -> None:
    # Tuning, Upscale Jumps (one by default) and Upscale Frequency
    assert course(pool(1), [14, 16, 16, 16, 16, 16]) == [1, 2, 2, 3, 3, 4]


def test_within_the_range_it_stays() -> None:
    # Behavior, Queue time range
    assert course(pool(5), [3, 15, 9] * 100) == [5] * 300


def test_the_first_step_down_comes_after_ten_minutes_below_the_range_and_so_do_the_next() -> None:
    # Tuning, Downscale Delay
    numbers = course(pool(5), [0] * 181)
    assert numbers == [5] * 60 + [4] * 60 + [3] * 60 + [2]


def test_one_late_task_begins_the_ten_minutes_anew() -> None:
    # Behavior: all recent metrics must be below the range
    numbers = course(pool(5), [0] * 59 + [4] + [0] * 61)
    assert numbers == [5] * 120 + [4]


def test_it_stays_within_its_range_of_workers() -> None:
    # Behavior, Dyno range
    assert course(pool(9), [60] * 10)[-1] == 10
    assert course(pool(2, low=2), [0] * 100)[-1] == 2


def test_at_the_limit_no_step_is_taken_that_a_later_one_would_have_to_wait_for() -> None:
    at_most = pool(10)
    course(at_most, [60])
    at_most.workers = 9
    assert at_most.at(10, 9, oldest=60) == 10


def test_an_age_that_is_not_known_holds() -> None:
    blind = pool(5)
    assert blind.at(0, 100) == 5
    assert blind.course([None] * 100, every=10, start=10) == [5] * 100
    assert blind.asked is not None
    assert blind.asked.reason is Reason.HOLD_STALE_METRICS
