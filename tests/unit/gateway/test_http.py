"""What holds for every route: errors, limits, headers, metrics, the log, clients that leave."""

import asyncio
import json
import logging
import re
import socket

import pytest

from gateway.app import HANDLERS
from gateway.handlers.examples import EXAMPLES

ROUTES = [handler.route for handler in (*HANDLERS, *EXAMPLES)]
TASK = "/v1/tasks/task.echo"


def head(method, path, *lines):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def parsed(raw):
    top, _, body = raw.partition(b"\r\n\r\n")
    return int(top.split()[1]), top.decode().lower(), json.loads(body)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "PUT"])
async def test_an_unknown_path_is_a_404_problem(client, method):
    answer = await client.request(method, "/nowhere")
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    if method != "HEAD":
        assert answer.json["type"].endswith("/not-found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", TASK, "POST"),
        ("DELETE", TASK, "POST"),
        ("POST", "/healthz", "GET"),
        ("BREW", "/i_want_you_now", "GET"),
    ],
)
async def test_a_method_that_a_path_has_not_is_a_405_that_says_which_it_has(client, method, path, allow):
    answer = await client.request(method, path)
    assert answer.status == 405
    assert answer.headers["Allow"] == allow
    assert answer.json["status"] == 405


@pytest.mark.behaviour("S23")
async def test_answers_carry_no_server_version_and_are_not_sniffed_or_cached(client):
    for path in ("/healthz", "/nowhere", "/metrics"):
        answer = await client.get(path)
        assert "Server" not in answer.headers
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.behaviour("S23")
async def test_an_unforeseen_error_is_a_500_that_tells_nothing(client, caplog):
    client.link.error = ZeroDivisionError("secret")
    answer = await client.post(TASK)
    assert answer.status == 500
    assert answer.json["type"].endswith("/internal-error")
    assert "secret" not in answer.text
    assert "ZeroDivisionError" in caplog.text
    assert await client.metric("gateway_internal_errors_total") == 1


@pytest.mark.parametrize("size", [1001, 5_000_000])
@pytest.mark.behaviour("S20")
async def test_too_large_a_body_gets_its_413_and_is_read_before_the_connection_closes(start, size):
    client = start(max_body_bytes=1000)
    answer = await client.post(TASK, b'"' + b"x" * size + b'"')
    assert answer.status == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "1000" in answer.json["detail"]
    assert client.link.sent == []
    assert await client.metric("gateway_tasks_rejected_total", reason="size") == 1


async def test_a_body_of_just_the_largest_size_is_taken(start):
    client = start(max_body_bytes=1000)
    assert (await client.post(TASK, b"{}".ljust(1000))).status == 202
    assert (await client.post(TASK, b"{}".ljust(1001))).status == 413


@pytest.mark.behaviour("S20")
async def test_too_large_a_chunked_body_gets_its_413(start):
    client = start(max_body_bytes=1000)

    async def produce(write):
        for _ in range(50):
            await write(b"x" * 1000)

    answer = await client.post(TASK, body_producer=produce, headers={"Content-Type": "application/json"})
    assert answer.status == 413


async def test_a_chunked_body_of_a_good_size_is_taken(client):
    async def produce(write):
        for part in (b'{"args": ', b"[1]", b"}"):
            await write(part)

    answer = await client.post(TASK, body_producer=produce, headers={"Content-Type": "application/json"})
    assert answer.status == 202
    assert client.link.sent[0][1] == [1]


async def test_who_asks_before_sending_too_much_is_refused_without_sending(client):
    announced = head(
        "POST", TASK, "Content-Length: 2000000", "Content-Type: application/json", "Expect: 100-continue"
    )
    status, top, body = parsed(await client.raw(announced))
    assert status == 413
    assert body["type"].endswith("/body-too-large")
    assert "100 (continue)" not in top


async def test_a_body_beyond_all_measure_is_refused_by_its_announcement(client):
    status, _, body = parsed(await client.raw(head("POST", TASK, f"Content-Length: {10**12}")))
    assert (status, body["status"]) == (413, 413)


