from autoscaler.simulator.engine import Life, Run
from autoscaler.simulator.loads import Load
from autoscaler.simulator.oracle import Bound
from autoscaler.simulator.report import ELASTICITY, elasticity, figures, oracle_figures, percentile
from autoscaler.simulator.setting import Setting

SETTING = Setting(slo=30, concurrency=1, boot=20)


def test_the_figures_of_a_run_add_up():
    load = Load("by hand", (0, 10, 20, 30), (5, 5, 5, 5))
    run = Run(
        starts=(0, 20, 60, 61),
        ends=(5, 25, 65, 66),
        attempts=(1, 1, 1, 2),
        lives=(Life(0, 0, 7200), Life(0, 20, 3600), Life(3600, 3620, 7200)),
        backlog=(),
        wanted=((0, 1), (5, 3), (10, 4), (60, 2), (90, 3)),
        interrupted=1,
        end=7200,
    )
    assert figures("ours", run, load, SETTING) == {
        "policy": "ours",
        "late_percent": 50.0,
        "p50": 10,
        "p95": 40,
        "p99": 40,
        "worker_hours": 4.0,
        "peak": 2,
        "interrupted": 1,
        "actions": 4,
        "flips": 2,
    }


def test_a_percentile_is_a_value_that_was_there():
    assert percentile([1, 2, 3, 4], 0.5) == 2
    assert percentile([1, 2, 3, 4], 0.99) == 4
    assert percentile([7], 0.01) == 7


def supplied(*lives: Life, end: float = 100) -> Run:
    return Run((), (), (), lives, (), (), 0, end)


def test_supply_is_held_against_demand_over_time():
    # supply: 2 from the start, 4 from 50 on; demand: 4 from the start, 2 from 75 on
    run = supplied(Life(0, 0, 100), Life(0, 0, 100), Life(30, 50, 100), Life(30, 50, 100))
    setting = Setting(slo=25, concurrency=1, boot=20)
    assert elasticity(run, ((0, 4), (75, 2)), setting) == {
        "theta_u": 25,  # half of it was missing, for half of the time
        "theta_o": 25,  # as much again as it was there, for a quarter
        "tau_u": 50,
        "tau_o": 25,
        "instability": 50,  # up until 50, down until 75
        "jitter": 0,
    }


def test_changes_of_supply_that_demand_does_not_have_are_jitter():
    run = supplied(Life(0, 0, 3600), Life(0, 20, 100), Life(180, 200, 300), end=3600)
    assert elasticity(run, ((0, 1), (1000, 2)), SETTING)["jitter"] == 3
    assert elasticity(supplied(Life(0, 0, 3600), end=3600), ((0, 1), (1000, 2)), SETTING)["jitter"] == -1


def test_workers_that_go_as_others_get_ready_change_no_supply():
    run = supplied(Life(0, 0, 50), Life(30, 50, 100), Life(60, float("inf"), 70))
    assert elasticity(run, ((0, 1),), SETTING) == dict.fromkeys(ELASTICITY, 0)


def test_where_no_worker_is_needed_each_one_is_one_too_much():
    run = supplied(Life(0, 0, 100), Life(0, 0, 100))
    assert elasticity(run, ((0, 0),), SETTING)["theta_o"] == 200


def test_without_a_demand_there_are_no_figures_of_elasticity():
    assert elasticity(supplied(Life(0, 0, 100)), (), SETTING) == dict.fromkeys(ELASTICITY)


def test_the_row_of_the_oracle_has_the_keys_of_the_others_and_is_empty_where_nobody_keeps_the_promise():
    run = Run((0,), (5,), (1,), (Life(0, 0, 5),), (), ((0, 1),), 0, 5)
    others = figures("ours", run, Load("one", (0,), (5,)), SETTING)
    row = oracle_figures(Bound(1.25, feasible=True, peak=3, demand=((0, 3),)))
    assert list(row) == list(others)
    assert (row["worker_hours"], row["peak"], row["late_percent"]) == (1.25, 3, None)
    row = oracle_figures(Bound(1.25, feasible=False, peak=3, demand=()))
    assert (row["worker_hours"], row["peak"]) == (None, None)
