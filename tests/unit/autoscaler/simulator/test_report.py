from autoscaler.simulator.engine import Life, Run
from autoscaler.simulator.loads import Load
from autoscaler.simulator.report import figures, percentile
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