async def test_a_chunked_body_without_end_is_cut_off_with_its_413(start, monkeypatch, until):
    monkeypatch.setattr("gateway.handlers.base._DISCARD_BYTES", 100_000)
    client = start(max_body_bytes=1000)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(head("POST", TASK, "Transfer-Encoding: chunked", "Content-Type: application/json"))
    for _ in range(11):
        writer.write(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
    status, _, _ = parsed(await reader.read())
    writer.close()
    assert status == 413
    await until(lambda: client.gateway.requests == 0)
    assert client.link.sent == []


async def test_a_connection_stays_usable_after_too_large_a_body(start):
    client = start(max_body_bytes=10)
    large = head("POST", TASK, "Content-Length: 100000", "Content-Type: application/json") + b"x" * 100_000
    raw = await client.raw(large + head("GET", "/healthz", "Connection: close"))
    assert raw.count(b"HTTP/1.1 413") == raw.count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize("length", ["abc", "-5", "1, 2", "9" * 5000, "٣"])
async def test_a_length_that_is_none_is_a_400(client, length, caplog):
    raw = await client.raw(f"POST {TASK} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
    assert raw.startswith(b"HTTP/1.1 400")
    assert "Uncaught" not in caplog.text


@pytest.mark.behaviour("S20")
async def test_a_body_that_does_not_arrive_in_time_ends_the_connection(start, until):
    client = start(body_timeout_seconds=1)
    async with asyncio.timeout(5):
        await client.raw(head("POST", TASK, "Content-Length: 10") + b"x")
    await until(lambda: client.gateway.requests == 0)


@pytest.mark.behaviour("S20")
async def test_a_head_that_does_not_arrive_in_time_ends_the_connection(start):
    client = start(idle_timeout_seconds=1)
    async with asyncio.timeout(5):
        assert await client.raw(b"GET / HTTP/1.1\r\nHost: x\r\n") == b""


@pytest.mark.behaviour("S20")
async def test_too_large_a_head_ends_the_connection(start):
    client = start(max_header_bytes=2000)
    async with asyncio.timeout(5):
        assert b"200" not in await client.raw(head("GET", "/healthz", "X-Much: " + "y" * 5000))


async def test_a_client_that_leaves_frees_its_place_at_once(client, until):
    client.link.gate.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(head("POST", TASK, "Prefer: wait=50", "Content-Length: 0"))
    await until(lambda: client.link.in_flight == 1)
    assert client.gateway.requests == 1
    writer.close()
    await until(lambda: client.link.in_flight == 0)
    await until(lambda: client.gateway.requests == 0)
    labels = {"method": "POST", "route": "/v1/tasks/{name}", "code": "499"}
    assert await client.metric("gateway_http_requests_total", **labels) == 1
    assert client.operations.rows == {}


async def test_a_client_that_resets_in_the_middle_of_its_body_is_counted_out(client, until):
    _, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(head("POST", TASK, "Content-Length: 1000") + b"x")
    await until(lambda: client.gateway.requests == 1)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.close()
    await until(lambda: client.gateway.requests == 0)


async def test_requests_are_counted_by_route_never_by_path(client):
    await client.get("/mysql_query/x1")
    await client.get("/no/such/path")
    await client.request("BREW", "/no/such/path")
    text = (await client.get("/metrics")).text
    assert 'route="/mysql_query/{flag}"' in text
    assert "x1" not in text
    assert "/no/such" not in text
    assert "BREW" not in text


@pytest.mark.behaviour("S8")
async def test_each_request_is_one_line_in_the_log_without_body_query_or_key(client, caplog):
    caplog.set_level(logging.INFO, logger="gateway.access")
    await client.post(f"{TASK}?secret=1", {"args": ["secret"]}, headers={"Authorization": "Bearer secret"})
    (record,) = [record for record in caplog.records if record.name == "gateway.access"]
    fields = record.fields
    assert (fields["method"], fields["path"], fields["code"]) == ("POST", TASK, 202)
    assert fields["client"] == "127.0.0.1"
    assert "secret" not in json.dumps(fields)


@pytest.mark.behaviour("S23")
@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-Ip"])
async def test_an_address_in_a_header_is_not_believed(client, caplog, header):
    caplog.set_level(logging.INFO, logger="gateway.access")
    await client.get("/openapi.json", headers={header: "203.0.113.7"})
    (record,) = [record for record in caplog.records if record.name == "gateway.access"]
    assert record.fields["client"] == "127.0.0.1"


async def test_a_gateway_that_stops_tells_clients_to_go_elsewhere(client):
    client.gateway.stopping = True
    assert (await client.get("/healthz")).headers["Connection"] == "close"
    assert (await client.get("/readyz")).status == 503


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "odd", ["%00", "%ff", "%2e%2e%2f", "a" * 1000, "{}", "%F0%9F%92%A9", "1e999", "-", "%0d%0aX:1"]
)
@pytest.mark.behaviour("S20")
async def test_no_odd_path_or_query_is_more_than_a_clients_error(start, route, odd):
    client = start(examples=True)
    path = re.sub(r"{\w+}", odd, route)
    for method in ("GET", "POST", "DELETE"):
        answer = await client.request(method, f"{path}?wait={odd}&delay={odd}&terminate={odd}&{odd}={odd}")
        assert answer.status < 500, method
    assert client.link.sent == client.link.revoked == []


@pytest.mark.parametrize("route", ROUTES)
async def test_every_route_answers_405_with_the_methods_it_has(start, route):
    answer = await start(examples=True).request("PATCH", re.sub(r"{\w+}", "1", route))
    assert (answer.status, answer.json["title"]) == (405, "The resource has no such method")
    assert set(answer.headers["Allow"].split(", ")) <= {"GET", "POST", "DELETE"}
