"""From what happened in a run to the figures that policies are compared by."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

from autoscaler.simulator.engine import Run
from autoscaler.simulator.loads import Load
from autoscaler.simulator.setting import Setting

HOUR = 3600.0
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


def percentile(ordered: Sequence[float], part: float) -> float:
    """The least value that at least this part of all does not exceed; 0 of nothing."""
    return ordered[max(0, ceil(part * len(ordered)) - 1)] if ordered else 0.0
