"""The routes of the article."""

import asyncio
import threading

import pymysql
import pytest

from celerykit.link import Unavailable
from gateway.catalogue import Task

ROWS = [{"id": 1, "name": "Ada", "flag": 0}]
BY_CELERY = ["", "/examples/coroutine", "/examples/callback"]
BY_THREADS = ["/examples/blocking", "/examples/executor"]


@pytest.fixture
def examples(start):
    """A gateway with all examples, and two threads for the one that has threads."""
    return start(examples=True, example_threads=2)


@pytest.fixture
def rows(examples, monkeypatch):
    """Queries without a database: each notes what was asked, and returns once the event is set."""
    asked, go = [], threading.Event()
    go.set()

    def answer(flag, delay):
        asked.append((flag, delay))
        assert go.wait(10)
        return ROWS

    monkeypatch.setattr(examples.gateway.queries, "rows", answer)
    yield asked, go
    go.set()


@pytest.mark.parametrize("style", BY_CELERY)
async def test_a_query_answers_the_rows_that_its_task_returned(examples, style):
    examples.link.outcome = ("SUCCESS", ROWS)
    answer = await examples.get(f"{style}/mysql_query/0?delay=0.5")
    assert (answer.status, answer.json) == (200, ROWS)
    assert answer.headers["Content-Type"] == "application/json"
    name, args, kwargs, options = examples.link.sent[0]
    assert (name, args, kwargs) == ("task.query_users", [], {"flag": 0, "delay": 0.5})
    assert options["wait"] == 55
    assert await examples.metric("gateway_tasks_accepted_total", queue="default", task=name) == 1


@pytest.mark.parametrize("style", BY_THREADS)
async def test_a_query_without_celery_answers_the_rows_of_the_database(examples, rows, style):
    answer = await examples.get(f"{style}/mysql_query/0?delay=0.5")
    assert (answer.status, answer.json) == (200, ROWS)
    assert rows[0] == [(0, 0.5)]
    assert examples.link.sent == []


@pytest.mark.parametrize("style", BY_CELERY)
async def test_a_query_keeps_the_limits_of_the_catalogue_and_needs_its_task_there(
    examples, monkeypatch, style
):
    limited = Task(queue="default", time_limit_seconds=9, expires_seconds=8)
    monkeypatch.setattr(examples.gateway, "catalogue", {"task.query_users": limited})
    await examples.get(f"{style}/mysql_query/0")
    options = examples.link.sent[0][3]
    assert (options["time_limit"], options["expires"]) == (9, 8)
    monkeypatch.setattr(examples.gateway, "catalogue", {})
    assert (await examples.get(f"{style}/mysql_query/0")).status == 404


@pytest.mark.parametrize("style", BY_CELERY)
async def test_while_a_query_waits_the_quick_route_is_answered(examples, until, style):
    examples.link.gate.clear()
    examples.link.outcome = ("SUCCESS", ROWS)
    query = asyncio.create_task(examples.get(f"{style}/mysql_query/1"))
    await until(lambda: examples.link.in_flight == 1)
    assert (await examples.get("/i_want_you_now")).status == 200
    assert not query.done()
    examples.link.gate.set()
    assert (await query).json == ROWS


async def test_with_all_threads_busy_the_executor_is_a_503_at_once_and_nobody_queues(examples, rows, until):
    asked, go = rows
    go.clear()
    path = "/examples/executor/mysql_query/0"
    queries = [asyncio.create_task(examples.get(path)) for _ in range(2)]
    await until(lambda: len(asked) == 2)
    refused = await examples.get(path)
    assert (refused.status, refused.json["type"]) == (503, "/problems/threads-busy")
    assert int(refused.headers["Retry-After"]) >= 1
    assert (await examples.get("/i_want_you_now")).status == 200
    go.set()
    assert [(await query).status for query in queries] == [200, 200]
    assert (await examples.get(path)).status == 200
    assert len(asked) == 3


async def test_a_client_that_leaves_does_not_free_the_thread_of_its_query(examples, rows, until):
    asked, go = rows
    go.clear()
    for number in (1, 2):
        _, writer = await asyncio.open_connection("127.0.0.1", examples.port)
        writer.write(b"GET /examples/executor/mysql_query/0 HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda number=number: len(asked) == number)
        writer.close()
    await until(lambda: examples.gateway.requests == 0)
    assert (await examples.get("/examples/executor/mysql_query/0")).status == 503
    go.set()


async def test_a_client_of_the_callback_that_leaves_frees_its_place_at_once(examples, until, caplog):
    examples.link.gate.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", examples.port)
    writer.write(b"GET /examples/callback/mysql_query/0 HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: examples.link.in_flight == 1)
    writer.close()
    await until(lambda: examples.link.in_flight == examples.gateway.requests == 0)
    assert caplog.records == []


@pytest.mark.parametrize("style", BY_CELERY + BY_THREADS)
@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/mysql_query/one", "flag"),
        ("/mysql_query/1.5", "flag"),
        ("/mysql_query/99999999999", "flag"),
        ("/mysql_query/%ff", "flag"),
        ("/mysql_query/1?delay=-1", "delay"),
        ("/mysql_query/1?delay=26", "delay"),
        ("/mysql_query/1?delay=nan", "delay"),
        ("/mysql_query/1?delay=long", "delay"),
    ],
)
async def test_a_flag_or_delay_that_is_none_is_a_422_that_names_it(examples, rows, style, path, field):
    answer = await examples.get(style + path)
    assert (answer.status, answer.json["field"]) == (422, field)
    assert (examples.link.sent, rows[0]) == ([], [])


@pytest.mark.parametrize("style", BY_CELERY)
async def test_a_query_that_failed_or_took_too_long_is_a_problem(examples, style):
    path = f"{style}/mysql_query/1"
    unfinished = await examples.get(path)
    examples.link.outcome = ("FAILURE", {"exc_type": "OperationalError", "exc_message": ["gone"]})
    failed = await examples.get(path)
    examples.link.error = Unavailable()
    away = await examples.get(path)
    examples.link.error = ZeroDivisionError("secret")
    unforeseen = await examples.get(path)
    assert (unfinished.status, unfinished.json["id"]) == (504, "made-by-the-link")
    assert (failed.status, failed.json["message"]) == (500, "gone")
    assert (away.status, away.headers["Retry-After"]) == (503, "5")
    assert (unforeseen.status, "secret" in unforeseen.text) == (500, False)
    for answer in (unfinished, failed, away, unforeseen):
        assert answer.headers["Content-Type"] == "application/problem+json"
    labels = {"confirmed": 2, "returned": 0, "error": 1}
    for outcome, count in labels.items():
        assert await examples.metric("gateway_publish_total", outcome=outcome) == count


@pytest.mark.parametrize("style", BY_THREADS)
@pytest.mark.parametrize("error", [pymysql.err.OperationalError(2003, "secret"), ConnectionResetError()])
async def test_a_query_without_a_database_is_a_503_and_gives_its_thread_back(
    examples, monkeypatch, style, error
):
    def away():
        raise error

    monkeypatch.setattr(examples.gateway.queries._connections, "get", away)
    for _ in range(5):  # more than there are threads
        answer = await examples.get(f"{style}/mysql_query/1")
        assert (answer.status, answer.json["type"]) == (503, "/problems/database-unavailable")
        assert "secret" not in answer.text


@pytest.mark.parametrize("style", ["blocking", "coroutine", "callback", "executor"])
async def test_the_examples_are_off_unless_a_setting_turns_them_on(client, style):
    assert (await client.get(f"/examples/{style}/mysql_query/1")).status == 404
    assert client.gateway.queries is None
