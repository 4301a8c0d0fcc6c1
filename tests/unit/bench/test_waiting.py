"""The look at the loop, by which the bench tells how late it runs."""

import asyncio
import time

from tests.bench.waiting import lag


async def test_a_loop_that_is_kept_busy_is_late_by_as_long():
    async with lag() as late:
        await asyncio.sleep(0.02)
        time.sleep(0.1)  # noqa: ASYNC251  # which keeps it busy
        await asyncio.sleep(0.02)
    assert 0.08 < max(late) < 1


async def test_the_looks_end_with_what_was_measured():
    async with lag() as late:
        await asyncio.sleep(0.02)
    looks = len(late)
    await asyncio.sleep(0.05)
    assert looks == len(late) > 0
