"""The port of KEDA goes between zero and one by polling, and reads no data as no load.

What is documented stands in keda.sh/docs, "ScaledObject specification" (Spec) and "Prometheus" (Trigger), and
in the tests of kedacore/keda, pkg/scaling/executor/scale_scaledobjects_test.go (Tests).
"""

from dataclasses import replace

from autoscaler.model import Observation, Reason, Signal
from autoscaler.policies import hpa, keda
from tests.unit.autoscaler.simulator.replay import Pool, observe, ported


def pool(workers: int, low: int = 0) -> Pool:
    return Pool(keda.estimate, ported(10, low, 100), workers)


def test_from_zero_a_poll_starts_one_and_the_hpa_the_others() -> None:
    # Tests, ScaleFromMinReplicasWhenActive: from 0 to 1. Spec, pollingInterval: 30 s, and from 1 on the HPA
    woken = pool(0)
    # Polls at 0, 30, 60 s; the HPA at every 15 s, by at most 4 or double
    assert woken.course([0, 90, 90, 90, 90, 90], every=15) == [0, 0, 1, 5, 9, 9]


def test_work_that_comes_and_goes_between_two_polls_is_not_seen() -> None:
    assert pool(0).course([0, 50, 0, 50, 0], every=15) == [0] * 5


def test_to_zero_it_waits_for_the_cooldown_after_the_trigger_was_last_active() -> None:
    # Spec, cooldownPeriod: 300 s after the last trigger reported active
    idle = pool(1)
    numbers = idle.course([5] + [0] * 24, every=15)
    # Active at 0 s; 300 s have not passed before the poll at 330 s
    assert numbers == [1] * 22 + [0] * 3


def test_to_zero_it_jumps_past_the_window_of_the_hpa() -> None:
    idle = pool(8)
    numbers = idle.course([80] * 2 + [5] + [0] * 22, every=15)  # active at 30 s, the last time at a poll
    assert numbers[:20] == [8] * 20  # the HPA's window
    assert numbers[24] == 0


def test_a_scaled_object_that_was_never_active_goes_to_zero_at_once() -> None:
    # Tests, ScaleToMinReplicasWhenNotActive: from 10 to 0
    assert pool(10).at(0, 0) == 0


def test_below_its_minimum_it_goes_to_it_without_a_trigger() -> None:
    # Tests, ScaleToMinReplicasFromLowerInitialReplicaCount: from 1 to 5
    assert pool(1, low=5).at(0, 0) == 5
    assert pool(0, low=5).at(0, 0) == 5


def test_with_a_minimum_of_one_it_is_an_hpa() -> None:
    backlogs = [0, 100, 400, 30, *[0] * 40]
    plain = Pool(hpa.estimate, ported(10, 1, 100), 2)
    assert pool(2, low=1).course(backlogs, every=15) == plain.course(backlogs, every=15)


def test_no_fresh_series_is_no_load() -> None:
    # Trigger, ignoreNullValues: true by default
    blind = pool(8)
    blind.course([80] * 2, every=15)
    numbers = blind.course([None] * 25, every=15, start=30)
    assert numbers[0] == 8
    assert numbers[-1] == 0


def test_of_several_series_the_fresh_ones_are_added() -> None:
    signals = (
        Signal("one", "ready", 30, 1.0),
        Signal("two", "ready", 500, 31.0),
        Signal("three", "ready", float("nan"), 1.0),
    )
    seen = Observation(signals, Reason.HOLD_STALE_METRICS, "two is 31 s old", observe(0, 1).fleet)
    asked, _ = keda.estimate(None, seen, ported(), 0)
    assert asked.terms["backlog"] == 30


def test_a_prometheus_that_does_not_answer_holds_the_number() -> None:
    for workers in (0, 8):
        seen = replace(observe(None, workers), problem=Reason.QUERY_ERROR)
        memory: keda.Memory | None = None
        for sync in range(40):
            asked, memory = keda.estimate(memory, seen, ported(low=0), 15.0 * sync)
            assert asked.workers is None
            assert asked.reason is Reason.QUERY_ERROR
