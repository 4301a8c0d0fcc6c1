"""`POST /v1/tasks/{name}`."""

import sys
from uuid import UUID

import pytest

from celerykit.link import NoQueue, Saturated, Unavailable, Unsendable

ECHO = "/v1/tasks/task.echo"
WAIT = {"Prefer": "wait=5"}


async def test_a_task_that_ends_within_the_wait_is_a_200_with_its_result_and_no_row(client):
    client.link.outcome = ("SUCCESS", {"rows": [1, 2]})
    answer = await client.post(ECHO, {"args": [7], "kwargs": {"deep": {"er": 1}}}, headers=WAIT)
    assert answer.status == 200
    assert answer.json["state"] == "SUCCESS"
    assert answer.json["result"] == {"rows": [1, 2]}
    assert answer.headers["Preference-Applied"] == "wait=5"
    name, args, kwargs, options = client.link.sent[0]
    assert (name, args, kwargs) == ("task.echo", [7], {"deep": {"er": 1}})
    assert options == {"task_id": answer.json["id"], "wait": 5}
    assert client.operations.log == []


async def test_a_task_that_takes_longer_is_a_202_with_location_and_row(client):
    answer = await client.post(ECHO, {"args": [7]}, headers=WAIT)
    assert answer.status == 202
    assert answer.headers["Location"] == f"/v1/operations/{answer.json['id']}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Preference-Applied"] == "wait=5"
    assert {key: answer.json[key] for key in ("task", "state", "done")} == {
        "task": "task.echo",
        "state": "PENDING",
        "done": False,
    }
    assert answer.json["acceptedAt"].endswith("+00:00")
    row = client.operations.rows[answer.json["id"]]
    assert (row.task, row.queue, row.owner) == ("task.echo", "default", "")
    assert row.expires_at - row.accepted_at == pytest.approx(86400, abs=0.1)


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [({}, None), ({"Prefer": "respond-async"}, "respond-async"), ({"Prefer": "wait=0"}, "wait=0")],
)
async def test_without_a_wait_the_task_is_accepted_for_later(client, prefer, applied):
    client.link.outcome = ("SUCCESS", "nobody waits for it")
    answer = await client.post(ECHO, headers=prefer)
    assert answer.status == 202
    assert answer.headers.get("Preference-Applied") == applied
    assert list(client.operations.rows) == [answer.json["id"]] == [client.link.sent[0][3]["task_id"]]
    assert UUID(answer.json["id"]).version == 4
    assert "wait" not in client.link.sent[0][3]


async def test_respond_async_with_a_wait_means_later_only_if_slower(client):
    both = {"Prefer": "respond-async, wait=2"}
    slow = await client.post(ECHO, headers=both)
    client.link.outcome = ("SUCCESS", 1)
    quick = await client.post(ECHO, headers=both)
    assert (slow.status, slow.headers["Preference-Applied"]) == (202, "respond-async, wait=2")
    assert (quick.status, quick.headers["Preference-Applied"]) == (200, "wait=2")


async def test_a_wait_is_cut_to_the_longest_and_the_answer_says_so(start):
    client = start(max_wait_seconds=3)
    client.link.outcome = ("SUCCESS", 1)
    answer = await client.post(ECHO, headers={"Prefer": "wait=600"})
    assert answer.headers["Preference-Applied"] == "wait=3"
    assert client.link.sent[0][3]["wait"] == 3


FAILURE = {"exc_type": "ValueError", "exc_message": ["bad", 7], "exc_module": "builtins"}


async def test_a_failed_task_is_a_problem_for_those_who_wait(client):
    client.link.outcome = ("FAILURE", FAILURE, "Traceback: secret")
    answer = await client.post(ECHO, headers=WAIT)
    assert answer.status == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["type"].endswith("/task-failed")
    assert answer.json["status"] == 500
    assert (answer.json["exc_type"], answer.json["message"]) == ("ValueError", "bad, 7")
    assert answer.json["id"] == client.link.sent[0][3]["task_id"]
    assert "secret" not in answer.text


async def test_a_traceback_is_told_only_if_a_setting_says_so(start):
    client = start(expose_tracebacks=True)
    client.link.outcome = ("FAILURE", FAILURE, "Traceback: secret")
    assert (await client.post(ECHO, headers=WAIT)).json["traceback"] == "Traceback: secret"


