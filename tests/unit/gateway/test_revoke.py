"""`DELETE /v1/operations/{id}`."""

from uuid import uuid4

import pymysql
import pytest

from celerykit.link import Unavailable
from gateway.operations import Operation

ID = "0b7f9c1e-6f5e-4d7c-9c35-2d2a7ad1c001"
PATH = f"/v1/operations/{ID}"


@pytest.fixture
def accepted(client):
    """A function that has a task accepted."""

    def accept(task="task.echo"):
        client.operations.rows[ID] = Operation(ID, task, "default", "", 1.0, 9e9)

    return accept


async def test_a_task_that_waits_is_revoked_and_its_operation_says_so(client, accepted):
    accepted()
    answer = await client.request("DELETE", PATH)
    assert (answer.status, answer.json["state"], answer.json["done"]) == (202, "REVOKING", False)
    assert int(answer.headers["Retry-After"]) >= 1
    assert client.link.revoked == [(ID, False)]


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
async def test_what_has_ended_stays_as_it_is(client, accepted, state):
    accepted()
    client.link.rows[ID] = (state, 7)
    answer = await client.request("DELETE", PATH)
    assert (answer.status, answer.json["state"], answer.json["done"]) == (200, state, True)
    assert client.link.revoked == []


async def test_what_ends_meanwhile_is_told_as_ended(client, accepted):
    accepted()

    async def too_late(task_id, terminate):
        client.link.rows[task_id] = ("SUCCESS", 7)

    client.link.revoke = too_late
    answer = await client.request("DELETE", PATH)
    assert (answer.status, answer.json["result"]) == (200, 7)


async def test_an_unknown_operation_is_a_404(client, accepted):
    accepted()
    for unknown in (uuid4(), "x", "%ff"):
        answer = await client.request("DELETE", f"/v1/operations/{unknown}")
        assert (answer.status, answer.json["type"]) == (404, "/problems/unknown-operation")
    assert client.link.revoked == []


async def test_a_running_task_is_ended_only_if_the_catalogue_allows_it(client, accepted):
    accepted("task.echo")
    refused = await client.request("DELETE", f"{PATH}?terminate=true")
    accepted("task.no_longer_in_the_catalogue")
    gone = await client.request("DELETE", f"{PATH}?terminate=true")
    assert (refused.status, gone.status, client.link.revoked) == (403, 403, [])
    accepted("task.terminable")
    assert (await client.request("DELETE", f"{PATH}?terminate=true")).status == 202
    assert (await client.request("DELETE", f"{PATH}?terminate=false")).status == 202
    assert client.link.revoked == [(ID, True), (ID, False)]


@pytest.mark.parametrize("terminate", ["", "yes!", "2"])
async def test_a_bad_terminate_is_a_422_that_names_it(client, accepted, terminate):
    accepted("task.terminable")
    answer = await client.request("DELETE", f"{PATH}?terminate={terminate}")
    assert (answer.status, answer.json["field"]) == (422, "terminate")
    assert client.link.revoked == []


async def test_workers_that_could_not_be_told_are_a_503_that_asks_to_retry(client, accepted):
    accepted()
    client.link.error = Unavailable("amqp://kit:password@host")
    answer = await client.request("DELETE", PATH)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json["type"].endswith("/broker-unavailable")
    assert "password" not in answer.text


async def test_without_the_database_nothing_is_revoked(client, accepted):
    accepted()
    client.link.fetch_error = pymysql.err.OperationalError(2003, "kit@secret-host")
    answer = await client.request("DELETE", PATH)
    assert (answer.status, client.link.revoked) == (503, [])
    assert "secret-host" not in answer.text
