"""The policy `slo`: how many workers keep a promise in seconds, and what it says of it."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.config import Autoscale
from autoscaler.decide import decide
from autoscaler.model import (
    Action,
    Decision,
    Estimate,
    Fleet,
    Flow,
    Observation,
    Reason,
    Signal,
    State,
    Worker,
)
from autoscaler.policies import estimate
from autoscaler.policies.learning import BOOT_SECONDS

SLOTS = 4
TICK = 5.0
SCALE = Autoscale(max_workers=1000, slo_seconds=60, expected_task_seconds=6)


def fleet(ready: int, coming: Sequence[float] = ()) -> Fleet:
    there = tuple(Worker(f"w{n}", -1000.0, ready=True) for n in range(ready))
    return Fleet((*there, *(Worker(f"c{n}", started) for n, started in enumerate(coming))), slots=SLOTS)


class Course:
    """A pool that is looked at again and again."""

    def __init__(self, scale: Autoscale = SCALE, queue: str = "q") -> None:
        self.scale, self.queue = scale, queue
        self.memory: Any = None
        self.now = 0.0
        self.state = State()

    def look(
        self, ready: float, taken: float = 0, ended: float = 0, workers: int | Fleet = 1, **more: float
    ) -> Estimate:
        there = fleet(workers) if isinstance(workers, int) else workers
        numbers = {self.queue: (ready, taken, ended)} | {
            name: (count, 0.0, 0.0) for name, count in more.items()
        }
        signals = [
            Signal(name, kind, value, 0.0)
            for name, (waiting, busy, _) in numbers.items()
            for kind, value in (("ready", waiting), ("unacknowledged", busy))
        ]
        flows = tuple(Flow(name, done, source="broker") for name, (_, _, done) in numbers.items())
        seen = Observation(tuple(signals), fleet=there, flows=flows, at=self.now)
        asked, self.memory = estimate(self.memory, seen, self.scale, self.now)
        self.now += TICK
        return asked

    def settle(self, rate: float, service: float, workers: int, ticks: int = 240) -> Estimate:
        """Tasks arrive and end evenly, none waits: as many slots are busy as the work takes."""
        for number in range(ticks):
            asked = self.look(0, rate * service, rate * TICK * number, workers)
        return asked

    def decide(self, asked: Estimate) -> Decision:
        decision, self.state = decide(self.state, asked, self.scale, self.now - TICK)
        return decision


def burst(tasks: int, scale: Autoscale = SCALE, workers: int = 1) -> Estimate:
    course = Course(scale)
    course.look(0, workers=workers)
    return course.look(tasks, workers=workers)


def test_a_burst_is_met_by_workers_that_start_it_in_time_after_a_boot() -> None:
    asked = burst(400)
    assert (asked.action, asked.reason) == (Action.UP, Reason.DRAIN_BACKLOG)
    new = ((asked.workers or 0) - 1) * SLOTS
    # Each slot starts with a task, and with the next one in six seconds: those that are there for what the
    # promise leaves, the new ones for a boot and a tick less. The tasks came up to a tick ago.
    left = 60 - TICK
    in_time = SLOTS * (1 + left / 6) + new * (1 + (left - BOOT_SECONDS - TICK) / 6)
    assert 400 <= in_time < 400 + SLOTS * (1 + left / 6)


def test_a_slot_that_has_no_time_for_a_second_task_is_good_for_one() -> None:
    asked = burst(100, Autoscale(max_workers=1000, slo_seconds=55, expected_task_seconds=30))
    there = SLOTS * (1 + (55 - TICK) / 30)
    assert ((asked.workers or 0) - 1) * SLOTS >= 100 - there


def test_a_wider_promise_takes_fewer_workers() -> None:
    numbers = [
        burst(400, Autoscale(max_workers=1000, slo_seconds=promise, expected_task_seconds=6)).workers
        for promise in (35, 60, 120, 300)
    ]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 4


def test_there_are_never_more_slots_than_tasks() -> None:
    asked = burst(7, Autoscale(max_workers=1000, slo_seconds=1, expected_task_seconds=600))
    assert (asked.workers or 0) * SLOTS < 7 + 7 + SLOTS  # those that wait, and those that may come meanwhile


def test_workers_that_boot_already_are_not_ordered_again() -> None:
    course = Course()
    course.look(0)
    wanted = course.look(400).workers or 0
    coming = fleet(1, coming=[course.now - TICK] * (wanted - 1))
    assert course.look(400, workers=coming).workers == pytest.approx(wanted, abs=1)


def test_steady_work_keeps_the_slots_that_it_takes_and_little_more() -> None:
    asked = Course().settle(rate=4, service=10, workers=12)
    assert asked.terms["serviceSeconds"] == pytest.approx(10, rel=0.05)
    assert asked.terms["offeredLoad"] == pytest.approx(40, rel=0.05)
    assert 10 <= (asked.workers or 0) <= 12


def test_more_work_than_the_workers_get_done_calls_for_more_before_anything_is_late() -> None:
    course = Course()
    course.settle(rate=4, service=10, workers=10)
    base = 4 * TICK * 240
    for number in range(1, 30):
        asked = course.look(10 * number, 40, base + 20 * number, workers=10)
        if asked.action is Action.UP:
            break
    assert asked.action is Action.UP
    assert asked.terms["oldestSeconds"] < 60


def test_long_tasks_are_followed_by_what_is_at_work() -> None:
    asked = Course().settle(rate=0.3, service=180, workers=15, ticks=720)
    # Half of the promise a task may wait, in which a slot takes a sixth of one; Erlang's C calls for 61.
    assert 54 * 6 / 7 <= asked.terms["keep"] <= 54


def test_a_long_task_calls_for_a_slot_when_a_later_order_would_be_late_for_it() -> None:
    course = Course(Autoscale(max_workers=1000, slo_seconds=60, expected_task_seconds=600))
    ended = 40 / 600 * TICK * 719
    course.settle(rate=40 / 600, service=600, workers=10, ticks=720)
    keep = [course.look(8, 40, ended, workers=10).terms["keep"] for _ in range(10)]
    early, late = keep[: int(30 / TICK) - 1], keep[int(30 / TICK) + 1 :]
    assert max(early) < 41
    assert min(late) > 44


def test_tasks_that_wait_for_slots_of_long_ones_are_not_counted_twice() -> None:
    asked = burst(12, Autoscale(max_workers=1000, slo_seconds=40, expected_task_seconds=300))
    assert asked.terms["keep"] <= 12


def test_there_are_fewer_workers_only_where_slots_are_to_spare() -> None:
    def asked(workers: int) -> Estimate:
        course = Course()
        course.settle(rate=4, service=10, workers=11)
        return course.look(0, 40, 4 * TICK * 240, workers)

    assert asked(11).terms["spare"] == pytest.approx(1.6, rel=0.05)  # a quarter of the root of 40
    assert (asked(11).workers, asked(11).reason) == (11, Reason.DEADBAND)  # 40 slots would do
    assert (asked(13).workers, asked(13).reason) == (11, Reason.IDLE)


@pytest.mark.behaviour("F8")
def test_a_promise_that_no_boot_can_keep_is_said_with_the_one_that_could() -> None:
    course = Course(Autoscale(slo_seconds=10, max_workers=1000))
    asked = course.settle(rate=0.4, service=10, workers=2)
    assert asked.reason is Reason.SLO_INFEASIBLE
    assert asked.terms["feasibleSeconds"] == BOOT_SECONDS + 2 * TICK
    assert "10 s cannot be promised, 30 s could" in asked.words


def test_where_no_boot_comes_in_time_there_is_a_slot_for_every_task_that_is_there() -> None:
    course = Course(Autoscale(slo_seconds=10, max_workers=1000))
    course.settle(rate=4, service=10, workers=10)
    asked = course.look(36, 40, 4 * TICK * 240, workers=10)
    assert (asked.workers or 0) * SLOTS >= 76


def test_with_too_few_workers_allowed_it_is_said_what_they_can_keep() -> None:
    course = Course(Autoscale(slo_seconds=60, max_workers=2, expected_task_seconds=6))
    course.look(0)
    asked = course.look(400)
    assert "with 2 of them what comes now starts in about 300 s" in asked.words  # 400 x 6 s on 8 slots
    assert course.decide(asked).workers == 2


def test_the_window_down_follows_from_the_boot_and_the_slack_of_the_promise() -> None:
    def window(promise: float, boot: float) -> float:
        course = Course(Autoscale(slo_seconds=promise))
        for _ in range(2):
            course.look(0, workers=fleet(1, coming=[0.0]))
        course.now = boot
        there = Fleet((*fleet(1).workers, Worker("c0", 0.0, ready=True)), slots=SLOTS)
        return course.look(0, workers=there).window_seconds or 0

    assert window(300, 20) == pytest.approx(70)
    assert window(300, 40) == pytest.approx(140)
    assert window(40, 20) > window(60, 20) > 70 - 1


def test_what_the_configuration_says_of_the_window_holds() -> None:
    course = Course(Autoscale(down_window_seconds=10))
    for _ in range(3):
        decision = course.decide(course.look(0, workers=5))
    assert (decision.workers, decision.reason) == (1, Reason.IDLE)


def test_each_queue_has_a_service_time_of_its_own() -> None:
    course = Course()
    for number in range(100):
        course.look(0, 10, 5.0 * number, workers=20, other=0.0)
    slow = course.look(40, 10, 500, workers=20)
    assert course.memory.lines["q"].service == pytest.approx(10, rel=0.1)
    assert course.memory.lines["other"].service == 6 if "other" in course.memory.lines else True
    assert slow.terms["plan"] > 0


@pytest.mark.behaviour("F5")
@pytest.mark.parametrize("waiting", [100, 10_000])
def test_stalled_consumers_call_for_no_more_of_them(waiting: int) -> None:
    course = Course()
    for _ in range(10):
        asked = course.look(waiting, 0, 0, workers=3)
    assert (asked.reason, asked.workers) == (Reason.STALLED_CONSUMERS, 3)
    assert course.decide(asked).action is Action.HOLD


@pytest.mark.parametrize("saw", [1, 240])
def test_who_did_not_see_the_workers_knows_the_work_when_it_does_and_no_boots(saw: int) -> None:
    course = Course()
    course.settle(rate=4, service=10, workers=11, ticks=saw)
    base = 4 * TICK * saw
    unseen = Fleet(slots=SLOTS, unknown="another one acts")
    for number in range(240):
        followed = course.look(0, 40, base + 4 * TICK * number, workers=unseen)
    asked = course.look(0, 40, base + 4 * TICK * 240, workers=11)
    assert asked.terms["serviceSeconds"] == pytest.approx(10, rel=0.05)
    assert asked.terms["bootSeconds"] == BOOT_SECONDS
    assert followed.terms["keep"] == pytest.approx(asked.terms["keep"], rel=0.01)


def useless(scale: Autoscale) -> Estimate:
    course = Course(scale)
    for number in range(62):
        workers = 2 if number < 25 else 4
        asked = course.look(40.0 * number, workers * SLOTS, 5.0 * number, workers)
    return asked


@pytest.mark.behaviour("F6")
def test_workers_that_end_no_more_tasks_are_told_and_held_only_if_asked_to() -> None:
    told = useless(Autoscale(max_workers=1000))
    assert (told.reason, told.action) == (Reason.EFFICACY_LIMITED, Action.UP)
    held = useless(Autoscale(max_workers=1000, hold_when_useless=True))
    assert (held.reason, held.action, held.workers) == (Reason.EFFICACY_LIMITED, Action.HOLD, 4)


def test_what_came_at_this_hour_the_day_before_is_there_in_time() -> None:
    course = Course(Autoscale(max_workers=1000, slo_seconds=60))
    ended = 0.0
    asked = course.look(0)
    for _ in range(int(1.4 * 86400 / TICK)):
        at_work = course.now % 86400 > 9 * 3600 and course.now < 86400
        ended += 4 * TICK if at_work else 0
        asked = course.look(0, 40 if at_work else 0, ended, workers=12)
        if course.now > 86400 + 9 * 3600 - 20:
            break
    assert asked.terms["floor"] == pytest.approx(40, rel=0.1)
    assert (asked.workers or 0) >= 9


def lost(workers: int) -> Fleet:
    return Fleet(tuple(Worker(f"w{n}", -1000.0) for n in range(workers)), slots=SLOTS)


@pytest.mark.parametrize("promise", [30, 60, 300])
@pytest.mark.parametrize("service", [2, 10, 60, 300])
@pytest.mark.behaviour("F15")
def test_a_broker_that_puts_back_all_that_was_at_work_calls_for_no_more_workers(
    service: float, promise: float
) -> None:
    course = Course(Autoscale(max_workers=1000, slo_seconds=promise, expected_task_seconds=service))
    rate = 40 / service
    before = course.settle(rate, service, workers=11).workers or 0
    ended = rate * TICK * 239
    for there in (lost(11), lost(11), 11, 11):
        asked = course.look(40, 0, ended, workers=there)
        assert (asked.workers or 0) <= max(before, 11)
    assert course.look(0, 40, ended, workers=11).workers == pytest.approx(before, abs=1)


def test_what_nobody_takes_again_within_a_minute_waits_as_any_other() -> None:
    course = Course(Autoscale(max_workers=1000, slo_seconds=30, expected_task_seconds=60))
    course.settle(rate=40 / 60, service=60, workers=11)
    asked = [course.look(40, 0, 40 / 60 * TICK * 239, workers=lost(11)).terms["plan"] for _ in range(14)]
    assert set(asked[:12]) == {0}
    assert asked[-1] > 0


def test_a_burst_that_comes_as_the_broker_comes_back_is_met_all_the_same() -> None:
    course = Course()
    course.settle(rate=4, service=10, workers=11)
    asked = course.look(440, 0, 4 * TICK * 239, workers=lost(11))
    assert (asked.workers or 0) >= 22


def test_of_one_worker_that_is_lost_no_more_is_put_back_than_it_had() -> None:
    course = Course()
    course.settle(rate=4, service=10, workers=11)
    one = Fleet((Worker("w0", -1000.0), *fleet(11).workers[1:]), slots=SLOTS)
    asked = course.look(40, 0, 4 * TICK * 239, workers=one)
    assert asked.terms["plan"] > 0  # for 36 others, which wait for another reason


counts = st.integers(0, 10**6)


@given(counts, counts, counts, st.integers(0, 100), st.floats(0.01, 3600))
def test_whatever_is_seen_the_number_is_one(
    ready: int, taken: int, ended: int, workers: int, promise: float
) -> None:
    course = Course(Autoscale(slo_seconds=promise, max_workers=10000))
    for factor in (0, 1, 2):
        asked = course.look(ready, taken, ended * factor, workers)
        assert asked.workers is not None
        assert asked.workers >= 0
        assert all(math.isfinite(value) for value in asked.terms.values())


@given(st.integers(0, 100_000), st.integers(0, 100_000), st.integers(0, 50))
def test_a_larger_burst_never_calls_for_fewer_workers(one: int, more: int, workers: int) -> None:
    assert (burst(one, workers=workers).workers or 0) <= (burst(one + more, workers=workers).workers or 0)


@given(st.integers(1, 100_000), st.sampled_from([0, 1]))
def test_from_zero_any_backlog_gives_workers_at_the_next_tick(backlog: int, before: int) -> None:
    course = Course(Autoscale(min_workers=0, max_workers=1000))
    for _ in range(before):
        course.look(0, workers=0)
    assert course.decide(course.look(backlog, workers=0)).workers >= 1


def blind(
    course: Course, seconds: float, active: int, problem: Reason = Reason.QUERY_ERROR, unknown: str = ""
) -> list[int | None]:
    """What is asked for at each tick of an outage, in which four workers have so many tasks each."""
    workers = tuple(Worker(f"w{n}", -1000.0, ready=True, active=active) for n in range(4))
    seen = Observation(
        problem=problem, detail="no answer", fleet=Fleet(workers, slots=SLOTS, unknown=unknown), at=course.now
    )
    asked = []
    for _ in range(int(seconds / TICK)):
        one, course.memory = estimate(course.memory, seen, course.scale, course.now)
        asked.append(one.workers)
        course.now += TICK
    return asked


def test_bad_data_change_nothing_that_was_learned() -> None:
    course = Course()
    course.look(5, 3, 1)
    before = course.memory
    assert blind(course, 600, SLOTS - 1) == [None] * 120
    assert replace(course.memory, looked=before.looked) == before


def test_after_an_outage_a_tick_is_as_long_as_before_it() -> None:
    course = Course()
    before = course.settle(rate=1, service=16, workers=4, ticks=10).terms["feasibleSeconds"]
    blind(course, 50, SLOTS - 1)
    assert course.look(0, 16, 60, workers=4).terms["feasibleSeconds"] == before


@pytest.mark.behaviour("F3")
def test_without_metrics_a_quarter_more_come_when_every_slot_is_busy_for_as_long_as_a_boot_takes() -> None:
    course = Course()
    course.settle(rate=1, service=16, workers=4, ticks=10)
    asked = blind(course, 70, SLOTS)
    assert asked == [*[None] * 6, 5, *[None] * 5, 5, None]  # a boot and two ticks are 30 s


@pytest.mark.parametrize(
    ("problem", "unknown"), [(Reason.SEVERAL_SERIES, ""), (Reason.QUERY_ERROR, "the API does not answer")]
)
def test_without_metrics_nothing_comes_where_the_workers_are_not_known_or_the_metrics_are_ambiguous(
    problem: Reason, unknown: str
) -> None:
    assert blind(Course(), 600, SLOTS, problem, unknown) == [None] * 120