@pytest.mark.parametrize("result", [None, "text", {"exc_type": "X"}, {"exc_message": "one"}])
async def test_a_failure_of_an_odd_shape_is_still_a_problem(client, result):
    client.link.outcome = ("FAILURE", result)
    answer = await client.post(ECHO, headers=WAIT)
    assert answer.status == 500
    assert answer.json["type"].endswith("/task-failed")


async def test_a_revoked_task_is_a_problem_of_its_own(client):
    revoked = {"exc_type": "TaskRevokedError", "exc_message": ["expired"]}
    client.link.outcome = ("REVOKED", revoked)
    answer = await client.post(ECHO, headers=WAIT)
    assert answer.status == 500
    assert answer.json["type"].endswith("/task-revoked")
    assert answer.json["message"] == "expired"


@pytest.mark.parametrize("headers", [{}, WAIT])
@pytest.mark.parametrize(
    ("error", "kind", "reason", "outcome"),
    [
        (Unavailable("amqp://kit:password@host"), "broker-unavailable", "unavailable", "error"),
        (NoQueue("default"), "no-queue", "unavailable", "returned"),
        (Saturated("1000"), "saturated", "backpressure", None),
    ],
)
async def test_a_task_that_the_broker_did_not_take_is_a_503_and_leaves_no_row(
    client, headers, error, kind, reason, outcome
):
    client.link.error = error
    answer = await client.post(ECHO, headers=headers)
    assert answer.status == 503
    assert answer.json["type"].endswith(f"/{kind}")
    assert int(answer.headers["Retry-After"]) >= 1
    assert "password" not in answer.text
    assert client.operations.rows == {}
    assert await client.metric("gateway_tasks_rejected_total", reason=reason) == 1
    for each in ("confirmed", "returned", "error"):
        assert await client.metric("gateway_publish_total", outcome=each) == (each == outcome)
    assert await client.metric("gateway_tasks_accepted_total", queue="default", task="task.echo") == 0


@pytest.mark.parametrize("headers", [{}, WAIT])
@pytest.mark.parametrize(
    ("part", "body", "field"),
    [
        ("headers", {"args": ["x" * 100], "kwargs": {"a": 1}}, "args"),
        ("headers", {"args": [1], "kwargs": {"a": "x" * 100}}, "kwargs"),
        ("routing_key", {"options": {"countdown": 5}}, "options.countdown"),
        ("priority", {"options": {"priority": 9}}, "options.priority"),
    ],
)
async def test_what_no_message_can_carry_is_a_422_that_names_the_field_and_leaves_no_row(
    client, headers, part, body, field
):
    client.link.error = Unsendable(part, f"{part}: 5000 bytes are too large")
    answer = await client.post(ECHO, body, headers=headers)
    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["type"].endswith("/invalid-request")
    assert answer.json["field"] == field
    assert answer.json["detail"].startswith(f"{field}: ")
    assert client.operations.rows == {}
    assert await client.metric("gateway_tasks_rejected_total", reason="schema") == 1
    for each in ("confirmed", "returned", "error"):
        assert await client.metric("gateway_publish_total", outcome=each) == 0
    assert await client.metric("gateway_internal_errors_total") == 0


@pytest.mark.parametrize("headers", [{}, WAIT])
async def test_a_message_larger_than_the_broker_takes_is_a_413_and_leaves_no_row(client, headers):
    client.link.error = Unsendable("body", "body: 20000000 bytes are too large")
    answer = await client.post(ECHO, {"args": [1]}, headers=headers)
    assert answer.status == 413
    assert answer.json["type"].endswith("/body-too-large")
    assert "more than the broker takes" in answer.json["detail"]
    assert client.operations.rows == {}
    assert await client.metric("gateway_tasks_rejected_total", reason="size") == 1


@pytest.mark.parametrize("headers", [{}, WAIT])
@pytest.mark.parametrize("part", ["exchange", "routing_key", "priority", ""])
async def test_what_no_message_can_carry_by_no_word_of_the_client_is_a_500(client, headers, part):
    client.link.error = Unsendable(part, "the name of a queue")
    answer = await client.post(ECHO, {"args": [1]}, headers=headers)
    assert answer.status == 500
    assert answer.json["type"].endswith("/internal-error")
    assert "queue" not in answer.text
    assert client.operations.rows == {}
    assert await client.metric("gateway_internal_errors_total") == 1


