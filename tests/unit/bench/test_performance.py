"""docs/performance.md: what it says of figures."""

import pytest
from msgspec import to_builtins

from docs.performance import CLUSTER_COLUMNS, PAGE, current
from docs.performance import page as page_of
from tests.bench.autoscaler import CLAIMS
from tests.bench.gateway import GOALS
from tests.bench.runs import CLOSED, F1, F2, GATEWAY, LOADS, OPEN, SINGLE, Figures

COSTS = ("cpu_ms_parent", "cpu_ms_child", "cpu_ms_task", "tasks_a_second")
WORKER = {
    "systems": [
        {"name": "kit", "does": "a row", **dict.fromkeys(COSTS, 3.0)},
        {"name": "stock", "does": "no row", **dict.fromkeys(COSTS, 2.0)},
    ],
    "ratios": {"kit / stock": 1.5},
}
SCALED = {"late_percent": 0.0, "interrupted": 0, "worker_hours": 8.0, "flips": 4}
SCALING = {
    "made_by": "make bench-autoscaler",
    "loads": {
        "mix": {
            "setting": {"slo": 30, "quantile": 0.95, "concurrency": 4, "boot": 20, "max_workers": 60},
            "feasible": True,
            "oracle": {"worker_hours": 5.25},
        }
    },
    "rows": [
        {"load": "mix", "policy": "slo", **SCALED},
        {"load": "mix", "policy": "hpa", **SCALED, "late_percent": 7.0, "interrupted": 3},
    ],
    "claims": dict.fromkeys(CLAIMS, 0.0),
}
COST = {
    "cpu_seconds_per_tick": 0.3,
    "rss_mib": 63.5,
    "peak_rss_mib": 64.1,
    "idle_rss_mib": 34,
    "idle_cpu_share": 0.001,
}
CLUSTER = {
    "made_by": "make cluster-up",
    "setting": {"slo": 60, "concurrency": 2, "max_workers": 5},
    "does": "Bursts.",
    "rows": [{"policy": "slo"} | dict.fromkeys(list(CLUSTER_COLUMNS)[1:], 2.5)],
}
TRUTH = {
    "made_by": "python -m tests.bench.truth",
    "machine": {"cores": 2, "rabbitmq": "3.10", "prometheus": "2.42", "celery": "5.7", "load_average": 3.2},
    "limits": {"worker_hours_percent": 15.0, "late_points": 2.0, "phases_apart_seconds": 0.6},
    "setting": {"concurrency": 4, "max_workers": 8, "scrape": 5.0, "statistics": 5, "tick": 5.0},
    "loads": {"bursts": {"does": "On and off.", "tasks": 600, "slo": 15}},
    "rows": [
        {
            "load": "bursts",
            "policy": "threshold",
            "runs": 3,
            "worker_hours": {"measured": 0.34, "predicted": 0.3, "difference_percent": 13.33},
            "late_percent": {"measured": 17.5, "predicted": 19, "difference_points": -1.5},
            "boot_seconds": [1.06, 2.71],
            "overhead_seconds": 0.06,
            "any_phase": {"worker_hours": [0.29, 0.32], "late_percent": [1, 40]},
            "within": True,
        }
    ],
}
MACHINE = ("cores", "python", "rabbitmq", "celery", "tornado", "aiormq", "h2load")


def figures(system, load, answers="responder", **more):
    good = {"requests": 100, "throughput": 500, "p50_ms": 4.0, "p99_ms": 9.0, "cpu_ms": 0.5}
    return to_builtins(Figures(system=system, answers=answers, load=load, run=3, **(good | more)))


def report(*more, **keys):
    medians = [figures(GATEWAY, load) for load in LOADS]
    return {
        "made_by": "make bench-gateway",
        "machine": dict.fromkeys(MACHINE, "1") | {"cores": 2, "peers": ["taskiq 0.13"]},
        "goals": GOALS,
        "failed": {},
        "medians": [*medians, *more],
        "cpu_ratio_to_floors": 1.2,
        **keys,
    }


def page(report):
    return page_of(report, WORKER, SCALING, TRUTH, CLUSTER, COST)


def scaling(**claims):
    claimed = {name: {**SCALING["claims"], **claims}[name] for name in SCALING["claims"]}
    return section(page_of(report(), WORKER, SCALING | {"claims": claimed}, TRUTH, CLUSTER, COST), "Scaling")


def section(text, heading):
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_the_page_is_what_the_figures_give():
    assert PAGE.read_text() == current(), "run `make docs`"


@pytest.mark.parametrize(
    ("key", "value", "row"),
    [
        ("cpu_ratio_to_floors", 1.3, "| ≤ 1.3 | 1.3 | yes |  |"),
        ("cpu_ratio_to_floors", 1.31, "| ≤ 1.3 | 1.31 | **no** |  |"),
        ("throughput_vs_fastapi_thread", 3.5, "| ≥ 3 | 3.5 | yes |  |"),
        ("throughput_vs_fastapi_thread", 2.9, "| ≥ 3 | 2.9 | **no** |  |"),
        ("throughput_vs_fastapi_thread", None, "| not measured |  |"),
    ],
)
def test_a_goal_is_told_as_met_or_not(key, value, row):
    assert row in section(page(report(**{key: value})), "Goals")


