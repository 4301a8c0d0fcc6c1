"""What the runs of the bench say together."""

import pytest

from tests.bench.runs import CLOSED, F1, F2, GATEWAY, OPEN, THREAD, Figures, headline, medians


def figures(system, load=CLOSED, answers="responder", run=1, **more):
    return Figures(system=system, answers=answers, load=load, run=run, **{"throughput": 100, **more})


def test_runs_of_one_system_under_one_load_become_one():
    runs = [
        figures("one", run=1, requests=10, throughput=1, p50_ms=5.0),
        figures("two", run=1, requests=7),
        figures("one", run=2, requests=20, throughput=9, p50_ms=1.0, errors=2, error="first"),
        figures("one", run=3, requests=30, throughput=2, errors=1, error="second"),
    ]
    one, two = medians(runs)
    assert (one.system, one.run, one.requests, one.errors, one.error) == ("one", 3, 60, 3, "first")
    assert (one.throughput, one.p50_ms, one.p99_ms) == (2, 3, None)
    assert (two.system, two.run, two.requests) == ("two", 1, 7)


def floors_and_gateway():
    return [
        figures(F1, cpu_ms=0.2, p50_ms=2.0, p99_ms=10.0),
        figures(F2, answers="none", cpu_ms=0.2, p50_ms=2.0, p99_ms=10.0),
        figures(GATEWAY, throughput=400, cpu_ms=0.5, p50_ms=4.0, p99_ms=50.0),
        figures(F1, OPEN, cpu_ms=0.3, p50_ms=1.0, p99_ms=8.0),
        figures(F2, OPEN, answers="none", cpu_ms=0.3, p50_ms=1.0, p99_ms=8.0),
        figures(GATEWAY, OPEN, cpu_ms=0.6, p50_ms=3.0, p99_ms=16.0),
        figures(GATEWAY, answers="workers", cpu_ms=9.0, p50_ms=99.0, p99_ms=999.0),
        figures(THREAD, throughput=100),
    ]


def test_the_gateway_is_held_against_both_floors_under_the_load_where_it_is_worse():
    told = headline(floors_and_gateway())
    assert told["cpu_ratio_to_floors"] == 1.25
    assert told["p50_ratio_to_floors"] == 1.5
    assert told["p99_ratio_to_floors"] == 2.5


def test_throughput_is_told_as_a_multiple_of_the_thread_that_waits():
    assert headline(floors_and_gateway())["throughput_vs_fastapi_thread"] == 4


@pytest.mark.parametrize("missing", range(6))
def test_without_one_of_its_parts_a_ratio_is_not_told(missing):
    parts = floors_and_gateway()
    del parts[missing]
    assert headline(parts)["cpu_ratio_to_floors"] is None


def test_a_peer_that_fails_gives_no_ratio():
    *others, _ = floors_and_gateway()
    failing = figures(THREAD, throughput=0, error="no answer")
    assert headline([*others, failing])["throughput_vs_fastapi_thread"] is None