async def test_no_task_is_published_when_its_row_cannot_be_written_first(client):
    client.operations.down = True
    answer = await client.post(ECHO)
    assert answer.status == 503
    assert answer.json["type"].endswith("/database-unavailable")
    assert client.link.sent == []


async def test_a_row_that_fails_after_the_wait_is_a_503_that_says_the_task_may_run(client):
    client.operations.down = True
    answer = await client.post(ECHO, headers=WAIT)
    assert answer.status == 503
    assert "may run" in answer.json["detail"]
    assert answer.json["id"] == client.link.sent[0][3]["task_id"]


async def test_the_row_is_there_before_the_202_and_the_broker_after_the_row(client):
    order = client.operations.log
    send = client.link.send

    async def noted(*args, **options):
        order.append("publish")
        return await send(*args, **options)

    client.link.send = noted
    assert (await client.post(ECHO)).status == 202
    assert order == ["insert", "publish"]


@pytest.mark.behaviour("S18")
async def test_a_task_that_is_not_in_the_catalogue_is_a_404(client):
    answer = await client.post("/v1/tasks/task.unheard_of")
    assert answer.status == 404
    assert answer.json["type"].endswith("/unknown-task")
    assert "task.unheard_of" in answer.json["detail"]
    assert client.link.sent == []


@pytest.mark.behaviour("S18")
async def test_a_task_that_the_catalogue_does_not_allow_is_a_403(client):
    answer = await client.post("/v1/tasks/task.secret")
    assert answer.status == 403
    assert client.link.sent == []


async def test_the_limits_of_the_catalogue_travel_with_the_message(client):
    await client.post("/v1/tasks/task.limited", {"options": {"expires": 3600}})
    options = client.link.sent[0][3]
    assert (options["time_limit"], options["soft_time_limit"], options["expires"]) == (20, 10, 60)


async def test_a_client_may_expire_a_task_sooner_than_the_catalogue(client):
    await client.post("/v1/tasks/task.limited", {"options": {"expires": 5}})
    assert client.link.sent[0][3]["expires"] == 5


async def test_the_options_of_the_allow_list_reach_the_link(client):
    answer = await client.post(ECHO, {"options": {"countdown": 90.5, "expires": 200, "priority": 3}})
    options = client.link.sent[0][3]
    assert {key: options[key] for key in ("countdown", "expires", "priority")} == {
        "countdown": 90.5,
        "expires": 200,
        "priority": 3,
    }
    assert answer.headers["Retry-After"] == "91"
    row = client.operations.rows[answer.json["id"]]
    assert row.expires_at - row.accepted_at == pytest.approx(86400 + 91, abs=0.1)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"options": {"queue": "other"}}, "options.queue"),
        ({"options": {"exchange": "x"}}, "options.exchange"),
        ({"options": {"headers": {}}}, "options.headers"),
        ({"options": {"link": []}}, "options.link"),
        ({"options": {"serializer": "pickle"}}, "options.serializer"),
        ({"options": {"task_id": "mine"}}, "options.task_id"),
        ({"options": {"countdown": -1}}, "options.countdown"),
        ({"options": {"countdown": "5"}}, "options.countdown"),
        ({"options": {"countdown": 20, "expires": 10}}, "options.countdown"),
        ({"options": {"expires": 0}}, "options.expires"),
        ({"options": {"priority": 10}}, "options.priority"),
        ({"options": {"priority": 1.5}}, "options.priority"),
        ({"options": {"priority": True}}, "options.priority"),
        ({"options": []}, "options"),
        ({"args": {}}, "args"),
        ({"kwargs": []}, "kwargs"),
        ({"kwargs": None}, "kwargs"),
        ({"arguments": []}, "arguments"),
        ([], "body"),
        ("text", "body"),
    ],
)
async def test_a_wrong_shape_is_a_422_that_names_the_field(client, body, field):
    answer = await client.post(ECHO, body)
    assert answer.status == 422
    assert answer.json["type"].endswith("/invalid-request")
    assert answer.json["detail"].startswith(f"{field}: ")
    assert client.link.sent == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"args": [',
        b"{'args': []}",
        b'{"args": [NaN]}',
        b'{"args": [Infinity]}',
        b'{"args": [-Infinity]}',
        b'{"args": ["\xff"]}',
        b'{"args": ["\\ud800"]}',
        b'{"args": []} trailing',
        b'{"args": ' + b"[" * 500_000,
        b'{"args": ' + b"[" * 400_000 + b"]" * 400_000 + b"}",
        b'{"kwargs": ' + b'{"a":' * 101 + b"1" + b"}" * 101 + b"}",
    ],
    ids=range(11),
)
@pytest.mark.behaviour("S12")
async def test_what_is_not_json_is_a_400(client, body):
    answer = await client.post(ECHO, body)
    assert answer.status == 400
    assert answer.json["type"].endswith("/bad-json")
    assert client.link.sent == []


