"""The bench of policies: what it simulates, claims and draws."""

from dataclasses import replace
from typing import Any

import pytest

from autoscaler.simulator.engine import Run
from autoscaler.simulator.loads import COMMON, PROMISE
from tests.bench.autoscaler import CLAIMS, Job, claims, draw, feasible, jobs, removed, report, turned

GOOD: dict[str, Any] = {
    "late_percent": 1.0,
    "interrupted": 0,
    "worker_hours": 8.0,
    "flips": 4,
    "feasible": True,
}


def rows(**changes: dict[str, Any]) -> dict[Job, dict[str, Any]]:
    """A row for each job of two loads; the changes are by policy, or of the outage."""
    found = {}
    for job in jobs(["mix", "wave"]):
        key = "outage" if job.outage else job.policy.replace("-", "_")
        found[job] = GOOD | {"load": job.load, "policy": job.policy, "removed": 0} | changes.get(key, {})
    return found


def test_every_load_is_under_every_policy_and_the_knobs_are_turned_both_ways() -> None:
    todo = list(jobs(["mix"]))
    assert {job.policy for job in todo} >= {
        "slo",
        "threshold",
        "hpa",
        "hpa-tuned",
        "keda",
        "kpa",
        "step",
        "oracle",
    }
    for policy in ("slo", "threshold", "hpa-tuned"):
        factors = [job.factor for job in todo if job.policy == policy]
        assert min(factors) < 1 < max(factors)


def test_the_knob_of_the_promise_is_the_promise_and_that_of_others_their_target() -> None:
    assert turned(Job("mix", "slo", 2), PROMISE).scale.slo_seconds == 60
    assert turned(Job("mix", "hpa-tuned", 0.5), PROMISE).scale.target_backlog_per_worker == 2


def test_a_promise_that_leaves_no_time_for_a_boot_and_two_ticks_is_not_feasible() -> None:
    assert feasible(PROMISE, met=True)
    assert not feasible(PROMISE, met=False)
    assert not feasible(replace(PROMISE, boot=21), met=True)


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, set()),
        ({"slo": {"late_percent": 5.1}}, {"worst_late_percent"}),
        ({"slo": {"interrupted": 1}}, {"interrupted"}),
        ({"slo": {"worker_hours": 8.6}}, {"hours_ratio_to_tuned_hpa"}),
        ({"oracle": {"worker_hours": 4}}, {"hours_ratio_to_oracle"}),
        ({"slo": {"flips": 9}}, {"flips_ratio_to_hpa"}),
        ({"outage": {"late_percent": 6}}, {"outage_worst_late_percent"}),
        ({"outage": {"removed": 1}}, {"outage_workers_removed"}),
    ],
)
def test_a_claim_that_does_not_hold_is_seen(changes: dict[str, Any], broken: set[str]) -> None:
    tuned = {"hpa_tuned": {"worker_hours": 10}}
    found = claims(rows(**(tuned | changes)), ["mix", "wave"])
    assert {name for name, most in CLAIMS.items() if found[name] > most} == broken


def test_a_load_on_which_the_tuned_hpa_is_late_may_cost_more_than_it() -> None:
    late = {"hpa_tuned": {"late_percent": 6.0, "worker_hours": 4.0}}
    assert claims(rows(**late), ["mix", "wave"])["worst_hours_ratio_to_tuned_hpa"] == 0


def test_only_workers_that_go_during_the_outage_count_as_removed() -> None:
    wanted = ((0.0, 1), (1700.0, 9), (1790.0, 8), (1900.0, 10), (2000.0, 6), (2500.0, 1))
    run = Run((), (), (), (), (), wanted, 0, 0.0)
    assert removed(run) == 2


def test_the_same_figures_draw_the_same_bytes(tmp_path: Any) -> None:
    made = report(rows(), {name: COMMON[name][1] for name in ("mix", "wave")}, "make")
    drawn = []
    for number in range(2):
        draw(made, tmp_path / f"{number}.svg")
        drawn.append((tmp_path / f"{number}.svg").read_bytes())
    assert drawn[0] == drawn[1]
    assert b"worker-hours" in drawn[0]
