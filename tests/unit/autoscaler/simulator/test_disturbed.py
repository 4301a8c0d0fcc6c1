"""What the promise and the tasks suffer when something fails amid a load that is met otherwise."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from autoscaler.simulator.contenders import contender
from autoscaler.simulator.engine import Run, simulate
from autoscaler.simulator.faults import Crash, Fault, Restart, Slow, Stale
from autoscaler.simulator.loads import COMMON, Load
from autoscaler.simulator.report import figures
from autoscaler.simulator.setting import Setting

AT, UNTIL = 1800.0, 2400.0
LOADS = ["mix", "wave", "long"]
POLICIES = ["slo", "threshold"]


@cache
def load(name: str) -> Load:
    make, _ = COMMON[name]
    return make()


@cache
def disturbed(name: str, policy: str, *faults: Fault) -> tuple[Run, Setting]:
    setting = replace(COMMON[name][1], faults=faults)
    return simulate(load(name), contender(policy, setting), setting), setting


def figure(key: str, name: str, policy: str, *faults: Fault) -> float:
    run, setting = disturbed(name, policy, *faults)
    return float(figures(policy, run, load(name), setting)[key] or 0)


def falls(run: Run) -> list[float]:
    """When the number of workers was lowered."""
    return [at for (_, before), (at, after) in pairwise(run.wanted) if after < before]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", LOADS)
@pytest.mark.behaviour("F2")
def test_in_ten_minutes_without_fresh_samples_nobody_goes_and_next_to_nobody_is_late(
    name: str, policy: str
) -> None:
    stale = Stale(AT, UNTIL)
    run, setting = disturbed(name, policy, stale)
    assert not [at for at in falls(run) if AT + 30 < at < UNTIL + setting.scrape]  # 30 s is what is believed
    assert figure("late_percent", name, policy, stale) <= 1
    assert figure("interrupted", name, policy, stale) == 0
    assert figure("worker_hours", name, policy, stale) <= 1.1 * figure("worker_hours", name, policy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", LOADS)
@pytest.mark.behaviour("F9")
def test_three_starts_of_the_autoscaler_take_nobody_away_and_make_next_to_nobody_late(
    name: str, policy: str
) -> None:
    restarts = (Restart(AT), Restart(AT + 60), Restart(UNTIL))
    run, _ = disturbed(name, policy, *restarts)
    assert not [at for at in falls(run) if any(one.at <= at < one.at + 60 for one in restarts)]
    assert figure("late_percent", name, policy, *restarts) <= 1
    assert figure("interrupted", name, policy, *restarts) == 0
    assert figure("worker_hours", name, policy, *restarts) <= 1.1 * figure("worker_hours", name, policy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", LOADS)
@pytest.mark.behaviour("F16")
def test_a_crash_interrupts_what_its_workers_had_and_no_more(name: str, policy: str) -> None:
    crash = Crash(AT, 3)
    _, setting = disturbed(name, policy, crash)
    assert 0 < figure("interrupted", name, policy, crash) <= 3 * setting.concurrency
    assert figure("late_percent", name, policy, crash) <= 1.5
    assert figure("worker_hours", name, policy, crash) <= 1.1 * figure("worker_hours", name, policy)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", LOADS)
@pytest.mark.behaviour("F17")
def test_while_tasks_take_three_times_as_long_workers_come_and_none_is_cut_short(
    name: str, policy: str
) -> None:
    slow = Slow(AT, UNTIL, 3)
    run, setting = disturbed(name, policy, slow)
    assert max(number for at, number in run.wanted if AT <= at < UNTIL) <= setting.max_workers
    assert figure("late_percent", name, policy, slow) <= 10
    assert figure("interrupted", name, policy, slow) == 0
    assert figure("worker_hours", name, policy, slow) <= 1.7 * figure("worker_hours", name, policy)
