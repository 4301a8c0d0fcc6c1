"""Waits: each ends once, by its outcome or by its deadline, and leaves nothing behind."""

import asyncio

import pytest

from celerykit.waits import TICK, Outcome, Waits


def outcome(task_id="t1"):
    return Outcome(task_id, "SUCCESS", 1)


async def test_an_outcome_reaches_everybody_who_waits_for_the_task():
    waits = Waits()
    first, second, other = waits.add("t1", 5), waits.add("t1", 5), waits.add("t2", 5)
    waits.resolve(outcome())
    assert await first.future == await second.future == outcome()
    assert not other.future.done()


async def test_a_deadline_ends_a_wait_with_none_and_not_before():
    waits = Waits()
    loop = asyncio.get_running_loop()
    start = loop.time()
    wait = waits.add("t1", 0.2)
    assert await wait.future is None
    assert 0.2 <= loop.time() - start < 0.2 + 10 * TICK


async def test_late_and_second_outcomes_find_nobody():
    waits = Waits()
    wait = waits.add("t1", 5)
    waits.resolve(outcome())
    waits.resolve(Outcome("t1", "FAILURE", None))
    assert (await wait.future).state == "SUCCESS"
    waits.remove(wait)
    waits.resolve(outcome())
    waits.resolve(outcome("unknown"))


async def test_removing_a_wait_twice_counts_once():
    waits = Waits()
    wait, other = waits.add("t1", 5), waits.add("t1", 5)
    waits.remove(wait)
    waits.remove(wait)
    assert len(waits) == 1
    waits.remove(other)
    assert len(waits) == 0


async def test_ten_thousand_waits_leave_nothing_behind():
    waits = Waits()
    many = [waits.add(str(number), 0.1) for number in range(10_000)]
    await asyncio.gather(*(wait.future for wait in many))
    for wait in many:
        waits.remove(wait)
    assert len(waits) == 0
    assert not waits._by_task
    assert not waits._wheel


async def test_those_who_wait_for_long_are_known():
    waits = Waits()
    now = asyncio.get_running_loop().time()
    waits.add("old", 5, since=now - 10)
    waits.add("new", 5)
    assert list(waits.older_than(now - 3)) == ["old"]


@pytest.mark.parametrize("seconds", [0, -1])
async def test_no_time_at_all_ends_at_once(seconds):
    wait = Waits().add("t1", seconds)
    assert await asyncio.wait_for(wait.future, 1) is None
