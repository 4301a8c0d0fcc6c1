"""What is learned from observations: arrivals, service times, ages, boots, and what came the day before."""

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.model import Fleet, Flow, Observation, Signal, Worker
from autoscaler.policies.learning import BOOT_SECONDS, Memory, learn, recall
from autoscaler.policies.profile import BUCKET_SECONDS, DAY, Profile
from autoscaler.policies.troubles import Look, Watch

PRIOR = 5.0


def worker(name: str = "w", started: float = 0.0, *, ready: bool = True, active: int = 0) -> Worker:
    return Worker(name, started, ready=ready, active=active)


def seen(
    ready: float, taken: float, ended: float = math.nan, *, workers: Iterable[Worker] = (), at: float = 0.0
) -> Observation:
    signals = (Signal("q", "ready", ready, 0.0), Signal("q", "unacknowledged", taken, 0.0))
    flows = () if math.isnan(ended) else (Flow("q", ended, source="broker"),)
    return Observation(signals, fleet=Fleet(tuple(workers), slots=4), flows=flows, at=at)


def course(*looks: tuple[float, float, float], every: float = 5.0) -> Memory:
    """Learn from (ready, unacknowledged, ended) at each tick, with workers enough."""
    memory = Memory()
    for number, (ready, taken, ended) in enumerate(looks):
        now = number * every
        memory = learn(
            memory, seen(ready, taken, ended, workers=[worker(str(n)) for n in range(50)], at=now), PRIOR, now
        )
    return memory


def test_arrivals_are_what_ended_and_what_is_there() -> None:
    line = course((0, 0, 100), (10, 5, 110), (0, 0, 145)).lines["q"]
    assert tuple(line.curve) == ((0, 0), (5, 25), (10, 45))
    assert line.rate(300) == 45 / 60  # a burst at the start is not a rate yet
    assert line.rate(5) == 4.0


def test_a_task_takes_the_time_that_slots_were_busy_by_those_that_ended() -> None:
    looks = [(0.0, 8.0, 2.0 * n) for n in range(200)]  # eight slots end two tasks in five seconds
    assert course(*looks).lines["q"].service == pytest.approx(20, rel=0.02)


def test_after_weeks_without_a_sample_it_is_known_still_how_long_a_task_takes() -> None:
    memory = course(*[(0.0, 8.0, 2.0 * n) for n in range(200)], (0.0, 0.0, 400.0))
    service = memory.lines["q"].service
    memory = learn(memory, seen(0, 0, 400, workers=[worker()]), PRIOR, 3e6)
    assert memory.lines["q"].service == pytest.approx(service)


def test_tasks_that_no_sample_finds_at_work_take_some_time_after_weeks_too() -> None:
    line = course(*[(0.0, 0.0, 100.0 * n) for n in range(500)], every=3600.0).lines["q"]
    assert line.service == 0.001


def test_tasks_that_still_run_count_before_any_has_ended() -> None:
    assert course(*[(0.0, 4.0, 0.0)] * 25).lines["q"].service > 400


def test_the_tasks_that_wait_are_those_that_came_last() -> None:
    line = course((0, 0, 0), (10, 4, 0), (20, 4, 0), (16, 4, 4)).lines["q"]
    assert list(line.ages(15)) == [(15, 6), (10, 10)]
    assert sum(tasks for _, tasks in line.ages(15)) == 16


def test_what_waited_before_the_watch_began_is_as_old_as_the_watch_at_least() -> None:
    line = course((50, 0, 0), (60, 0, 0)).lines["q"]
    assert list(line.ages(5)) == [(5, 50), (5, 10)]


def test_messages_that_a_worker_holds_and_no_slot_has_begun_with_wait() -> None:
    memory = learn(Memory(), seen(3, 20, 0, workers=[worker()]), PRIOR, 0)
    assert (memory.lines["q"].busy, memory.lines["q"].waiting) == (4, 19)


