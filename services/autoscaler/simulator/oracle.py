"""What perfect knowledge would pay: a bound below the worker-hours of all policies that keep the promise.

The oracle knows all arrivals and services. It lives under the same boot, concurrency and `min_workers`, and
at most the part 1 - `quantile` of its tasks starts later than `slo`. Faults are not held against it.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from autoscaler.simulator.faults import Slow
from autoscaler.simulator.loads import Load
from autoscaler.simulator.setting import Setting

if TYPE_CHECKING:
    from autoscaler.simulator.program import Floats, Indices

HOUR = 3600.0
FEW = 6  # tasks of which all schedules are searched
CLASSES = 6  # of tasks, by the time they take
# The grid is so fine that the solver takes some seconds: cells in the time of the promise, cells in which
# there is something to do, and cells in all.
FINEST, ACTIVE_CELLS, MOST_CELLS = 6, 500, 3000
NEAR = 1e-9
SLACK = 1e-6  # slots that rounding may take away from a schedule that needs them all

Course = tuple[tuple[float, int], ...]  # from each moment on, so many


@dataclass(frozen=True, slots=True)
class Bound:
    """What no policy that keeps the promise can do without.

    `feasible` is False if no policy keeps the promise within `max_workers`; True says that no reason was
    found why none could. `demand` is how many ready workers a course of least hours has, rounded up, in
    seconds from the start. It is empty if no number of workers would do, or the solver gives up;
    `worker_hours` are then what the tasks take when they may wait. The hours hold for policies that exceed
    `max_workers`, too, as those do whose workers drain.
    """

    worker_hours: float
    feasible: bool
    peak: int
    demand: Course


class Missing(ValueError):
    """The solver is not installed."""


def check() -> None:
    """See that there is what solves programs; raises Missing with what would be right."""
    try:
        import scipy  # noqa: F401
    except ImportError:
        raise Missing("oracle: SciPy is not installed; the extra `oracle` of celery-kit has it") from None


def bound(load: Load, setting: Setting) -> Bound:
    """Give the bound of a load; some seconds for 30,000 tasks. Raises Missing.

    For up to six tasks whose times are few multiples of a unit it is what the best schedule takes, which
    `exact` searches. Else it is what a linear relaxation takes, in which tasks are a fluid.
    """
    check()
    from autoscaler.simulator import exact
    from autoscaler.simulator.program import Infeasible, Unsolved

    tasks = len(load.arrivals)
    if not tasks:
        return Bound(0.0, feasible=True, peak=0, demand=())
    services = _services(load, setting)
    late = math.floor((1 - setting.quantile) * tasks + NEAR)
    unit = exact.unit(load.arrivals, services, setting) if tasks <= FEW else None

    def solve(most: int | None = None) -> tuple[float, Course]:
        if unit is not None:
            return exact.search(load.arrivals, services, setting, late, unit, most)
        return _relax(load.arrivals, services, setting, late, most)

    feasible, seconds, peak = True, 0.0, 0
    demand: Course = ()
    try:
        seconds, demand = solve()
        peak = max(workers for _, workers in demand)
        if peak > setting.max_workers:
            solve(setting.max_workers)
    except Infeasible:
        feasible = False
    except Unsolved:
        pass  # what is known without it is a bound, too
    # These hold whatever a program says, and what it says is rounded.
    end = max(arrival + service for arrival, service in zip(load.arrivals, services, strict=True))
    least = max(math.fsum(services) / setting.concurrency, setting.min_workers * end)
    return Bound(max(seconds, least) / HOUR, feasible, peak, demand)


def _services(load: Load, setting: Setting) -> list[float]:
    """Take what could be a help to a policy: a fault that makes tasks fast."""
    fast = [
        (fault.end, fault.factor) for fault in setting.faults if isinstance(fault, Slow) and fault.factor < 1
    ]
    return [
        service * math.prod(factor for end, factor in fast if end > arrival)
        for arrival, service in zip(load.arrivals, load.services, strict=True)
    ]


def _relax(
    arrivals: tuple[float, ...], services: list[float], setting: Setting, late: int, most: int | None = None
) -> tuple[float, Course]:
    """Give worker-seconds that no schedule is below, and a course of ready workers that takes them.

    Time is cut into cells. Of a schedule let N(t) be its ready workers, or `min_workers` if that is more. Of
    the tasks of one class, which all take at least d and at most e, let A(t) be those that have arrived, L(t)
    those of them that will be late, Y(t) those that have started and are not late. At any time t a schedule
    has:

    - A - L >= Y >= (A - L)(t - slo), and none of Y, L and A - L ever falls;
    - Y(t) - Y(t - d) tasks of a class in their first d seconds;
    - of the rests of their services a flow of at most Y(t - d) - Y(t - e), whose sum is known, and which
      comes no sooner than arrivals allow and no later than slo + e after them;
    - late work, a flow of which only the sum is known, and that it comes slo after an arrival or later;
    - concurrency * N(t) of at least the sum of these, where N is `min_workers` until the first boot is over;
    - a cost of at least N, integrated, and `boot` for each step up of N. For while R workers are ready and b
      boot, there are at least max(min_workers, R + b), and of those b only what exceeds `min_workers` will
      ever be a step up of N.

    All of it is linear in values at t, t - d and so on. So means over cells keep it, too, if slo and d are
    whole cells: they are a solution of the program below, and cost no more than the schedule did. Hence no
    schedule costs less than the program's least. Where slo or d are not whole cells, they are rounded to what
    allows more.

    This relaxes: numbers of workers and tasks are no whole ones, a task may move between workers, late tasks
    and rests of services may be done piecemeal, and after the last cell slots need not be idle.
    """
    import numpy as np

    from autoscaler.simulator.program import Program, Term, lag

    arrived, service = np.array(arrivals), np.array(services)
    tasks, least, slots = len(arrived), setting.min_workers, setting.concurrency
    end = float((arrived + service).max())
    span = float(arrived.max()) + setting.slo + float(service.max())
    cell = _cell(setting.slo, span, _active(arrived, service + setting.slo))
    slo = math.ceil(setting.slo / cell - NEAR)
    cells = math.ceil(span / cell) + 1
    number = np.arange(cells, dtype=np.float64)
    booted = np.clip(number + 1 - setting.boot / cell, 0, 1)
    there = least * np.clip(end / cell - number, 0, 1)
    high = least + booted * ((least + tasks if most is None else most) - least)

    program = Program()
    workers = program.add(cells, there, high, cell)
    begun = program.add(cells, 0, least + tasks, setting.boot)
    program.row(-least * (number == 0), np.inf, (begun, 1), (workers, -1), (lag(workers, 1), 1))
    busy: list[Term] = [(workers, slots)]
    work = float(service.sum())
    after = program.add(1, 0, work, 1 / slots)  # late work that is done after the last cell
    done = program.add(cells, 0, work)  # and so far
    late_tasks: list[Term] = []
    late_work: list[Term] = [(after, -1), (done[-1:], -1)]
    flows: list[Term] = [(done, -1 / cell), (lag(done, 1), 1 / cell)]
    busy += flows
    program.row(-np.inf, 0, *flows)
    known: list[Term] = [(done, 1)]

    length = np.floor(service / cell + NEAR).astype(np.int64)
    for low, longest in pairwise(_classes(length)):
        chosen = (length >= low) & (length < longest)
        came = arrived[chosen]
        rest = np.maximum(service[chosen] - low * cell, 0)
        width = max(1, math.ceil(rest.max() / cell - NEAR))
        total = float(rest.sum())
        so_far = _means(came, cell, cells)
        started = program.add(cells, 0, so_far)
        spared = program.add(cells, 0, np.minimum(so_far, late))
        program.row(0, np.inf, (started, 1), (lag(started, 1), -1))
        program.row(0, np.diff(so_far, prepend=0), (spared, 1), (lag(spared, 1), -1))
        program.row(-np.inf, so_far, (started, 1), (spared, 1))
        program.row(_shift(so_far, slo), np.inf, (started, 1), (lag(spared, slo), 1))
        if low:
            busy += [(started, -1), (lag(started, low), 1)]
        late_tasks.append((spared[-1:], 1))
        late_work.append((spared[-1:], low * cell))
        # Late by the end of a cell are those before the mean of the next cell.
        seen = lag(spared, slo - 1) if cell <= setting.slo else np.repeat(spared[-1:], cells)
        known.append((seen, -(low + width) * cell))
        if total <= NEAR:
            continue
        # The rests of services: `rested` is done of them, `other` is that of the late.
        rested = program.add(cells, 0, _until(came, rest, (number + 1 - low) * cell + NEAR))
        other = program.add(1, 0, min(total, late * width * cell))
        flows = [(rested, 1 / cell), (lag(rested, 1), -1 / cell)]
        program.row(0, np.inf, *flows)
        program.row(-np.inf, 0, *flows, (lag(started, low), -1), (lag(started, low + width), 1))
        busy += [(rested, -1 / cell), (lag(rested, 1), 1 / cell)]
        before = number + 1 - slo - low - width
        due = _until(came, rest, before * cell - NEAR)
        program.row(due, np.inf, (rested, 1), (lag(spared, slo + low + width - 1), width * cell))
        program.row(total - NEAR * tasks, np.inf, (rested[-1:], 1), (other, 1))
        program.row(-np.inf, 0, (other, 1), (spared[-1:], -width * cell))
        late_work.append((other, 1))
    program.row(-np.inf, late, *late_tasks)
    program.row(-np.inf, 0, *late_work)
    program.row(-np.inf, 0, *known)
    program.row(-SLACK, np.inf, *busy)

    solution = program.solve()
    needed = np.ceil(solution.values[workers] - 0.01).astype(int)
    steps = [index for index in range(cells) if not index or needed[index] != needed[index - 1]]
    return solution.bound, tuple((index * cell, int(needed[index])) for index in steps)


def _cell(slo: float, span: float, active: float) -> float:
    """Give the seconds of a cell: a whole part of the promise, but for a load that is too long for that."""
    parts = min(FINEST, math.floor(ACTIVE_CELLS * slo / active))
    parts = min(max(parts, 1), math.floor(MOST_CELLS * slo / span))
    return slo / parts if parts else span / MOST_CELLS


def _active(arrived: "Floats", seconds: "Floats") -> float:
    """Give for how long there is something to do: the union of the time after each arrival."""
    import numpy as np

    ends = np.maximum.accumulate(arrived + seconds)
    return float(ends[-1] - arrived[0] - np.maximum(arrived[1:] - ends[:-1], 0).sum())


def _classes(length: "Indices") -> list[int]:
    """Bound few classes of lengths so that the most work lies in what all of a class take at least."""
    import numpy as np

    values, numbers = np.unique(length, return_counts=True)
    below = np.concatenate([[0], np.cumsum(numbers)])
    best = np.where(below > 0, -np.inf, 0.0)  # of the first values, in the classes so far
    cuts = []
    for _ in range(min(CLASSES, len(values))):
        gains = [best[:top] + values[:top] * (below[top] - below[:top]) for top in range(1, len(best))]
        cuts.append([int(np.argmax(gain)) for gain in gains])
        best = np.array([-np.inf, *(gain.max() for gain in gains)])
    bounds, top = [int(values[-1]) + 1], len(values)
    for cut in reversed(cuts):
        top = cut[top - 1]
        bounds.append(int(values[top]))
    return bounds[::-1]


def _means(at: "Floats", cell: float, cells: int) -> "Floats":
    """Give the mean over each cell of how many have come."""
    import numpy as np

    index = np.minimum((at / cell).astype(int), cells - 1)
    part = np.clip(index + 1 - at / cell, 0, 1)
    steps = np.bincount(index, part, cells + 1) + np.bincount(index + 1, 1 - part, cells + 1)
    means: Floats = np.cumsum(steps[:cells])
    return means


def _until(at: "Floats", amounts: "Floats", moments: "Floats") -> "Floats":
    """Sum up what has come until each moment; `at` ascends."""
    import numpy as np

    sums: Floats = np.concatenate([[0.0], np.cumsum(amounts)])[np.searchsorted(at, moments, side="right")]
    return sums


def _shift(values: "Floats", cells: int) -> "Floats":
    """Give for each cell the value of so many cells before; 0 where there was none."""
    import numpy as np

    cells = min(cells, len(values))
    return np.concatenate([np.zeros(cells), values[: len(values) - cells]])
