"""`GET /v1/operations/{id}`."""

import asyncio
from uuid import uuid4

import pymysql
import pytest

from celerykit.link import Saturated
from gateway.operations import Operation

ID = "0b7f9c1e-6f5e-4d7c-9c35-2d2a7ad1c001"
PATH = f"/v1/operations/{ID}"


def accept(client, owner=""):
    client.operations.rows[ID] = Operation(ID, "task.echo", "default", owner, 1_700_000_000.5, 9e9)


async def test_an_operation_that_has_not_ended_says_when_to_ask_again(client):
    accept(client)
    answer = await client.get(PATH)
    assert answer.status == 200
    assert answer.json == {
        "id": ID,
        "task": "task.echo",
        "state": "PENDING",
        "done": False,
        "acceptedAt": "2023-11-14T22:13:20.500000+00:00",
    }
    assert int(answer.headers["Retry-After"]) >= 1


async def test_a_started_task_has_not_ended(client):
    accept(client)
    client.link.rows[ID] = ("STARTED", {"pid": 1})
    answer = await client.get(PATH)
    assert (answer.json["state"], answer.json["done"]) == ("STARTED", False)
    assert "result" not in answer.json


async def test_an_ended_operation_has_its_result(client):
    accept(client)
    client.link.rows[ID] = ("SUCCESS", {"__type__": "decimal", "__value__": "1.5"})
    answer = await client.get(PATH)
    assert (answer.json["state"], answer.json["done"], answer.json["result"]) == ("SUCCESS", True, "1.5")
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize(("state", "kind"), [("FAILURE", "task-failed"), ("REVOKED", "task-revoked")])
async def test_a_failed_task_is_a_200_with_its_error(client, state, kind):
    accept(client)
    client.link.rows[ID] = (state, {"exc_type": "ValueError", "exc_message": ["bad"]}, "Traceback: secret")
    answer = await client.get(PATH)
    assert answer.status == 200
    assert answer.json["done"] is True
    assert answer.json["error"]["type"].endswith(f"/{kind}")
    assert (answer.json["error"]["exc_type"], answer.json["error"]["message"]) == ("ValueError", "bad")
    assert "secret" not in answer.text


async def test_a_result_without_a_row_is_told_too(client):
    client.link.rows[ID] = ("SUCCESS", 7)
    answer = await client.get(PATH)
    assert (answer.status, answer.json["result"], answer.json["task"]) == (200, 7, None)


@pytest.mark.parametrize("operation", ["x", ID.upper(), f"{{{ID}}}", "%ff", "%00", "a" * 300, "' OR 1=1"])
@pytest.mark.behaviour("S22")
async def test_what_cannot_be_an_id_is_a_404_without_asking_the_database(client, operation):
    accept(client)
    answer = await client.get(f"/v1/operations/{operation.replace(' ', '%20')}")
    assert answer.status == 404
    assert answer.json["type"].endswith("/unknown-operation")
    assert client.operations.log == []


async def test_an_id_with_neither_row_nor_result_is_a_404(client):
    accept(client)
    answer = await client.get(f"/v1/operations/{uuid4()}?wait=10")
    assert answer.status == 404
    assert client.link.waits == []


async def test_a_wait_is_cut_to_the_longest(start):
    client = start(max_wait_seconds=3)
    accept(client)
    await client.get(f"{PATH}?wait=600")
    assert client.link.waits == [3]


async def test_another_owners_operation_is_the_same_404(client):
    accept(client, owner="other")
    client.link.rows[ID] = ("SUCCESS", "secret")
    hidden, unknown = await client.get(PATH), await client.get(f"/v1/operations/{uuid4()}")
    assert hidden.status == unknown.status == 404
    assert hidden.json == unknown.json


async def test_a_wait_ends_with_the_task(client, until):
    accept(client)
    client.link.gate.clear()
    asking = asyncio.create_task(client.get(f"{PATH}?wait=20"))
    await until(lambda: client.link.in_flight == 1)
    client.link.outcome = ("SUCCESS", 5)
    client.link.gate.set()
    assert (await asking).json["result"] == 5


async def test_a_wait_that_was_too_short_tells_the_state_of_then(client):
    accept(client)
    client.link.rows[ID] = ("RETRY", None)
    answer = await client.get(f"{PATH}?wait=1")
    assert (answer.status, answer.json["state"], answer.json["done"]) == (200, "RETRY", False)
    assert "Retry-After" in answer.headers


@pytest.mark.parametrize("wait", ["-1", "soon", "1.5", "", "%20"])
async def test_a_bad_wait_is_a_422_that_names_it(client, wait):
    accept(client)
    answer = await client.get(f"{PATH}?wait={wait}")
    assert answer.status == 422
    assert answer.json["field"] == "wait"


@pytest.mark.behaviour("S19")
async def test_too_many_waits_are_a_503(client):
    accept(client)
    client.link.error = Saturated()
    answer = await client.get(f"{PATH}?wait=1")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


@pytest.mark.parametrize(
    "error", [pymysql.err.OperationalError(2003, "kit@secret-host"), ConnectionResetError()]
)
async def test_a_database_that_is_away_is_a_503(client, error):
    accept(client)
    client.link.fetch_error = error
    answer = await client.get(PATH)
    assert answer.status == 503
    assert answer.json["type"].endswith("/database-unavailable")
    assert "secret-host" not in answer.text


async def test_a_database_that_is_silent_is_a_503_in_time(start):
    client = start(database_timeout_seconds=1)
    accept(client)

    async def silence(_):
        await asyncio.Event().wait()

    client.link.results.fetch = silence
    assert (await client.get(PATH)).status == 503
