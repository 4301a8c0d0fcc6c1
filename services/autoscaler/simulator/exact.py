"""The best schedule of a few tasks, among all there are: an integer program over whole units of time."""

import math
from collections.abc import Sequence

import numpy as np

from autoscaler.simulator.program import Indices, Program, Term, lag
from autoscaler.simulator.setting import Setting

CELLS = 120
PER_SECOND = 1000


def unit(arrivals: Sequence[float], services: Sequence[float], setting: Setting) -> float | None:
    """Give the seconds that all times are multiples of; None if there are none such, or too small ones.

    A best schedule has all its starts and ends at multiples, too: with the order of tasks on each slot fixed,
    it is a linear program of differences, whose corners are whole.
    """
    times = [time * PER_SECOND for time in (*arrivals, *services, setting.slo, setting.boot)]
    if any(time != round(time) for time in times) or not all(services):
        return None
    measure = math.gcd(*map(round, times)) / PER_SECOND
    return measure if _span(arrivals, services, setting) <= CELLS * measure else None


def _span(arrivals: Sequence[float], services: Sequence[float], setting: Setting) -> float:
    """Give a time by which a best schedule has ended: once all may start, it has no reason to wait."""
    return max(max(arrivals) + setting.slo, setting.boot) + sum(services)


def search(
    arrivals: Sequence[float],
    services: Sequence[float],
    setting: Setting,
    late: int,
    unit: float,
    most: int | None = None,
) -> tuple[float, tuple[tuple[float, int], ...]]:
    """Give the worker-seconds of the best schedule and the course of its ready workers; raises Infeasible.

    Each worker has its own tasks from start to end, and goes once. Those that only make up `min_workers`
    may come and go as they like.
    """

    def units(time: float) -> int:
        return round(time / unit)

    tasks, least = len(arrivals), setting.min_workers
    cells = units(_span(arrivals, services, setting)) + 1
    boot, slo = units(setting.boot), units(setting.slo)
    starts = [units(arrival) for arrival in arrivals]
    lengths = [units(service) for service in services]
    number = np.arange(cells)
    # Others only fill up.
    first = min(least, tasks)
    workers = first + tasks

    program = Program()
    there = program.add(cells, 0, max(least, workers) if most is None else most, unit)
    going = program.add(cells, 0, 1)  # the run has not ended
    program.row(0, np.inf, (going[:-1], 1), (going[1:], -1))
    program.row(0, np.inf, (there, 1), (going, -least))
    ready, present, running = [], [], []
    start = {}
    for worker in range(workers):
        alive = program.add(cells, 0, 1)
        ready.append(alive)
        present.append((alive, -1))
        if worker < first:
            program.row(0, np.inf, (alive[:-1], 1), (alive[1:], -1))
        else:
            begun = program.add(cells, 0, number >= boot)
            program.row(0, 1, (begun[:1], 1), *((begun[index : index + 1], 1) for index in range(1, cells)))
            program.row(0, np.inf, (begun, 1), (lag(alive, 1), 1), (alive, -1))
            present += [(_lead(begun, ahead), -1) for ahead in range(1, boot + 1)]
        busy: list[Term] = [(alive, setting.concurrency)]
        for task in range(tasks):
            last = starts[task] + slo if not late else cells
            window = (number >= starts[task]) & (number <= min(last, cells - lengths[task]))
            chosen = start[worker, task] = program.add(cells, 0, window)
            busy += [(lag(chosen, since), -1) for since in range(lengths[task])]
        program.row(0, np.inf, *busy)
    program.row(0, np.inf, (there, 1), *present)
    for task in range(tasks):
        all_starts = np.concatenate([start[worker, task] for worker in range(workers)])
        program.row(1, 1, *((all_starts[index : index + 1], 1) for index in range(len(all_starts))))
        running = [
            (lag(start[worker, task], since), -1)
            for worker in range(workers)
            for since in range(lengths[task])
        ]
        program.row(0, np.inf, (going, 1), *running)
    overdue = [
        (start[worker, task][index : index + 1], 1)
        for worker in range(workers)
        for task in range(tasks)
        for index in range(starts[task] + slo + 1, cells)
    ]
    if late and overdue:
        program.row(-np.inf, late, *overdue)
    solution = program.solve(integer=True)
    course = np.sum([solution.values[alive] for alive in ready], axis=0).round().astype(int)
    course = np.maximum(course, np.where(solution.values[going] > 0.5, least, 0))
    steps = [index for index in range(cells) if not index or course[index] != course[index - 1]]
    # Costs are whole units; rounding takes away what the solver left open.
    return round(solution.bound / unit) * unit, tuple((index * unit, int(course[index])) for index in steps)


def _lead(variables: Indices, cells: int) -> Indices:
    """Give for each cell the variable of so many cells later; -1 where there is none."""
    cells = min(cells, len(variables))
    return np.concatenate([variables[cells:], np.full(cells, -1, dtype=np.int64)])