def test_without_a_count_of_ends_the_time_that_slots_were_busy_tells_them() -> None:
    memory = Memory()
    for number in range(3):
        memory = learn(memory, seen(0, 4, workers=[worker()]), PRIOR, number * 10.0)
    line = memory.lines["q"]
    assert line.service == PRIOR
    assert line.curve[-1] == (20, 4 + 4 * 20 / PRIOR)


def test_a_counter_that_begins_anew_makes_no_arrivals() -> None:
    line = course((0, 0, 500), (0, 0, 520), (0, 0, 0), (0, 0, 5)).lines["q"]
    assert [arrived for _, arrived in line.curve] == [0, 20, 20, 25]


def test_the_same_sample_again_teaches_nothing() -> None:
    once = course((0, 4, 0), (5, 4, 3)).lines["q"]
    again = learn(course((0, 4, 0), (5, 4, 3)), seen(5, 4, 3, workers=[worker()]), PRIOR, 5.0).lines["q"]
    assert again == once


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1))
def test_whatever_is_seen_arrivals_never_fall_and_all_that_waits_has_an_age(
    looks: list[tuple[float, float, float]],
) -> None:
    line = course(*looks).lines["q"]
    arrived = [count for _, count in line.curve]
    assert arrived == sorted(arrived)
    assert line.service > 0
    now = 5.0 * (len(looks) - 1)
    assert sum(tasks for _, tasks in line.ages(now)) == pytest.approx(line.waiting, abs=1e-3)
    ages = [age for age, _ in line.ages(now)]
    assert ages == sorted(ages, reverse=True)


def boots(*looks: list[Worker], every: float = 5.0) -> Memory:
    memory = Memory()
    for number, workers in enumerate(looks):
        at = number * every
        memory = learn(memory, seen(0, 0, 0, workers=workers, at=at), PRIOR, at)
    return memory


def test_a_boot_lasts_from_the_creation_of_a_worker_until_it_is_seen_ready() -> None:
    coming, there = worker("a", 1.0, ready=False), worker("a", 1.0)
    assert boots([coming], [coming], [there]).boots == (9,)
    assert boots([coming], [coming], [there], [there]).boot == 9


def test_ticks_may_be_as_long_as_they_can_be_configured() -> None:
    coming, there = worker("a", 1.0, ready=False), worker("a", 1.0)
    memory = boots([coming], [there], every=62.0)
    assert (memory.boots, memory.interval) == ((61,), 62)


def test_until_a_boot_was_seen_it_is_taken_to_last_its_default() -> None:
    assert boots([worker("a")], [worker("a")]).boot == BOOT_SECONDS


def test_a_worker_that_was_ready_and_lost_its_broker_does_not_boot() -> None:
    there, lost = worker("a", 0.0), worker("a", 0.0, ready=False)
    assert boots([there], [lost], [there]).boots == ()


@pytest.mark.parametrize("looks", [[], [[worker("a", -900.0)]]])
def test_whether_a_worker_that_is_not_young_boots_or_lost_its_broker_is_not_known_at_a_first_look(
    looks: list[list[Worker]],
) -> None:
    memory = boots(*looks)
    for at, ready in ((300.0, False), (305.0, True)):
        memory = learn(memory, seen(0, 0, 0, workers=[worker("a", -900.0, ready=ready)], at=at), PRIOR, at)
    assert memory.boots == ()


def test_after_a_gap_nobody_knows_when_a_worker_became_ready() -> None:
    memory = boots([worker("a", ready=False)])
    later = learn(memory, seen(0, 0, 0, workers=[worker("a")], at=300.0), PRIOR, 300.0)
    assert later.boots == ()


