"""API keys."""

from hashlib import sha256

import pytest

from celerykit.settings import SettingsError
from gateway.operations import Operation
from gateway.settings import GatewaySettings

ID = "0b7f9c1e-6f5e-4d7c-9c35-2d2a7ad1c001"
KEYS = (f"team-a:{sha256(b'key-a').hexdigest()}", f"team-b:{sha256(b'key-b').hexdigest().upper()}")
A, B = ({"Authorization": f"Bearer key-{name}"} for name in "ab")


@pytest.fixture
def locked(start):
    return start(api_keys=KEYS, examples=True)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic a2V5LWE="}, {"X-API-Key": "ä"}],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/tasks/task.echo"),
        ("GET", f"/v1/operations/{ID}"),
        ("DELETE", f"/v1/operations/{ID}"),
        ("GET", "/mysql_query/1"),
        ("GET", "/examples/blocking/mysql_query/1"),
        ("GET", "/examples/coroutine/mysql_query/1"),
        ("GET", "/examples/callback/mysql_query/1"),
        ("GET", "/examples/executor/mysql_query/1"),
        ("GET", "/i_want_you_now"),
    ],
)
@pytest.mark.behaviour("S17")
async def test_without_a_valid_key_everything_of_use_is_a_401(locked, method, path, headers):
    answer = await locked.request(method, path, headers=headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json["type"].endswith("/unauthorized")
    assert locked.link.sent == []


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_health_and_metrics_need_no_key(locked, path):
    assert (await locked.get(path)).status == 200


@pytest.mark.parametrize(
    ("headers", "owner"),
    [
        (A, "team-a"),
        (B, "team-b"),
        ({"X-API-Key": "key-a"}, "team-a"),
        ({"Authorization": "bearer  key-b"}, "team-b"),
    ],
)
async def test_a_key_makes_its_owner_the_operations_owner(locked, headers, owner):
    answer = await locked.post("/v1/tasks/task.echo", headers=headers)
    assert answer.status == 202
    assert locked.operations.rows[answer.json["id"]].owner == owner


async def test_an_owner_reads_own_operations_and_no_others(locked):
    locked.operations.rows[ID] = Operation(ID, "task.echo", "default", "team-a", 1.0, 9e9)
    assert (await locked.get(f"/v1/operations/{ID}", headers=A)).status == 200
    assert (await locked.get(f"/v1/operations/{ID}", headers=B)).status == 404


async def test_an_owner_revokes_own_operations_and_no_others(locked):
    locked.operations.rows[ID] = Operation(ID, "task.echo", "default", "team-a", 1.0, 9e9)
    assert (await locked.request("DELETE", f"/v1/operations/{ID}", headers=B)).status == 404
    assert locked.link.revoked == []
    assert (await locked.request("DELETE", f"/v1/operations/{ID}", headers=A)).status == 202


async def test_with_keys_a_result_that_is_nobodys_stays_hidden(locked):
    locked.link.rows[ID] = ("SUCCESS", "of somebody")
    assert (await locked.get(f"/v1/operations/{ID}", headers=A)).status == 404


@pytest.mark.parametrize(
    "entry", ["team-a", "team-a:abc", ":" + "0" * 64, "a b:" + "0" * 64, "a:" + "g" * 64]
)
@pytest.mark.behaviour("S17")
def test_a_wrong_key_setting_names_its_place_and_never_the_digest(entry):
    with pytest.raises(
        SettingsError, match=r"CELERYKIT_GATEWAY_API_KEYS: entry 2 must be OWNER:SHA256"
    ) as caught:
        GatewaySettings(api_keys=(KEYS[0], entry))
    assert "0000" not in str(caught.value)