def test_the_thread_that_waits_stands_beside_where_it_was_put_through_the_same():
    text = section(page(report(burst200_wall_seconds=1.2, fastapi_thread_burst200_wall_seconds=5.3)), "Goals")
    assert "| ≤ 1.4 | 1.2 | yes | 5.3 |" in text


def test_the_ratios_to_the_floors_are_told_for_each_load():
    floors = [figures(F1, OPEN, cpu_ms=0.3), figures(F2, OPEN, "none", cpu_ms=0.1)]
    text = section(page(report(*floors)), "Goals")
    assert "| 500 a second | 1.25 | 0.5 | 0.5 |" in text
    assert "| 32 at once | – | – | – |" in text  # noqa: RUF001


def test_ahead_of_all_is_said_so():
    text = page(
        report(figures("taskiq", CLOSED, "own worker", throughput=400, p50_ms=5, p99_ms=10, cpu_ms=1))
    )
    assert "Nobody is ahead of the gateway by more than 2 % in any column." in section(text, "32 at once")


def test_who_is_ahead_in_a_column_is_named_with_the_reason():
    text = section(page(report(figures("taskiq", CLOSED, "own worker", p99_ms=4.5))), "32 at once")
    assert "- p99, ms: taskiq is ahead by a factor of 2.00; its task is no Celery task" in text
    assert "p50, ms: taskiq" not in text


@pytest.mark.parametrize(("ours", "theirs", "told"), [(495, 650, False), (400, 650, True), (400, 390, False)])
def test_at_500_a_second_more_answers_than_that_are_no_lead(ours, theirs, told):
    figures_of_both = report(figures("aio-celery", OPEN, "own worker", throughput=theirs))
    next(one for one in figures_of_both["medians"] if one["load"] == OPEN)["throughput"] = ours
    text = section(page(figures_of_both), "500 a second")
    assert ("- answers a second: aio-celery is ahead by a factor of 1.25;" in text) is told


def test_floors_and_those_that_fail_are_ahead_of_nobody():
    others = [
        figures(F1, OPEN, cpu_ms=0.1),
        figures(F2, OPEN, "none", cpu_ms=0.1),
        figures(
            "flower-apply", OPEN, requests=0, throughput=0, cpu_ms=None, p50_ms=None, p99_ms=None, error="no"
        ),
    ]
    assert "Nobody is ahead of the gateway" in section(page(report(*others)), "500 a second")


def test_a_failure_stands_in_the_table_in_words_that_do_not_break_it():
    failing = figures("flower-apply", CLOSED, requests=200, errors=50, error="500: a `|` <b>")
    row = next(
        line for line in page(report(failing)).splitlines() if line.startswith("| flower-apply | resp")
    )
    assert row.endswith("| 25 %: 500: a '\\|' &lt;b> |")


def test_a_worker_stands_beside_the_others_with_its_ratio_to_them():
    text = section(page(report()), "Workers")
    assert "| kit | a row | 3 | 3 | 3 | 3 |" in text
    assert "| kit ÷ stock | 1.5 |" in text


SILENT = {"requests": 0, "throughput": 0, "p50_ms": None, "p99_ms": None, "cpu_ms": None, "error": "no"}
BOUNDS = "What bounds each"


@pytest.mark.parametrize(
    ("costs", "limit"),
    [
        ({"cpu_ms": 1.8, "answering_cpu_ms": 0.2}, "90 | 10 | – | – | web process |"),  # noqa: RUF001
        ({"cpu_ms": 0.4, "answering_cpu_ms": 1.9}, "20 | 95 | – | – | who answers |"),  # noqa: RUF001
        (
            {"cpu_ms": 1.0, "answering_cpu_ms": 1.4, "broker_cpu_ms": 1.2, "load_cpu_ms": 0.1},
            "50 | 70 | 60 | 5 | all cores, most by who answers |",
        ),
        ({"cpu_ms": 0.4, "answering_cpu_ms": 0.2}, "20 | 10 | – | – | none of these |"),  # noqa: RUF001
        (SILENT, "– | – | – | – | it fails |"),  # noqa: RUF001
    ],
)
def test_what_bounds_a_system_follows_from_the_cpu_that_all_took(costs, limit):
    text = section(page(report(figures("taskiq", CLOSED, "own worker", **costs))), BOUNDS)
    assert f"| taskiq | {limit}" in text


@pytest.mark.parametrize(
    ("cost", "words"), [(0.1, "at most 5 % of a core: it bounded nobody"), (1.8, "**it bounded what")]
)
def test_the_responder_is_told_as_a_bound_when_it_was_one(cost, words):
    text = section(page(report(figures("flower-apply", CLOSED, answering_cpu_ms=cost))), BOUNDS)
    assert words in text