async def test_arguments_may_be_nested_a_hundred_deep(client):
    body = b'{"args": ' + b"[" * 100 + b"]" * 100 + b"}"
    assert (await client.post(ECHO, body)).status == 202


async def test_of_a_repeated_key_the_last_value_is_what_everybody_sees(client):
    assert (await client.post(ECHO, b'{"args": [1], "args": [2]}')).status == 202
    assert client.link.sent[0][1] == [2]


async def test_many_brackets_side_by_side_are_not_deep(client):
    assert (await client.post(ECHO, {"args": [[{}]] * 300})).status == 202


@pytest.mark.parametrize(
    "value",
    [
        {"__type__": "datetime", "__value__": "soon"},
        {"__type__": "pickle", "__value__": "x"},
        {"__type__": [], "__value__": 1},
    ],
)
@pytest.mark.behaviour("S20")
async def test_arguments_that_no_worker_could_decode_are_a_422(client, value):
    answer = await client.post(ECHO, {"args": [{"at": value}]})
    assert answer.status == 422
    assert answer.json["detail"].startswith("args: ")
    assert client.link.sent == []


async def test_celerys_own_wrappers_may_be_arguments(client):
    value = {"__type__": "datetime", "__value__": "2026-11-23T12:00:00+00:00"}
    assert (await client.post(ECHO, {"kwargs": {"at": value}})).status == 202
    assert client.link.sent[0][2] == {"at": value}


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_a_body_of_another_type_is_a_415(client, content_type):
    answer = await client.post(ECHO, b"{}", headers={"Content-Type": content_type})
    assert answer.status == 415
    assert answer.headers["Accept"] == "application/json"


@pytest.mark.behaviour("S20")
async def test_a_charset_is_no_other_type_and_a_compressed_body_is(client):
    utf8 = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await client.post(ECHO, b"{}", headers=utf8)).status == 202
    assert (await client.post(ECHO, b"{}", headers={"Content-Encoding": "gzip"})).status == 415


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"__type__": "datetime", "__value__": "2026-11-23T12:00:00"}, "2026-11-23T12:00:00"),
        ({"__type__": "decimal", "__value__": "1.10"}, "1.10"),
        ({"__type__": "uuid", "__value__": {"hex": "0" * 31 + "1"}}, "00000000-0000-0000-0000-000000000001"),
        ({"__type__": "base64", "__value__": "/w=="}, "/w=="),
        ([{"at": {"__type__": "date", "__value__": "2026-11-23"}}], [{"at": "2026-11-23"}]),
        ({"__type__": "uuid", "__value__": "no uuid"}, "no uuid"),
        ({"__type__": "mine", "__value__": [1]}, [1]),
        ({"__type__": "datetime", "more": 1}, {"__type__": "datetime", "more": 1}),
    ],
)
async def test_celerys_wrappers_in_results_give_way_to_their_values(client, result, told):
    client.link.outcome = ("SUCCESS", result)
    assert (await client.post(ECHO, headers=WAIT)).json["result"] == told


async def test_accepted_tasks_are_counted_by_queue_and_task(client):
    await client.post(ECHO)
    await client.post(ECHO, headers=WAIT)
    client.link.outcome = ("FAILURE", FAILURE)
    await client.post(ECHO, headers=WAIT)
    assert await client.metric("gateway_tasks_accepted_total", queue="default", task="task.echo") == 3
    assert await client.metric("gateway_publish_total", outcome="confirmed") == 3
    assert await client.metric("gateway_publish_seconds_count") == 1


async def test_the_module_of_a_failure_is_not_imported(client, monkeypatch, tmp_path):
    (tmp_path / "hostile_of_a_task.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    client.link.outcome = ("FAILURE", FAILURE | {"exc_type": "Boom", "exc_module": "hostile_of_a_task"})
    answer = await client.post(ECHO, headers=WAIT)
    assert (answer.status, answer.json["exc_type"], answer.json["message"]) == (500, "Boom", "bad, 7")
    assert "hostile_of_a_task" not in sys.modules
