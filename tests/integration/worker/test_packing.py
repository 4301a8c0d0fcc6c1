"""Packing: tasks go to the oldest worker that has a slot free."""

import asyncio

import pytest

from tests.integration.support import TOKEN, eventually, started

pytestmark = pytest.mark.integration

PACKED = {"CELERYKIT_PACKING": "true", "CELERYKIT_WORKER_CONCURRENCY": "2"}


def by(ledger, task_id):
    return ledger(task_id)[0][1]


async def test_the_older_worker_gets_what_it_has_slots_for_and_the_newer_one_the_rest(start, link, ledger):
    older = start(**PACKED)
    await asyncio.sleep(1.1)  # the age counts in seconds
    start(**PACKED)
    for _ in range(6):
        assert (await link.call("task.echo", [1], wait=30)).state == "SUCCESS"
    one, two, three = [await started(link, ledger, "task.sleep", [3]) for _ in range(3)]
    assert by(ledger, one) == by(ledger, two) != by(ledger, three)
    assert older.http("GET", "/readyz")[1]["active"] == 2
    for task_id in (one, two, three):
        assert (await link.wait(task_id, 30)).state == "SUCCESS"


async def test_a_worker_that_takes_tasks_again_is_as_old_as_before(start, link, ledger):
    older = start(**PACKED)
    await asyncio.sleep(1.1)
    start(**PACKED)
    older.http("POST", "/drain", TOKEN)
    newer = await started(link, ledger, "task.sleep", [0.1])
    assert older.http("POST", "/undrain", TOKEN)[0] == 200
    eventually(lambda: older.http("GET", "/readyz")[1]["ready"])
    again = await started(link, ledger, "task.sleep", [0.1])
    assert by(ledger, newer) != by(ledger, again)
