import json
import re
import sys

import pytest

from autoscaler.__main__ import main

KEYS = {
    "policy", "late_percent", "p50", "p95", "p99", "worker_hours", "peak", "interrupted", "actions", "flips",
}  # fmt: skip
ELASTICITY = {"theta_u", "theta_o", "tau_u", "tau_o", "instability", "jitter"}


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    rows = "".join(f"{n / 4},{5 + n % 3}\n" for n in range(400))
    path.write_text("arrival_seconds,service_seconds\n" + rows)
    return path


def command(trace, *more):
    main(["simulate", "--trace", str(trace), "--slo", "30", "--concurrency", "4", "--boot", "20", *more])


def test_json_has_a_row_of_figures_for_each_policy(trace, capsys):
    command(trace, "--policies", "threshold,hpa,step", "--json")
    rows = json.loads(capsys.readouterr().out)
    assert [row["policy"] for row in rows] == ["threshold", "hpa", "step"]
    assert all(row.keys() >= KEYS for row in rows)
    assert all(row["worker_hours"] > 0.15 for row in rows)  # the work is 0.67 slot-hours, of four slots each


def test_json_has_the_bound_of_the_oracle_and_holds_the_others_against_it(trace, capsys):
    command(trace, "--policies", "oracle,threshold", "--json")
    oracle, threshold = json.loads(capsys.readouterr().out)
    assert oracle.keys() == threshold.keys() == KEYS | ELASTICITY
    assert 0.167 < oracle["worker_hours"] < threshold["worker_hours"]
    assert {oracle[name] for name in ELASTICITY} == {None}
    assert all(isinstance(threshold[name], float) for name in ELASTICITY)


def test_without_scipy_there_is_no_elasticity_and_no_oracle(trace, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    command(trace, "--json")
    for row in json.loads(capsys.readouterr().out):
        assert {row[name] for name in ELASTICITY} == {None}
    with pytest.raises(SystemExit):
        command(trace, "--policies", "oracle")
    assert capsys.readouterr().err.endswith(
        "oracle: SciPy is not installed; the extra `oracle` of celery-kit has it\n"
    )


def test_the_table_has_a_line_of_the_oracle(trace, capsys):
    command(trace, "--policies", "threshold,oracle")
    *_, last = capsys.readouterr().out.splitlines()
    assert last.split()[:5] == ["oracle", "-", "-", "-", "-"]


def test_the_same_seed_gives_the_same_bytes(trace, capsys):
    told = []
    for seed in ("3", "3", "4"):
        command(trace, "--policies", "hpa", "--json", "--seed", seed, "--fault", "crash:50")
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] != told[2]


def test_a_table_has_a_line_for_each_policy(trace, capsys):
    command(trace, "--policies", "threshold,kpa")
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["policy", "late_percent"]
    assert [line.split()[0] for line in lines] == ["threshold", "kpa"]


def test_without_a_word_both_policies_of_the_autoscaler_are_compared(trace, capsys):
    command(trace)
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["slo", "threshold"]


def test_one_policy_with_several_settings_has_a_line_for_each(trace, capsys):
    names = ["slo:minWorkers=9", "slo", "threshold:targetBacklogPerWorker=40", "threshold"]
    command(trace, "--policies", ",".join(names), "--json")
    rows = json.loads(capsys.readouterr().out)
    assert [row["policy"] for row in rows] == names
    assert len({row["worker_hours"] for row in rows}) == 4
    assert rows[0]["peak"] >= 9


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_plot_has_a_panel_for_each_policy_and_the_same_bytes_each_time(trace, tmp_path, suffix):
    drawn = []
    for number in range(2):
        path = tmp_path / f"{number}.{suffix}"
        command(trace, "--policies", "threshold,hpa", "--plot", str(path))
        drawn.append(path.read_bytes())
    assert drawn[0] == drawn[1]
    command(trace, "--policies", "threshold", "--plot", str(path))
    assert len(path.read_bytes()) < len(drawn[0])


def test_a_plot_names_each_policy_and_the_promise_and_stays_small(tmp_path, trace):
    trace.write_text("arrival_seconds,service_seconds\n" + "".join(f"{n / 2},{n % 9}\n" for n in range(5000)))
    path = tmp_path / "plot.svg"
    command(trace, "--policies", "slo:sloQuantile=0.975,threshold", "--plot", str(path))
    text = path.read_text()
    assert re.findall(r">(\S+): \d+\.\d\d worker-hours<", text) == [
        "slo:sloQuantile=0.975",
        "threshold",
    ]
    assert ">promise: 30 s<" in text
    assert len(text) < 100_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--policies", "magic"], "policies: 'magic' is not known; known are slo, threshold, hpa"),
        (["--policies", ""], "policies: must name at least one of slo, threshold"),
        (["--policies", "oracle:minWorkers=2"], "policies: oracle has no keys"),
        (
            ["--policies", "threshold:up=2"],
            "policies: 'threshold:up=2': 'up' is no key of threshold; known are ",
        ),
        (["--slo", "0"], "slo: 0 must be seconds above 0"),
        (["--quantile", "1.5"], "quantile: 1.5 must be above 0 and at most 1"),
        (["--concurrency", "0"], "concurrency: 0 must be 1 or more"),
        (["--min", "9", "--max", "3"], "min_workers: 9 must be 0 to max_workers (3)"),
        (["--delivery", "random"], "delivery: 'random' must be round-robin or priority"),
        (["--fault", "fire:1"], "fault: 'fire:1' is not known"),
        (["--plot", "plot.pdf"], "plot: plot.pdf must end in .svg or .png"),
        (
            ["--plot", "p.svg", "--policies", "oracle"],
            "plot: oracle has nothing to draw; policies must name another",
        ),
        (["--plot", "nowhere/plot.svg"], "nowhere/plot.svg: No such file or directory"),
        (["--trace", "nowhere.csv"], "nowhere.csv: No such file or directory"),
    ],
)
def test_bad_input_ends_with_one_line_that_says_what_would_be_right(trace, capsys, options, words):
    with pytest.raises(SystemExit) as end:
        command(trace, *options)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_bad_line_of_the_trace_is_named(trace, capsys):
    trace.write_text("arrival_seconds,service_seconds\n1,2\n3,soon\n")
    with pytest.raises(SystemExit):
        command(trace)
    assert "line 3: service_seconds" in capsys.readouterr().err


def test_without_a_command_the_configuration_is_required(capsys):
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    assert "--config FILE is required" in capsys.readouterr().err
