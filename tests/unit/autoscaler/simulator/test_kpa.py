"""The port of Knative's autoscaler does what the tests of its source document.

They are those of knative/serving, pkg/autoscaler/scaling/autoscaler_test.go, each named where it is followed.
"""

import pytest

from autoscaler.model import Reason
from autoscaler.policies import kpa
from autoscaler.policies.kpa import Panic, Spec
from tests.unit.autoscaler.simulator.replay import Pool, ported

SPEC = Spec(max_scale_up_rate=10, max_scale_down_rate=10)  # as in Knative's tests
CALM = Panic()


def desired(
    stable: float,
    burst: float,
    ready: int,
    target: float = 10,
    panic: Panic = CALM,
    now: float = 0,
    spec: Spec = SPEC,
) -> tuple[int, Panic]:
    return kpa.desired(panic, stable, burst, target, ready, now, spec)


@pytest.mark.parametrize(
    ("stable", "burst", "ready", "target", "expected"),
    [
        (0, 0, 1, 10, 0),  # AutoscalerNoDataAtZeroNoAutoscale
        (21, 26, 1, 181, 1),  # AutoscalerStableModeUnlimitedTBC
        (50, 49, 1, 10, 5),  # Autoscaler0TBC
        (50, 50, 1, 10, 5),  # AutoscalerStableModeNoChange
        (50, 50, 5, 10, 5),  # AutoscalerStableModeNoChangeAlreadyScaled
        (50, 100, 1, 10, 10),  # AutoscalerPanicModeDoublePodCount
        (1000, 888, 0, 10, 10),  # UseOnePodAsMinimumIfEndpointsNotFound
        (100, 100, 8, 10, 10),  # StableModeDecrease, before
        (50, 50, 8, 10, 5),  # StableModeDecrease, after
        (1, 0, 1, 10, 1),  # StableModeNoTrafficScaleToZero
        (1000, 1001, 1, 10, 10),  # RateLimitScaleUp
        (1000, 1001, 10, 10, 100),
        (1, 1, 100, 10, 10),  # RateLimitScaleDown
        (1, 1, 10, 10, 1),
    ],
)
def test_the_number_follows_the_averages_within_the_rates(
    stable: float, burst: float, ready: int, target: float, expected: int
) -> None:
    assert desired(stable, burst, ready, target)[0] == expected


def test_a_small_rate_up_lets_one_more_pod_through() -> None:
    # StableModeIncreaseWithSmallScaleUpRate
    assert desired(3, 3.1, 2, 1, spec=Spec(max_scale_up_rate=1.1, max_scale_down_rate=10))[0] == 3


def test_a_small_rate_down_lets_a_tenth_go() -> None:
    # StableModeDecreaseWithSmallScaleDownRate
    assert desired(1, 1, 100, spec=Spec(max_scale_up_rate=10, max_scale_down_rate=1.1))[0] == 90


@pytest.mark.parametrize(("stable", "expected"), [(50, 50), (20, 30)])
def test_in_panic_the_larger_of_both_averages_counts(stable: float, expected: int) -> None:
    # PanicStableLargerThanPanic, PanicStableLessThanPanic
    assert desired(stable, 30, 5, 1, Panic(since=-5, most=5))[0] == expected


def test_panic_tracks_an_exponential_rise_and_stays_at_its_end() -> None:
    # PanicModeExponentialTrackAndStabilize
    panic = CALM
    for second, (ready, concurrency) in enumerate([(1, 6), (6, 36), (36, 216), (216, 1296)]):
        number, panic = desired(concurrency, concurrency, ready, 1, panic, second)
        assert (number, panic.since) == (concurrency, second)
    number, panic = desired(1296, 1296, 1296, 1, panic, 4)
    assert (number, panic.since) == (1296, 3)


def test_panic_ends_after_a_stable_window_of_slow_increase() -> None:
    # UnpanicAfterSlowIncrease
    number, panic = desired(11, 25, 10, 1)
    assert (number, panic.since) == (25, 0)
    number, panic = desired(30, 41, 40, 1, panic, 30)
    assert (number, panic.since) == (41, 0)
    number, panic = desired(50, 56, 55, 1, panic, 62)
    assert (number, panic) == (50, CALM)


def test_a_surge_that_goes_on_prolongs_panic() -> None:
    # ExtendPanicWindow
    _, panic = desired(11, 25, 10, 1)
    number, panic = desired(30, 80, 40, 1, panic, 30)
    assert (number, panic.since) == (80, 30)


def test_panic_does_not_shrink_until_a_stable_window_has_passed() -> None:
    # PanicThenUnPanicScaleDown
    _, panic = desired(100, 100, 1)
    number, panic = desired(100, 1000, 10, panic=panic)
    assert number == 100
    number, panic = desired(1, 1, 10, panic=panic, now=30)
    assert number == 100
    number, panic = desired(1, 1, 10, panic=panic, now=61)
    assert number == 1


@pytest.mark.parametrize(("ready", "since"), [(0, None), (1, None), (2, 7.0)])
def test_it_begins_in_panic_if_there_are_several(ready: int, since: float | None) -> None:
    # StartInPanicMode
    assert kpa.begin(ready, 7.0) == Panic(since, ready)


def test_the_target_is_seventy_percent_of_the_concurrency() -> None:
    pool = Pool(kpa.estimate, ported(target=4), 1)
    assert pool.at(0, 2.8) == 1
    assert Pool(kpa.estimate, ported(target=4), 1).at(0, 2.9) == 2


def test_a_burst_is_seen_in_the_panic_window_long_before_the_stable_one() -> None:
    pool = Pool(kpa.estimate, ported(target=10), 1)
    pool.course([7] * 30, every=2)
    assert pool.asked is not None
    assert pool.asked.words == "stable: concurrency 7 in the stable, 7 in the panic window, 7 a worker"
    assert pool.course([70] * 3, every=2, start=60) == [4, 7, 10]
    assert pool.asked.words.startswith("panic: concurrency 13.3 in the stable, 70 in the panic window")


def test_after_a_burst_it_shrinks_by_half_at_a_time_when_panic_is_over() -> None:
    pool = Pool(kpa.estimate, ported(target=10), 1)
    pool.course([7] * 30, every=2)
    pool.course([140] * 5, every=2, start=60)
    assert pool.workers == 20
    numbers = pool.course([0] * 31, every=2, start=70)
    # Panic began at 60 s; at 122 s a stable window has passed, and 10 is half of 20, 5 of 10, 2 of 5
    assert numbers == [20] * 26 + [10, 5, 2, 1, 1]


def test_after_a_restart_it_keeps_what_is_there_for_a_stable_window() -> None:
    pool = Pool(kpa.estimate, ported(target=10), 12)
    numbers = pool.course([7] * 33, every=2)
    assert numbers[:31] == [12] * 31
    assert numbers[31] == 6


def test_samples_that_are_missing_make_an_average_of_fewer_and_none_at_all_holds() -> None:
    pool = Pool(kpa.estimate, ported(target=10), 3)
    pool.course([21] * 31, every=2)
    assert pool.course([None] * 29, every=2, start=62) == [3] * 29
    assert pool.asked is not None
    assert pool.asked.terms["stable"] == 21
    assert pool.course([None] * 100, every=2, start=120) == [3] * 100
    assert pool.asked.reason is Reason.HOLD_STALE_METRICS


def test_workers_that_are_not_ready_bound_the_steps_but_not_the_need() -> None:
    pool = Pool(kpa.estimate, ported(target=10), 40)
    assert pool.at(0, 700, ready=1) == 100
