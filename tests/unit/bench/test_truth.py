"""What the bench that holds the simulator against real runs makes of them."""

import json
import math
from dataclasses import astuple, replace
from itertools import combinations, islice

import pytest

from autoscaler import policies
from autoscaler.simulator.contenders import contender
from autoscaler.simulator.engine import Life, phases, simulate
from autoscaler.simulator.loads import Load
from autoscaler.simulator.report import figures
from autoscaler.simulator.setting import Setting
from local.ledger import Row
from tests.bench import truth
from tests.bench.played import Notes, known, told
from tests.bench.truth import (
    LOADS,
    POLICIES,
    any_phase,
    compare,
    made,
    made_by,
    measured,
    predict,
    seeds,
    wrong,
)
from tests.bench.watch import Stay

SETTING = Setting(slo=5, concurrency=1, boot=3, max_workers=4, statistics=5)
LOAD = Load("two", (1.0, 2.0), (4.0, 8.0))


def side(hours, late):
    return {"worker_hours": hours, "late_percent": late, "p95": 3.0}


def run(measured, predicted):
    both = {"measured": side(*measured), "predicted": side(*predicted)}
    return {"load": "two", "policy": "hpa-tuned", "boot_seconds_each": [3.0], "overhead_seconds": 0.1, **both}


@pytest.mark.parametrize(
    ("measured", "within"),
    [
        ((1.15, 20), True),
        ((1.16, 20), False),
        ((0.85, 20), True),
        ((0.84, 20), False),
        ((1, 22), True),
        ((1, 22.1), False),
        ((1, 18), True),
        ((1, 17.9), False),
    ],
)
def test_hours_may_differ_by_a_part_and_late_shares_by_points(measured, within):
    assert compare([run(measured, (1, 20))])["within"] is within


def test_the_means_of_all_runs_are_what_is_compared():
    row = compare([run((1.0, 10), (1.0, 12)), run((1.4, 14), (1.0, 12))])
    assert row["runs"] == 2
    assert row["worker_hours"] == {"measured": 1.2, "predicted": 1.0, "difference_percent": 20.0}
    assert row["late_percent"] == {"measured": 12.0, "predicted": 12.0, "difference_points": 0.0}


def test_a_row_that_is_out_of_bounds_is_told_in_words():
    words = wrong(compare([run((1.2, 10), (1.0, 12.5))]))
    assert words.startswith("two under hpa-tuned: 1.2 worker-hours where 1 are predicted (+20 %, at most 15)")
    assert "10 % late where 12.5 % are (-2.5 points, at most 2)" in words


def played(rows, stays, **more):
    notes = Notes(100.0, ["a", "b"], [1.01, 2.02], [(0.0, 1), (5.0, 2)], stays)
    return told(LOAD, notes, rows, slots=2)


def test_what_happened_is_told_in_seconds_from_the_start_of_the_load():
    stays = {
        "w1": Stay(1, 1, created=90.0, ready=95.0),
        "w2": Stay(2, 2, created=102.0, ready=105.5, told=108.0, ended=115.0),
        "w3": Stay(3, 3, created=109.0),
    }
    rows = [
        Row("a", "x", "w1@host", 101.1, 105.2),
        Row("b", "y", "w1@host", 102.5, None),
        Row("b", "z", "w2@host", 105.4, 113.4),
    ]
    seen = played(rows, stays)
    assert seen.run.starts == pytest.approx((1.1, 5.4))  # of the attempts that ended
    assert seen.run.ends == pytest.approx((5.2, 13.4))
    assert seen.run.attempts == (1, 2)
    assert seen.run.interrupted == 1
    assert seen.run.end == pytest.approx(13.4)
    assert seen.load.arrivals == (1.01, 2.02)
    # who was there at the start counts from then on, and nobody counts after the last task
    assert seen.run.lives[0] == Life(0.0, 0.0, pytest.approx(13.4))
    assert seen.run.lives[1] == Life(pytest.approx(2.0), pytest.approx(5.4), pytest.approx(13.4))
    assert seen.run.lives[2] == Life(pytest.approx(9.0), math.inf, pytest.approx(13.4))


