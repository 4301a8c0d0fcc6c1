"""The bench on a cluster: its load, its values, and how it counts worker-hours."""

from types import SimpleNamespace
from typing import Any

import pytest

from local.ledger import Row
from tests.bench import cluster
from tests.bench.cluster import KEPT, TUNED, Pods, Stay, load, told, values


def test_the_same_load_comes_each_time_and_leaves_time_for_a_boot_between_its_bursts() -> None:
    assert load() == load()
    assert len(load().arrivals) == 4 * 60 + 120


def test_the_pools_differ_in_who_scales_them_alone() -> None:
    pools = values()["worker"]["pools"]
    kept, tuned = ({key: pools[name][key] for key in ("concurrency", "poolType")} for name in (KEPT, TUNED))
    assert kept == tuned
    assert pools[KEPT]["autoscale"]["policy"] == "slo"
    assert pools[TUNED]["autoscale"] == {"enabled": False}


@pytest.fixture
def pods() -> Pods:
    seen = Pods(kit=SimpleNamespace())  # type: ignore[arg-type]
    seen.stays[KEPT] = {"first": Stay(0.0, 5.0), "second": Stay(1060.0, 1080.0, 1120.0)}
    seen.stays[TUNED] = {"first": Stay(0.0, 5.0)}
    seen.peaks = {KEPT: 2, TUNED: 1}
    return seen


def test_worker_hours_run_from_creation_to_removal_within_the_load(pods: Pods) -> None:
    assert pods.hours(KEPT, 1000, 1100) == pytest.approx((100 + 40) / 3600)
    assert pods.hours(KEPT, 1000, 2000) == pytest.approx((1000 + 60) / 3600)
    assert pods.boots(KEPT, 1000) == [20]


def test_who_is_late_cut_short_run_twice_or_lost_is_told(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = {
        KEPT: [
            Row("slo-0", "a", "w", 1001, 1005),
            Row("slo-1", "b", "w", 1010, None),
            Row("slo-1", "c", "w", 1090, 1100),
        ],
        TUNED: [
            Row("hpa-tuned-0", "d", "w", 1001, 1005),
            Row("hpa-tuned-0", "e", "w", 1002, 1006),
        ],
    }
    monkeypatch.setattr(cluster, "rows", lambda _, ids: ran[ids[0].rpartition("-")[0]])
    sent = {pool: {f"{pool}-0": 1000.0, f"{pool}-1": 1002.0} for pool in (KEPT, TUNED)}
    kept, tuned = told(SimpleNamespace(), pods, sent)  # type: ignore[arg-type]
    names = ("late_percent", "interrupted", "run_twice", "lost")
    figures: list[Any] = [[row[name] for name in names] for row in (kept, tuned)]
    assert figures == [[50, 1, 0, 0], [0, 0, 1, 1]]
