"""The routes of the article."""

import asyncio

import pytest

from celerykit.link import Unavailable
from gateway.catalogue import Task

ROWS = [{"id": 1, "name": "Ada", "flag": 0}]


async def test_a_query_answers_the_rows_that_its_task_returned(client):
    client.link.outcome = ("SUCCESS", ROWS)
    answer = await client.get("/mysql_query/0?delay=0.5")
    assert (answer.status, answer.json) == (200, ROWS)
    name, args, kwargs, options = client.link.sent[0]
    assert (name, args, kwargs) == ("task.query_users", [], {"flag": 0, "delay": 0.5})
    assert options["wait"] == 55


async def test_a_query_keeps_the_limits_of_the_catalogue_and_needs_its_task_there(client, monkeypatch):
    limited = Task(queue="default", time_limit_seconds=9, expires_seconds=8)
    monkeypatch.setattr(client.gateway, "catalogue", {"task.query_users": limited})
    await client.get("/mysql_query/0")
    options = client.link.sent[0][3]
    assert (options["time_limit"], options["expires"]) == (9, 8)
    monkeypatch.setattr(client.gateway, "catalogue", {})
    assert (await client.get("/mysql_query/0")).status == 404


async def test_while_a_query_waits_the_quick_route_is_answered(client, until):
    client.link.gate.clear()
    client.link.outcome = ("SUCCESS", ROWS)
    query = asyncio.create_task(client.get("/mysql_query/1"))
    await until(lambda: client.link.in_flight == 1)
    assert (await client.get("/i_want_you_now")).status == 200
    assert not query.done()
    client.link.gate.set()
    assert (await query).json == ROWS


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/mysql_query/one", "flag"),
        ("/mysql_query/1.5", "flag"),
        ("/mysql_query/99999999999", "flag"),
        ("/mysql_query/%ff", "flag"),
        ("/mysql_query/1?delay=-1", "delay"),
        ("/mysql_query/1?delay=31", "delay"),
        ("/mysql_query/1?delay=nan", "delay"),
        ("/mysql_query/1?delay=long", "delay"),
    ],
)
async def test_a_flag_or_delay_that_is_none_is_a_422_that_names_it(client, path, field):
    answer = await client.get(path)
    assert (answer.status, answer.json["field"]) == (422, field)
    assert client.link.sent == []


async def test_a_query_that_failed_or_took_too_long_is_a_problem(client):
    unfinished = await client.get("/mysql_query/1")
    client.link.outcome = ("FAILURE", {"exc_type": "OperationalError", "exc_message": ["gone"]})
    failed = await client.get("/mysql_query/1")
    client.link.error = Unavailable()
    away = await client.get("/mysql_query/1")
    assert (unfinished.status, unfinished.json["id"]) == (504, "made-by-the-link")
    assert (failed.status, failed.json["message"]) == (500, "gone")
    assert away.status == 503