def day_after(first: float, second: float = math.nan, hour: float = 9.0) -> Profile:
    """Two days with so many slots of work from this hour on, and the second only until noon."""
    profile = Profile()
    for number in range(int((DAY + 12 * 3600) / BUCKET_SECONDS * 5)):
        at = number * BUCKET_SECONDS / 5
        load = first if at < DAY else second
        profile = profile.add(at, load * BUCKET_SECONDS / 5 if at % DAY >= hour * 3600 else 0.0)
    return profile


def test_a_profile_expects_at_an_hour_what_came_at_it_on_the_day_before() -> None:
    profile = day_after(40.0, 40.0)
    assert profile.expected(DAY + 14 * 3600) == pytest.approx(40)
    assert profile.expected(2 * DAY + 3 * 3600) == 0


def test_a_profile_expects_nothing_before_it_has_seen_the_hour() -> None:
    assert Profile().add(0, 1000.0).expected(3600) == 0


def test_a_profile_expects_less_on_a_day_that_has_less_to_do() -> None:
    assert day_after(40.0, 10.0).expected(DAY + 14 * 3600) == pytest.approx(10, rel=0.1)


def looks(*states: tuple[float, float, float, float], every: float = 10.0) -> Watch:
    watch = Watch()
    for number, (slots, waiting, busy, ended) in enumerate(states):
        watch = watch.add(Look(number * every, slots, waiting, busy, ended))
    return watch


def test_consumers_are_stalled_for_as_long_as_none_takes_what_waits() -> None:
    assert looks((8, 0, 2, 5), *[(8, 20, 0, 6)] * 5).stalled == 40
    assert looks(*[(8, 20, 1, 6)] * 5).stalled == 0
    assert looks(*[(0, 20, 0, 6)] * 5).stalled == 0


def test_more_slots_are_useless_where_they_end_no_more_tasks_and_the_backlog_grows() -> None:
    few = [(8.0, 10.0 * n, 8.0, 10.0 * n) for n in range(15)]
    many = [(16.0, 10.0 * n, 16.0, 10.0 * n) for n in range(15, 31)]
    faster = [(16.0, 10.0 * n, 16.0, 150 + 25.0 * (n - 15)) for n in range(15, 31)]
    assert looks(*few, *many).useless
    assert not looks(*few, *faster).useless
    assert not looks(*few).useless


def before(*looks: tuple[float, float, float]) -> list[tuple[float, Observation]]:
    """What was at each past moment, without workers: ready, unacknowledged, ended."""
    return [
        (5.0 * number, replace(seen(ready, taken, ended), at=math.nan))
        for number, (ready, taken, ended) in enumerate(looks)
    ]


def test_who_begins_knows_from_what_was_before_as_much_as_who_watched() -> None:
    looks = [(float(n % 7), 8.0, 2.0 * n) for n in range(120)]
    recalled = recall(before(*looks), PRIOR)
    watched = course(*looks)
    assert recalled is not None
    assert replace(recalled.lines["q"], told=0) == replace(watched.lines["q"], told=0)
    assert (recalled.interval, recalled.ticked) == (watched.interval, watched.ticked)
    assert recalled.lines["q"].service == pytest.approx(20, rel=0.05)


def test_the_first_total_of_a_new_watch_makes_no_arrivals_of_what_was_before() -> None:
    recalled = recall(before(*[(0.0, 8.0, 1000.0 + 2 * n) for n in range(120)]), PRIOR)
    assert recalled is not None
    arrived = recalled.lines["q"].curve[-1][1]
    workers = [worker(str(n)) for n in range(9)]
    memory = learn(recalled, seen(0, 8, 0, workers=workers, at=600), PRIOR, 600.0)
    memory = learn(memory, seen(0, 8, 2, workers=workers, at=605), PRIOR, 605.0)
    assert memory.lines["q"].curve[-1][1] - arrived == pytest.approx(4, abs=0.2)
    assert memory.boots == ()  # those that are there have not just come
    assert not memory.watch.stalled


def test_of_nothing_there_is_nothing_to_recall() -> None:
    assert recall([], PRIOR) is None
