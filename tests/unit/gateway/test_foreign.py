"""Tasks of workers that write no row."""

import asyncio

import pymysql
import pytest

from celerykit.link import Outcome, Saturated, Unavailable

FOREIGN = "/v1/tasks/task.foreign"
WAIT = {"Prefer": "wait=5"}


def answered(client, task_id, state="SUCCESS", result=7):
    """Let the answer of a task come."""
    client.link.expected[task_id][0].set_result(Outcome(task_id, state, result))


@pytest.mark.parametrize("headers", [{}, WAIT])
async def test_the_answer_of_an_accepted_one_becomes_its_row(client, until, headers):
    accepted = await client.post(FOREIGN, headers=headers)
    assert accepted.status == 202
    answered(client, accepted.json["id"], "FAILURE", {"exc_type": "KeyError", "exc_message": ["k"]})
    await until(lambda: client.link.rows)
    told = await client.get(accepted.headers["Location"])
    assert (told.json["state"], told.json["error"]["exc_type"]) == ("FAILURE", "KeyError")


async def test_a_database_that_is_away_delays_the_row(client, until, monkeypatch):
    monkeypatch.setattr("gateway.foreign.PAUSES", (0.01,) * 1000)
    accepted = await client.post(FOREIGN)
    client.link.fetch_error = pymysql.err.OperationalError(2003, "away")
    answered(client, accepted.json["id"])
    await asyncio.sleep(0.05)
    assert client.link.rows == {}
    client.link.fetch_error = None
    await until(lambda: client.link.rows)


async def test_a_row_that_can_never_be_written_is_given_up_and_logged(client, until, monkeypatch, caplog):
    monkeypatch.setattr("gateway.foreign.PAUSES", (0.01, 0.01))
    accepted = await client.post(FOREIGN)
    client.link.fetch_error = pymysql.err.OperationalError(1153, "larger than max_allowed_packet")
    answered(client, accepted.json["id"])
    await until(lambda: "could not be written and is lost" in caplog.text)
    await until(lambda: not client.gateway.foreign._kept)


async def test_one_that_is_answered_within_the_wait_needs_no_row(client):
    client.link.outcome = ("SUCCESS", 7)
    assert (await client.post(FOREIGN, headers=WAIT)).status == 200
    ((answer, _),) = client.link.expected.values()
    assert answer.cancelled()
    assert client.link.rows == {}


@pytest.mark.parametrize("headers", [{}, WAIT])
async def test_one_that_was_not_accepted_is_not_expected(client, headers):
    client.link.error = Unavailable()
    assert (await client.post(FOREIGN, headers=headers)).status == 503
    ((answer, _),) = client.link.expected.values()
    assert answer.cancelled()


async def test_it_is_expected_for_its_delay_and_the_setting(start):
    client = start(foreign_wait_seconds=60)
    await client.post(FOREIGN, {"options": {"countdown": 40}})
    ((_, seconds),) = client.link.expected.values()
    assert seconds == 100


async def test_one_that_does_not_end_in_time_is_logged_and_stays_pending(client, until, caplog):
    accepted = await client.post(FOREIGN)
    future, _ = client.link.expected[accepted.json["id"]]
    future.set_result(None)
    await until(lambda: "has not ended in time" in caplog.text)
    assert (await client.get(accepted.headers["Location"])).json["state"] == "PENDING"


async def test_too_many_of_them_are_a_503_before_anything_is_sent(client):
    client.link.error = Saturated("1000 answers")
    answer = await client.post(FOREIGN)
    assert (answer.status, client.link.sent) == (503, [])
    assert client.operations.rows == {}


async def test_the_kits_own_tasks_are_not_expected(client):
    await client.post("/v1/tasks/task.echo")
    assert client.link.expected == {}


async def test_a_gateway_that_stops_says_how_many_answers_it_gives_up(client, caplog):
    await client.post(FOREIGN)
    await client.gateway.foreign.close()
    assert "1 accepted foreign tasks have not ended" in caplog.text