def test_a_boot_ends_when_the_worker_is_seen_ready_or_before_with_its_first_task():
    rows = [Row("a", "x", "w2@host", 101.0, 105.1), Row("b", "z", "w1@host", 102.1, 110.1)]
    stays = {"w1": Stay(1, 1, 90.0, 95.0), "w2": Stay(2, 2, 100.2, 105.5), "w3": Stay(3, 3, 103.0, 106.0)}
    seen = played(rows, stays)
    assert seen.boots == pytest.approx((0.8, 3.0))
    assert seen.own == pytest.approx(0.05)


def test_a_boot_ends_when_the_slots_have_begun_with_what_waited_for_them():
    rows = [Row("a", "x", "w2@host", 105.2, 109.2), Row("b", "z", "w2@host", 105.6, 113.6)]
    stays = {"w1": Stay(1, 1, 90.0, 95.0), "w2": Stay(2, 2, 102.0, 105.0)}
    assert played(rows, stays).boots == pytest.approx((3.4,))


def test_a_slot_is_handed_over_from_a_task_to_one_that_waited_for_it():
    stays = {"w1": Stay(1, 1, created=90.0, ready=95.0)}
    waited = [Row("a", "x", "w1@host", 101.1, 105.2), Row("b", "z", "w1@host", 105.5, 113.6)]
    assert played(waited, stays).handover == pytest.approx(0.3)
    came_later = [Row("a", "x", "w1@host", 101.1, 101.9), Row("b", "z", "w1@host", 102.1, 110.2)]
    assert played(came_later, stays).handover == 0.0


def test_ending_takes_from_the_word_or_the_last_task_to_the_end_of_the_process():
    rows = [Row("a", "x", "w2@host", 101.0, 105.1), Row("b", "z", "w1@host", 102.1, 120.1)]
    stays = {
        "w1": Stay(1, 1, 90.0, 95.0),
        "w2": Stay(2, 2, 90.0, 95.5, told=103.0, ended=106.1),
        "w3": Stay(3, 3, 90.0, 95.5, told=107.0, ended=107.5),
    }
    assert played(rows, stays).endings == pytest.approx((1.0, 0.5))


def test_a_run_is_told_with_its_phases_its_boots_and_its_overhead():
    one = contender("threshold", SETTING)
    rows = [Row("a", "x", "w1@host", 101.1, 105.2), Row("b", "z", "w2@host", 106.0, 114.1)]
    stays = {"w1": Stay(1, 1, 90.0, 95.0), "w2": Stay(2, 2, 102.0, 109.0)}
    row = measured(played(rows, stays), LOAD, one, SETTING)
    assert (row["boot_seconds_each"], row["overhead_seconds"]) == ([4.0], 0.1)
    assert row["phases"].keys() == {"scrape", "tick", "statistics"}
    assert row["measured"]["late_percent"] == 0.0
    assert row["measured"]["worker_hours"] == pytest.approx((14.1 + 12.1) / 3600, abs=1e-4)


def test_a_run_is_predicted_with_its_seed_its_boots_and_its_overhead():
    load, setting = made("bursts")
    told = {
        "load": "bursts",
        "policy": "threshold",
        "seed": 4,
        "boot_seconds_each": [2, 4],
        "overhead_seconds": 0.1,
    }
    one = contender("threshold", setting)
    same = replace(setting, seed=4, boots=(2, 4), overhead=0.1)
    assert predict(told) == figures("threshold", simulate(load, one, same), load, same)
    assert predict(told) != predict(told | {"seed": 5}) != predict(told | {"boot_seconds_each": [9]})


def test_for_any_phase_two_percentiles_of_each_figure_are_told(monkeypatch):
    monkeypatch.setattr(truth, "PHASES", 5)
    told = {"load": "wave", "policy": "threshold", "boot_seconds_each": [2], "overhead_seconds": 0.1}
    low, high = any_phase([told])["late_percent"]
    assert low < high


def test_the_predictions_of_the_report_are_those_of_the_simulator():
    runs = json.loads(truth.REPORTS[-1].read_text())["runs"]
    for run in (runs[0], runs[-1]):
        assert run["predicted"] == predict(run), "run `python -m tests.bench.truth --again`, then `make docs`"


