"""The table of operations."""

import time

import pytest

from celerykit.link import Outcome
from celerykit.results import Database, ResultStore
from gateway.operations import DatabaseUnavailable, Operation, OperationStore

pytestmark = pytest.mark.integration

NOW = time.time()
FRESH = Operation("a", "task.echo", "default", "team-ä", NOW, NOW + 3600)
EXPIRED = Operation("b", "task.echo", "default", "", NOW - 60, NOW - 1)


@pytest.fixture
async def store(database_url):
    database = Database(database_url)
    yield OperationStore(database)
    await database.execute("DELETE FROM celerykit_operation")
    await database.execute("DELETE FROM celery_taskmeta")
    await database.close()


async def test_a_row_is_read_as_it_was_written_until_it_is_deleted(store):
    await store.ping()
    await store.insert(FRESH)
    assert await store.get("a") == FRESH
    await store.delete("a")
    assert await store.get("a") is None


@pytest.mark.behaviour("S22")
async def test_what_looks_like_sql_is_a_value_like_any_other(store):
    hostile = "'; DROP TABLE celerykit_operation; -- %s {} \\"
    operation = Operation("c' OR '1'='1", hostile, hostile, hostile, NOW, NOW + 3600)
    await store.insert(operation)
    assert await store.get("c' OR '1'='1") == operation
    assert await store.get("x' OR '1'='1") is None


async def test_an_expired_row_is_not_told_and_purged_and_a_fresh_one_stays(store):
    await store.insert(FRESH)
    await store.insert(EXPIRED)
    assert await store.get("b") is None
    await store.purge()
    rows = await store._execute("SELECT id FROM celerykit_operation")
    assert rows == [("a",)]


async def test_the_mark_of_a_revoked_task_goes_with_its_operation_and_not_before(store):
    database = store._database
    results = ResultStore(database)
    for operation in (FRESH, EXPIRED):
        await store.insert(operation)
        await results.revoke(operation.id)
    await results.revoke("of another caller")
    await store.purge()
    rows = await database.execute("SELECT task_id, status FROM celery_taskmeta ORDER BY task_id")
    assert rows == [("a", "REVOKING"), ("of another caller", "REVOKING")]


async def test_revoking_does_not_touch_what_has_ended(store):
    results = ResultStore(store._database)
    for state in ("SUCCESS", "FAILURE", "REVOKED"):
        await results.store(Outcome(state, state, {"x": 1}))
        await results.revoke(state)
        assert (await results.fetch([state]))[state].state == state


async def test_what_the_database_refuses_is_unavailable(store):
    await store.insert(FRESH)
    with pytest.raises(DatabaseUnavailable):
        await store.insert(FRESH)


async def test_a_statement_that_takes_too_long_is_unavailable_and_the_next_one_works(database_url):
    database = Database(database_url, size=1)
    store = OperationStore(database, timeout=0.3)
    with pytest.raises(DatabaseUnavailable):
        await store._execute("SELECT SLEEP(5)")
    await store.ping()
    await database.close()
