"""From what happened in a run to the figures that policies are compared by."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import ceil

from autoscaler.simulator.engine import Run
from autoscaler.simulator.loads import Load
from autoscaler.simulator.oracle import Bound, Course
from autoscaler.simulator.setting import Setting

HOUR = 3600.0
ELASTICITY = ("theta_u", "theta_o", "tau_u", "tau_o", "instability", "jitter")
Row = dict[str, str | int | float | None]


def figures(policy: str, run: Run, load: Load, setting: Setting) -> Row:
    """Sum up a run in one flat object.

    Waits are in seconds, from arrival to the start of the attempt that ended; late is a wait above the
    promise. Worker-hours count each worker from creation to removal, booting and draining too. Actions are
    the changes of the number that is wanted, flips those of them that go the other way than the one before.
    """
    waits = sorted(start - arrival for start, arrival in zip(run.starts, load.arrivals, strict=True))
    late = sum(wait > setting.slo for wait in waits)
    steps = [after - before for (_, before), (_, after) in pairwise(run.wanted)]
    return {
        "policy": policy,
        "late_percent": round(100 * late / len(waits), 3) if waits else 0.0,
        "p50": round(percentile(waits, 0.50), 3),
        "p95": round(percentile(waits, 0.95), 3),
        "p99": round(percentile(waits, 0.99), 3),
        "worker_hours": round(sum(life.removed - life.created for life in run.lives) / HOUR, 4),
        "peak": max((number for _, number in run.workers), default=0),
        "interrupted": run.interrupted,
        "actions": len(steps),
        "flips": sum(one * two < 0 for one, two in pairwise(steps)),
    }


def elasticity(run: Run, demand: Course, setting: Setting) -> Row:
    """Hold supply, the ready workers of a run, against demand, those of the oracle; null if there is none.

    The figures of SPEC RG ("Ready for Rain?", SPEC-RG-2016-01), in percent and over the time until the run
    ends: how much of the demand was missing (theta_u) and in excess of it (theta_o), where a demand of none
    counts as one; for how long some was missing (tau_u) or in excess (tau_o); for how long the two did not go
    the same way (instability), from step to step of `slo` seconds. Jitter is how many times more in an hour
    supply changed than demand.
    """
    if not demand or not run.end:
        return dict.fromkeys(ELASTICITY)
    ready = [(life.ready, life.removed) for life in run.lives if life.ready < life.removed]
    changes = [change for begin, end in ready for change in ((begin, 1), (end, -1))]
    supply = _course([change for change in changes if change[0] < run.end])  # all go at the end
    demand = tuple(step for step in demand if step[0] < run.end)
    moments = sorted({0.0, run.end, *(when for when, _ in supply + demand)})
    missing = excess = under = over = 0.0
    for begin, end in pairwise(moments):
        has, needs, seconds = _at(supply, begin), _at(demand, begin), end - begin
        missing += max(needs - has, 0) / max(needs, 1) * seconds
        excess += max(has - needs, 0) / max(needs, 1) * seconds
        under += seconds * (has < needs)
        over += seconds * (has > needs)
    steps = [min(number * setting.slo, run.end) for number in range(ceil(run.end / setting.slo) + 1)]
    unlike = sum(
        end - begin
        for begin, end in pairwise(steps)
        if _sign(_at(supply, end) - _at(supply, begin)) != _sign(_at(demand, end) - _at(demand, begin))
    )
    more = sum(when > 0 for when, _ in supply) - sum(when > 0 for when, _ in demand)
    parts = [100 * part / run.end for part in (missing, excess, under, over, unlike)]
    values = [*parts, more / run.end * HOUR]
    return {name: round(value, 3) for name, value in zip(ELASTICITY, values, strict=True)}


def oracle_figures(bound: Bound) -> Row:
    """Give the row of the oracle: null what it does not have, and all if nobody can keep the promise."""
    none = dict.fromkeys(("late_percent", "p50", "p95", "p99"))
    hours = round(bound.worker_hours, 4) if bound.feasible else None
    return {
        "policy": "oracle",
        **none,
        "worker_hours": hours,
        "peak": bound.peak if bound.feasible else None,
        "interrupted": 0,
        "actions": None,
        "flips": None,
    }


def _course(changes: Sequence[tuple[float, int]]) -> Course:
    """Sum up changes, those of one moment together."""
    changes = sorted(changes)
    numbers = dict(zip((when for when, _ in changes), accumulate(by for _, by in changes), strict=True))
    steps = list(numbers.items())
    return tuple(after for before, after in pairwise([(0.0, 0), *steps]) if after[1] != before[1])


def _at(course: Course, when: float) -> int:
    index = bisect_right(course, when, key=lambda step: step[0])
    return course[index - 1][1] if index else 0


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def percentile(ordered: Sequence[float], part: float) -> float:
    """The least value that at least this part of all does not exceed; 0 of nothing."""
    return ordered[max(0, ceil(part * len(ordered)) - 1)] if ordered else 0.0