@pytest.mark.parametrize("policy", POLICIES)
def test_no_seed_leaves_to_chance_what_is_done_first(policy):
    one = contender(policy, SETTING)
    for seed in islice(seeds(one, SETTING), 5):
        drawn = [
            phase % 5
            for phase in astuple(phases(one, Setting(slo=5, concurrency=1, boot=3, statistics=5, seed=seed)))
        ]
        assert all(0.6 <= abs(a - b) <= 4.4 for a, b in combinations(drawn, 2))


@pytest.mark.parametrize("name", LOADS)
def test_a_load_is_the_same_each_time_and_over_within_minutes(name):
    make, setting = LOADS[name]
    load = make()
    assert load == make()
    assert load.arrivals[-1] < 240
    assert setting.max_workers <= 8


def test_the_loop_knows_a_policy_of_others_for_as_long_as_it_is_played():
    one = contender("hpa-tuned", SETTING)
    with known(one) as name:
        assert policies.POLICIES[name] is one.policy
    assert name not in policies.POLICIES


def test_our_own_policy_is_played_as_the_live_one():
    with known(contender("threshold", SETTING)) as name:
        assert name == "threshold"


@pytest.mark.parametrize(
    ("chosen", "command"),
    [
        (POLICIES, "python -m tests.bench.truth"),
        (["threshold", "keda"], "python -m tests.bench.truth --policies threshold,keda"),
    ],
)
def test_the_command_that_measures_the_same_again_is_told(chosen, command):
    assert made_by(chosen) == command


@pytest.fixture
def command(monkeypatch, tmp_path):
    """The command with options, on runs that ended with this late share; what it wrote."""

    def run_it(late, *options):
        ran = {"machine": {}, "runs": [run((1.0, late), (1.0, 20)) | {"load": "bursts"}]}
        monkeypatch.setattr(truth, "measure", lambda *_: ran)
        monkeypatch.setattr(truth, "predict", lambda run: run["predicted"])
        monkeypatch.setattr(truth, "any_phase", lambda _: {})
        monkeypatch.setattr(truth, "REPORTS", (tmp_path / "build" / "truth.json",))
        monkeypatch.setattr("sys.argv", ["truth", *options])
        try:
            truth.main()
        finally:
            wrote = list(tmp_path.rglob("truth.json"))
        return wrote

    return run_it


def test_the_command_writes_what_it_measured(command):
    (path,) = command(21)
    assert json.loads(path.read_text())["made_by"] == "python -m tests.bench.truth --policies hpa-tuned"


def test_the_command_fails_with_words_where_a_row_is_out_of_bounds(command, tmp_path):
    with pytest.raises(SystemExit, match=r"bursts under hpa-tuned: .* 25 % late where 20 % are \(\+5 points"):
        command(25)
    assert list(tmp_path.rglob("truth.json"))


def test_runs_of_the_last_report_can_be_predicted_again(command, monkeypatch, tmp_path):
    command(21)
    monkeypatch.setattr(truth, "measure", None)
    monkeypatch.setattr(truth, "predict", lambda _: side(1.0, 20.5))
    monkeypatch.setattr("sys.argv", ["truth", "--again"])
    truth.main()
    (row,) = json.loads((tmp_path / "build" / "truth.json").read_text())["rows"]
    assert row["late_percent"] == {"measured": 21, "predicted": 20.5, "difference_points": 0.5}


def test_runs_of_the_last_report_under_other_policies_can_be_kept(command, monkeypatch, tmp_path):
    command(21)
    other = run((1.0, 20), (1.0, 20)) | {"load": "bursts", "policy": "keda"}
    monkeypatch.setattr(truth, "measure", lambda *_: {"machine": {}, "runs": [other]})
    monkeypatch.setattr("sys.argv", ["truth", "--policies", "keda", "--add"])
    truth.main()
    report = json.loads((tmp_path / "build" / "truth.json").read_text())
    assert [row["policy"] for row in report["rows"]] == ["hpa-tuned", "keda"]
    assert report["made_by"] == "python -m tests.bench.truth --policies hpa-tuned,keda"


def test_a_look_at_a_part_writes_nothing(command):
    assert command(21, "--runs", "1") == command(21, "--loads", "wave") == []


def test_a_policy_that_nobody_knows_is_refused_by_its_name(command, capsys):
    with pytest.raises(SystemExit):
        command(21, "--policies", "threshold,guess")
    assert "'guess' must be of slo, threshold" in capsys.readouterr().err