@pytest.mark.parametrize(("throughput", "told"), [(100, True), (600, False)])
def test_real_workers_are_told_as_the_limit_only_where_they_are(throughput, told):
    real = figures(GATEWAY, CLOSED, "workers", throughput=throughput, cpu_ms=1.0, answering_cpu_ms=4.0)
    assert ("they are the limit" in section(page(report(real)), BOUNDS)) is told


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([figures("taskiq", SINGLE, "own worker", p50_ms=27)], "taskiq looks for a result every 20 ms (200"),
        (
            [
                figures("faststream-rpc", SINGLE, "own worker", throughput=500),
                figures("faststream-rpc", CLOSED, "own worker", throughput=800),
            ],
            "32 at once make it 1.6 times as fast as one",
        ),
    ],
)
def test_why_a_peer_stops_is_told_where_its_figures_show_it(more, words):
    assert words in section(page(report(*more)), BOUNDS)


def test_flower_is_told_as_silent_with_the_loads_under_which_a_run_of_it_was():
    runs = [figures("flower-apply", load, **SILENT) for load in (CLOSED, OPEN)]
    text = section(page(report(runs=[figures("flower-apply", CLOSED), *runs])), BOUNDS)
    assert "flower-apply answers nothing in a run with 32 at once or with 500 a second:" in text


def test_a_run_without_any_answer_stands_in_the_table_beside_runs_with_answers():
    text = section(page(report(figures("flower-apply", CLOSED, error="no answer"))), "32 at once")
    assert "| all of one run or more: no answer |" in text


def test_of_peers_whose_figures_show_nothing_of_the_kind_nothing_is_told():
    names = ("flower-apply", "aio-celery", "taskiq", "fastapi-polling")
    more = [figures(name, load) for name in names for load in (CLOSED, SINGLE)]
    more += [figures("faststream-rpc", SINGLE, throughput=50)]
    assert "\n- " not in section(page(report(*more, burst200_wall_seconds=1.2)), BOUNDS)


def test_threads_that_wait_are_told_as_the_limit_where_the_burst_and_the_echo_show_it():
    keys = {"burst200_wall_seconds": 1.2, "echo_behind_40_waits_ms": 8.0}
    slow = {f"fastapi_thread_{key}": value * 5 for key, value in keys.items()}
    text = section(page(report(**keys, **slow)), BOUNDS)
    assert "take it 6 s, the gateway 1.2 s" in text
    assert "an echo takes fastapi-thread 40 ms, the gateway 8 ms" in text


def test_what_waiting_takes_is_told():
    keys = {"waits_at_once": 10_000, "ended_well": 9_999, "cpu_share_while_waiting": 0.031}
    lags = dict.fromkeys(("", "_while_beginning", "_while_answered"), 7.0)
    text = section(
        page(report(**keys, **{f"loop_lag_max_ms{part}": lag for part, lag in lags.items()})), "Waiting"
    )
    assert "10,000 calls wait at once in one process, without HTTP, and 9,999 of them end well" in text
    assert "3.1 % of a core" in text
    assert "| are answered | 7 |" in text


def test_a_part_that_failed_is_told_with_its_error():
    text = page(report(failed={"waiting": "nobody could consume the queue"}))
    assert "The part `waiting` failed: nobody could consume the queue." in section(text, "Goals")
    assert "not measured" in section(text, "Waiting")


def test_each_load_shows_every_policy_with_who_is_late_and_cut_short_and_the_bound():
    text = scaling()
    assert "| mix | 8 | 8 (7) | 5.25 |" in text
    assert "| mix | 4 | 4 (3) |" in text


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_about_scaling_that_is_not_met_is_told(claim):
    assert "**no**" not in scaling(**{claim: CLAIMS[claim]})
    assert scaling(**{claim: CLAIMS[claim] + 1}).count("**no**") == 1


def test_what_was_simulated_stands_beside_what_was_real_with_the_command_and_the_limits():
    text = section(page(report()), "Simulated and real")
    row = "| bursts | threshold | 0.34 | 0.3 | +13.3 % | 17.5 | 19 | -1.5 | yes | 1.06 to 2.71 | 0.06 |"
    assert f"{row} 0.29 to 0.32 | 1 to 40 |" in text
    assert "- bursts: On and off. 600 tasks, late after 15 s." in text
    assert "means of 3 runs" in text
    assert "\n    python -m tests.bench.truth\n" in text
    assert "may be\noff by 15 %, the late share by 2 percentage points" in text


def test_a_prediction_that_is_off_by_more_than_it_may_is_told_so():
    truth = TRUTH | {"rows": [TRUTH["rows"][0] | {"within": False}]}
    text = page_of(report(), WORKER, SCALING, truth, CLUSTER, COST)
    assert "| -1.5 | **no** |" in section(text, "Simulated and real")


def test_what_was_played_on_a_cluster_has_a_row_for_each_pool():
    text = section(page(report()), "On a cluster")
    assert f"| slo | {' | '.join(['2.5'] * (len(CLUSTER_COLUMNS) - 1))} |" in text


def test_each_cost_of_the_autoscaler_stands_beside_its_goal():
    text = section(page(report()), "What the autoscaler costs")
    assert "| resident after all that, MiB | ≤ 64 | 63.5 | yes |" in text
    assert "| resident at most, from the start on, MiB | ≤ 64 | 64.1 | no |" in text
