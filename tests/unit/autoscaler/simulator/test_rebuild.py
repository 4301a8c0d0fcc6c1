"""A load is rebuilt from what was seen: as many tasks as arrived, when they did, and as long as they took."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.past import Histogram, Past
from autoscaler.simulator.rebuild import Rebuilt, rebuild

STEP = 5.0
NAN = math.nan


def past(
    ready: Sequence[float],
    taken: Sequence[float],
    ended: Sequence[float] | None = None,
    resets: int = 0,
) -> Past:
    times = tuple(1e9 + STEP * number for number in range(len(ready)))
    sources = frozenset({"workers"} if ended else ())
    return Past(times, tuple(ready), tuple(taken), tuple(ended or [NAN] * len(ready)), sources, resets)


def rebuilt(one: Past, *histograms: Histogram, seed: int = 0) -> Rebuilt:
    key = ("/", "q")
    return rebuild({key: one}, {key: histograms} if histograms else {}, seed)


def test_arrivals_are_what_ended_and_what_is_there_within_their_step() -> None:
    load = rebuilt(past([0, 10, 4, 0, 0, 0], [0, 4, 4, 4, 0, 0], [0, 0, 6, 10, 14, 14])).load
    assert len(load.arrivals) == 14
    assert all(0 <= at <= 5 for at in load.arrivals)


def test_what_waited_at_the_start_arrived_before() -> None:
    assert rebuilt(past([50, 46, 40], [4, 4, 4], [0, 4, 10])).load.arrivals == ()


def test_ends_that_are_known_a_moment_before_the_backlog_are_no_arrivals() -> None:
    load = rebuilt(past([0, 20, 20, 12, 0, 0, 0], [0] * 7, [0, 0, 8, 16, 20, 20, 20])).load
    assert len(load.arrivals) == 20


def test_messages_that_go_without_an_end_are_said_and_hide_no_later_ones() -> None:
    purged = [0.0] + [100.0] * 10 + [0.0] * 20 + [7.0] * 11
    made = rebuilt(past(purged, [0] * 42, [0] * 42))
    assert len([at for at in made.load.arrivals if at > 60]) == 7
    assert "went without an end" in made.words[-1]


def test_without_ends_the_rises_of_the_backlog_are_the_arrivals_and_all_work_is_there() -> None:
    made = rebuilt(past([0, 3, 0, 2, 0], [0, 4, 4, 4, 0]))
    assert len(made.load.arrivals) == 9
    assert made.load.work == pytest.approx(12 * STEP, rel=1.5)
    assert "nobody tells what ended" in made.words[0]


def test_a_gap_is_left_out_and_said() -> None:
    made = rebuilt(past([NAN, NAN, 0, 2, NAN, 90, 91, 91], [0] * 8, [0] * 8, resets=2))
    assert [at // STEP for at in made.load.arrivals] == [0, 0, 3]
    assert made.words[1:] == (
        "q: nothing is known of the 0.00278 h before",
        "q: 0.0833 min are not known and left out; gaps: 1",
        "q: counters began anew 2 times, and were followed",
    )


def test_service_times_are_drawn_from_the_histogram_and_have_its_mean() -> None:
    tasks = [0.0, *[20_000.0] * 9]
    histogram = Histogram(1e9 + 60, (1, 10, math.inf), (500, 900, 1000), 3000.0)
    services = rebuilt(past(tasks, [0] * 10, [0] * 10), histogram).load.services
    assert sum(services) / len(services) == pytest.approx(3.0, rel=0.02)
    below = sum(service <= max(services) / 10 for service in services) / len(services)
    assert below == pytest.approx(0.5, abs=0.02)


def test_without_a_histogram_they_are_exponential_around_what_slots_were_busy_for() -> None:
    ended = [200.0 * number for number in range(100)]
    made = rebuilt(past([0] * 100, [80] * 100, ended))
    assert made.service == pytest.approx(100 * 80 * STEP / ended[-1], rel=0.05)


@pytest.mark.parametrize("measured", [True, False])
def test_tasks_take_as_long_as_tasks_took_about_then(measured: bool) -> None:
    steps, ended = 480, [10.0 * number for number in range(480)]
    taken = [4.0] * 240 + [20.0] * 240
    histograms = [
        Histogram(1e9 + 600 * (part + 1), (1, 5, 20, math.inf), (0, n, 1200, 1200), 1200 * mean)
        for part, (n, mean) in enumerate([(1200, 2.0)] * 2 + [(0, 10.0)] * 2)
    ]
    made = rebuilt(past([0] * steps, taken, ended), *(histograms if measured else ()))
    first = [one for at, one in zip(made.load.arrivals, made.load.services, strict=True) if at < 1195]
    last = [one for at, one in zip(made.load.arrivals, made.load.services, strict=True) if at > 1205]
    assert sum(first) / len(first) == pytest.approx(2, rel=0.1)
    assert sum(last) / len(last) == pytest.approx(10, rel=0.1)


def test_the_same_seed_makes_the_same_load() -> None:
    one = past([0, 10, 4, 0], [0, 4, 4, 4], [0, 0, 6, 10])
    assert rebuilt(one).load == rebuilt(one).load != rebuilt(one, seed=1).load


def test_several_queues_become_one_load_that_names_them() -> None:
    a, b = past([0, 2, 2], [0] * 3, [0] * 3), past([0, 0, 3], [0] * 3, [0] * 3)
    load = rebuild({("/", "a"): a, ("/", "b"): b}, {}, 0).load
    assert load.queues == ("a", "a", "b", "b", "b")


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60), st.integers(0, 2))
def test_whatever_arrives_and_ends_as_many_are_rebuilt_however_late_the_ends_are_told(
    steps: list[tuple[int, int]], late: int
) -> None:
    there, ended, arrived = [0], [0], 0
    for new, done in steps:
        really = min(done, there[-1])
        there.append(there[-1] + new - really)
        ended.append(ended[-1] + really)
        arrived += new
    there += [there[-1]] * 4
    ended = [0] * late + ended + [ended[-1]] * (4 - late)
    assert len(rebuilt(past(there, [0] * len(there), ended)).load.arrivals) == arrived
