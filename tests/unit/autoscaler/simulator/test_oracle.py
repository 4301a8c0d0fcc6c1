"""The bound is below what every policy pays that keeps the promise, and what few tasks take at best."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.simulator import exact, oracle, program
from autoscaler.simulator.contenders import CONTENDERS, contender
from autoscaler.simulator.engine import simulate
from autoscaler.simulator.faults import Crash, Slow
from autoscaler.simulator.loads import COMMON, Load
from autoscaler.simulator.report import figures
from autoscaler.simulator.setting import Setting

SETTING = Setting(slo=4, concurrency=1, boot=2, min_workers=0)
HOUR = 3600


def load(*tasks: tuple[float, float]) -> Load:
    ordered = sorted(tasks)
    return Load("by hand", tuple(at for at, _ in ordered), tuple(took for _, took in ordered))


def seconds(tasks: Load, setting: Setting) -> float:
    return oracle.bound(tasks, setting).worker_hours * HOUR


def keepers(tasks: Load, setting: Setting, names=tuple(CONTENDERS)) -> Iterator[tuple[str, float]]:
    """Policies that keep the promise on a load, and their worker-seconds."""
    for name in names:
        run = simulate(tasks, contender(name, setting), setting)
        late = sum(start - at > setting.slo for start, at in zip(run.starts, tasks.arrivals, strict=True))
        if late <= (1 - setting.quantile) * len(tasks.arrivals) + 1e-9:
            yield name, sum(life.removed - life.created for life in run.lives)


# what it cannot be above

SETTINGS = st.builds(
    Setting,
    slo=st.floats(1, 60),
    quantile=st.sampled_from([0.5, 0.9, 0.95, 1.0]),
    concurrency=st.integers(1, 4),
    boot=st.floats(0, 30),
    min_workers=st.integers(0, 3),
    max_workers=st.integers(3, 12),
    seed=st.integers(0, 99),
    faults=st.sampled_from([(), (), (Crash(50, 2),), (Slow(0, 300, 0.5),), (Slow(20, 90, 3),)]),
)
LOADS = st.lists(
    st.tuples(st.floats(0, 300), st.one_of(st.floats(0, 5), st.floats(0, 100))), min_size=1, max_size=40
)


@settings(max_examples=40, deadline=None)
@given(tasks=LOADS, setting=SETTINGS)
def test_no_policy_that_keeps_the_promise_pays_less(tasks, setting):
    tasks = load(*tasks)
    found = oracle.bound(tasks, setting)
    for name, paid in keepers(tasks, setting):
        assert found.worker_hours * HOUR <= paid * (1 + 1e-6) + 1e-6, name
        assert found.demand, name


DELAYS = st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1), st.floats(1.001, 20))


@settings(max_examples=60, deadline=None)
@given(
    tasks=st.lists(
        st.tuples(st.floats(0, 60), st.one_of(st.floats(0.01, 30), st.just(5.0)), DELAYS),
        min_size=1,
        max_size=20,
    ),
    slo=st.sampled_from([1.0, 3.7, 10.0, 25.0]),
    finest=st.sampled_from([1, 2, 6]),
    most_cells=st.sampled_from([5, 20, 3000]),
    classes=st.sampled_from([1, 2, 6]),
)
def test_every_schedule_is_a_solution_of_the_program(tasks, slo, finest, most_cells, classes):
    """Workers of one slot, as many as tasks run at any time and no more, must be enough."""
    tasks.sort()
    arrivals, services, delays = (np.array(column) for column in zip(*tasks, strict=True))
    begins = arrivals + slo * delays
    ends = begins + services
    add = program.Program.add

    def with_these_workers(self, size, low, high, cost=0.0):
        if self.size:
            return add(self, size, low, high, cost)
        from_, to = (
            np.arange(size) * cost,
            np.arange(1, size + 1) * cost,
        )  # a worker costs the seconds of a cell
        run = [
            np.minimum(end, to) - np.maximum(begin, from_) for begin, end in zip(begins, ends, strict=True)
        ]
        mean = np.maximum(run, 0).sum(axis=0) / cost
        return add(self, size, np.maximum(mean - 1e-6, 0), mean + 1e-6, cost)

    setting = Setting(slo=slo, concurrency=1, boot=0, min_workers=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program.Program, "add", with_these_workers)
        patch.setattr(oracle, "FINEST", finest)
        patch.setattr(oracle, "MOST_CELLS", most_cells)
        patch.setattr(oracle, "CLASSES", classes)
        oracle._relax(tuple(arrivals), list(services), setting, int(sum(delays > 1)))  # or it is Infeasible


WHOLE_LOADS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10)), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(
    tasks=WHOLE_LOADS,
    setting=st.builds(
        Setting,
        slo=st.sampled_from([2.0, 5.0, 10.0]),
        quantile=st.sampled_from([0.5, 1.0]),
        concurrency=st.integers(1, 2),
        boot=st.sampled_from([0.0, 1.0, 5.0]),
        tick=st.just(1.0),
        scrape=st.just(1.0),
        min_workers=st.integers(0, 2),
        max_workers=st.just(5),
    ),
)
def test_no_policy_pays_less_than_the_best_schedule_of_few_tasks_nor_the_relaxation_more(tasks, setting):
    tasks = load(*((float(at), float(took)) for at, took in tasks))
    found = oracle.bound(tasks, setting)
    for name, paid in keepers(tasks, setting):
        assert found.worker_hours * HOUR <= paid * (1 + 1e-9), name
    if found.demand:
        late = int((1 - setting.quantile) * len(tasks.arrivals))
        relaxed, _ = oracle._relax(tasks.arrivals, list(tasks.services), setting, late)
        assert relaxed <= found.worker_hours * HOUR + 1e-6


@pytest.mark.parametrize("name", COMMON)
def test_on_the_common_loads_no_policy_that_keeps_the_promise_pays_less(name):
    make, setting = COMMON[name]
    whole = make()
    some = sum(at < 1500 for at in whole.arrivals)
    tasks = Load(name, whole.arrivals[:some], whole.services[:some])
    found = oracle.bound(tasks, setting)
    kept = dict(keepers(tasks, setting))
    assert "hpa-tuned" in kept
    assert found.feasible
    assert found.worker_hours * HOUR <= min(kept.values())
    assert (
        found.peak
        <= figures("", simulate(tasks, contender("hpa-tuned", setting), setting), tasks, setting)["peak"]
    )


# what it cannot be below


@settings(max_examples=30, deadline=None)
@given(tasks=LOADS, setting=SETTINGS)
def test_the_work_has_to_be_done_while_the_least_workers_are_there(tasks, setting):
    setting = replace(setting, faults=())
    tasks = load(*tasks)
    end = max(at + took for at, took in zip(tasks.arrivals, tasks.services, strict=True))
    paid = seconds(tasks, setting)
    assert paid >= tasks.work / setting.concurrency * (1 - 1e-9)
    assert paid >= setting.min_workers * end * (1 - 1e-9)


def test_a_burst_that_cannot_wait_costs_the_boot_of_each_of_its_workers():
    burst = load(*((100.0, 10.0) for _ in range(40)))
    setting = Setting(slo=5, quantile=1, concurrency=4, boot=20, min_workers=0)
    assert seconds(burst, setting) == pytest.approx(10 * (20 + 10), rel=1e-6)


def test_bursts_pay_boots_again_where_staying_costs_more():
    bursts = load(*((at, 10.0) for at in (100.0, 110.0, 500.0) for _ in range(40)))
    setting = Setting(slo=1, quantile=1, concurrency=4, boot=20, min_workers=0)
    assert seconds(bursts, setting) == pytest.approx(2 * 10 * 20 + 3 * 10 * 10, rel=0.01)


# what few tasks take at best


def brute_force(tasks: Load, setting: Setting) -> int | None:
    """Try every worker and every whole second for each task; None if the promise cannot be kept."""
    slo, boot, low = int(setting.slo), int(setting.boot), setting.min_workers
    arrivals, services = [int(at) for at in tasks.arrivals], [int(took) for took in tasks.services]
    may_be_late = int((1 - setting.quantile) * len(arrivals) + 1e-9)
    last = max(max(arrivals) + slo, boot) + sum(services)
    best: list[int] = []

    def cost(plan: dict[tuple[bool, int], list[tuple[int, int]]]) -> int:
        lives = [
            (0 if initial else min(begin for begin, _ in spans) - boot, max(end for _, end in spans))
            for (initial, _), spans in plan.items()
        ]
        end = max(end for _, end in lives)
        return sum(max(low, sum(begin <= at < until for begin, until in lives)) for at in range(end))

    def place(task: int, plan: dict[tuple[bool, int], list[tuple[int, int]]], late: int) -> None:
        if task == len(arrivals):
            best.append(cost(plan))
            return
        initial = sum(kind for kind, _ in plan)
        others = len(plan) - initial
        workers = [(True, number) for number in range(min(initial + 1, low))]
        workers += [(False, number) for number in range(others + 1)]
        until = last if late < may_be_late else arrivals[task] + slo
        for worker, start in product(workers, range(arrivals[task], until + 1)):
            span = (start, start + services[task])
            spans = [*plan.get(worker, []), span]
            if not worker[0] and start < boot:
                continue
            if any(sum(b <= at < e for b, e in spans) > setting.concurrency for at in range(*span)):
                continue
            place(task + 1, plan | {worker: spans}, late + (start > arrivals[task] + slo))

    place(0, {}, 0)
    return min(best, default=None)


CASES = [
    # each worker goes when its task has ended, and the next is booted for the next one
    (load((5, 3)), SETTING),
    (load((5, 3), (6, 3), (30, 2)), SETTING),
    # one waits for the other, as a boot costs more
    (load((5, 2), (6, 2), (7, 2)), SETTING),
    (load((5, 9), (6, 2), (7, 2), (7, 5)), SETTING),
    (load((5, 9), (6, 2), (7, 2), (7, 5)), replace(SETTING, concurrency=2)),
    # the first worker goes, and one that was booted meanwhile takes its place as the one that is always there
    (load((0, 10), (6, 20)), replace(SETTING, slo=3, min_workers=1)),
    (load((0, 4), (0, 4), (1, 4), (9, 1)), replace(SETTING, min_workers=1)),
    (load((0, 4), (0, 4), (1, 4), (9, 1)), replace(SETTING, min_workers=2, boot=5)),
    # one may be late
    (load((5, 6), (5, 1)), replace(SETTING, quantile=0.5, slo=1)),
    (load((5, 6), (5, 2), (7, 2)), replace(SETTING, quantile=0.6, slo=1)),
    # none can be on time, or not all
    (load((0, 1)), replace(SETTING, slo=1)),
    (load((0, 5), (0, 5)), replace(SETTING, slo=1, min_workers=1)),
    # six
    (
        load((0, 3), (1, 1), (2, 4), (3, 2), (4, 1), (5, 5)),
        replace(SETTING, slo=2, concurrency=2, min_workers=1),
    ),
    (load((2, 3), (2, 1), (3, 4), (4, 2), (8, 1), (9, 3)), replace(SETTING, slo=2, boot=1)),
]


@pytest.mark.parametrize(("tasks", "setting"), CASES)
def test_few_tasks_take_what_the_best_of_all_their_schedules_takes(tasks, setting):
    best = brute_force(tasks, setting)
    found = oracle.bound(tasks, setting)
    assert found.feasible == (best is not None)
    if best is not None:
        assert found.worker_hours * HOUR == pytest.approx(best)


def test_times_of_no_common_measure_are_not_searched():
    assert exact.unit((0.0, 1.5), (2.0, 0.25), SETTING) == 0.25
    assert exact.unit((0.0, 1.0001), (2.0, 1.0), SETTING) is None
    assert exact.unit((0.0, 900.001), (2.0, 1.0), SETTING) is None


# whether the promise can be kept


def test_a_burst_that_is_there_before_any_worker_has_booted_is_not_feasible():
    burst = load(*((0.0, 10.0) for _ in range(40)))
    found = oracle.bound(burst, Setting(slo=15, concurrency=4, boot=30))
    assert not found.feasible
    assert found.demand == ()
    assert found.worker_hours * HOUR == pytest.approx(100)  # the work


def test_too_few_workers_are_not_feasible_though_more_would_do():
    burst = load(*((100.0, 10.0) for _ in range(40)))
    setting = Setting(slo=5, quantile=1, concurrency=4, boot=20, max_workers=10)
    assert oracle.bound(burst, setting).feasible
    few = oracle.bound(burst, replace(setting, max_workers=9))
    assert not few.feasible
    assert few.peak == 10


def test_no_tasks_take_no_workers():
    assert oracle.bound(Load("none", (), ()), SETTING) == oracle.Bound(0.0, feasible=True, peak=0, demand=())


# how it is given


def test_the_demand_begins_with_the_least_workers_and_follows_the_tasks():
    burst = load(*((100.0, 10.0) for _ in range(40)))
    setting = Setting(slo=5, quantile=1, concurrency=4, boot=20)
    demand = oracle.bound(burst, setting).demand
    assert demand[0] == (0.0, 1)
    assert max(workers for _, workers in demand) == 10
    assert next(when for when, workers in demand if workers == 10) == pytest.approx(105, abs=6)


def test_the_same_load_has_the_same_bound():
    tasks = load(*((at / 7, 1 + at % 11) for at in range(300)))
    assert oracle.bound(tasks, SETTING) == oracle.bound(tasks, SETTING)


def test_a_solver_that_gives_up_leaves_the_work_as_the_bound(monkeypatch):
    gives_up = SimpleNamespace(status=4, message="numerical difficulties")
    monkeypatch.setattr(program, "linprog", lambda *_, **__: gives_up)
    tasks = load(*((at / 7, 5.0) for at in range(40)))
    assert oracle.bound(tasks, SETTING) == oracle.Bound(200 / HOUR, feasible=True, peak=0, demand=())


def test_without_scipy_it_says_what_has_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(oracle.Missing, match=r"oracle: SciPy is not installed; the extra `oracle`"):
        oracle.bound(load((0, 1)), SETTING)
