"""The policy `slo` keeps its promise on the loads of the yardstick, for less than an HPA that was tuned."""

from dataclasses import replace
from functools import cache
from random import Random

import pytest

from autoscaler.simulator.contenders import contender
from autoscaler.simulator.engine import Run, simulate
from autoscaler.simulator.faults import Outage
from autoscaler.simulator.loads import COMMON, Load, load_of
from autoscaler.simulator.report import Row, figures
from autoscaler.simulator.setting import Setting

MOST_LATE = 5.0  # per cent
DAY = 86400.0


@cache
def load(name: str) -> Load:
    make, _ = COMMON[name]
    return make()


@cache
def row(name: str, policy: str) -> Row:
    _, setting = COMMON[name]
    return figures(policy, simulate(load(name), contender(policy, setting), setting), load(name), setting)


def number(name: str, policy: str, key: str) -> float:
    return float(row(name, policy)[key] or 0)


@pytest.mark.parametrize("name", COMMON)
def test_the_promise_is_kept_no_task_is_cut_short_and_it_costs_no_more_than_a_tuned_hpa(name: str) -> None:
    assert number(name, "slo", "late_percent") <= MOST_LATE
    assert number(name, "slo", "interrupted") == 0
    assert number(name, "slo", "worker_hours") <= number(name, "hpa-tuned", "worker_hours")


def test_over_all_loads_it_costs_fifteen_per_cent_less_and_is_no_more_restless_than_twice_an_hpa() -> None:
    def total(policy: str, key: str) -> float:
        return sum(number(name, policy, key) for name in COMMON)

    assert total("slo", "worker_hours") <= 0.85 * total("hpa-tuned", "worker_hours")
    assert total("slo", "flips") <= 2 * total("hpa", "flips")


@pytest.mark.parametrize("promise", [35, 45, 60])
def test_a_burst_of_tasks_that_all_take_as_long_as_the_promise_leaves_is_met(promise: float) -> None:
    """Were they taken for a fluid, each new slot would begin with parts of a second one in time."""
    dice = Random("alike")
    tasks = [(900 * number + dice.uniform(0, 20), 30.0) for number in range(5) for _ in range(150)]
    alike, setting = load_of("alike", tasks), Setting(slo=promise, concurrency=4, boot=20)
    assert late(simulate(alike, contender("slo", setting), setting), alike, setting) <= MOST_LATE


def late(run: Run, tasks: Load, setting: Setting, since: float = 0.0) -> float:
    waits = [start - at for start, at in zip(run.starts, tasks.arrivals, strict=True) if at >= since]
    return 100 * sum(wait > setting.slo for wait in waits) / len(waits)


@pytest.mark.parametrize("name", ["mix", "wave", "long"])
@pytest.mark.behaviour("F1")
def test_in_ten_minutes_without_prometheus_nobody_goes_and_the_promise_is_kept(name: str) -> None:
    outage = Outage(1800, 2400)
    setting = replace(COMMON[name][1], faults=(outage,))
    run = simulate(load(name), contender("slo", setting), setting)
    during = [wanted for at, wanted in run.wanted if outage.begin <= at < outage.end]
    before = [wanted for at, wanted in run.wanted if at < outage.begin][-1]
    assert min([before, *during]) == before
    assert late(run, load(name), setting) <= MOST_LATE


def test_what_was_learned_of_a_day_helps_on_the_next() -> None:
    """Each day at nine 5 tasks a second come out of nothing, sooner than any worker boots."""
    tasks = [(day * DAY + 9 * 3600 + index / 5, 6.0) for day in range(2) for index in range(5 * 1200)]
    steps, setting = load_of("steps", tasks), Setting(slo=20, concurrency=4, boot=60)
    run = simulate(steps, contender("slo", setting), setting)
    whole, second = late(run, steps, setting), late(run, steps, setting, since=DAY)
    assert second < (2 * whole - second) / 2
