"""What Prometheus says becomes numbers only when it is whole, fresh and unambiguous."""

import asyncio
import json
from collections.abc import AsyncIterator
from email.utils import formatdate

import pytest

from autoscaler.config import Autoscale, Pool
from autoscaler.model import Observation, Reason, Signal
from autoscaler.prometheus import MAX_ANSWER_BYTES, Prometheus, query
from tests.unit.autoscaler.fake_prometheus import NOW, FakePrometheus, serving

POOL = Pool(queues=("default",))
STALE, ERROR, SEVERAL = Reason.HOLD_STALE_METRICS, Reason.QUERY_ERROR, Reason.SEVERAL_SERIES


@pytest.fixture
async def prometheus(fake: FakePrometheus) -> AsyncIterator[Prometheus]:
    client = Prometheus(fake.url + "/", 0.5, clock=lambda: NOW + 7)
    yield client
    client.close()


async def look(prometheus: Prometheus, pool: Pool = POOL) -> Observation:
    return (await prometheus.observe({"default": pool}))["default"]


async def test_the_newest_sample_of_each_series_counts(fake: FakePrometheus, prometheus: Prometheus) -> None:
    fake.answers(
        ("ready", "/", "default", [(NOW - 9, "90"), (NOW - 4, "40")]),
        ("unacked", "/", "default", [(NOW - 6, "2"), (NOW - 11, "70")]),
    )
    seen = await look(prometheus)
    assert seen.signals == (
        Signal("default", "ready", 40, 4),
        Signal("default", "unacknowledged", 2, 6),
    )
    assert (seen.problem, seen.backlog, seen.age_seconds) == (None, 42, 6)


async def test_one_query_serves_all_pools_and_each_sees_its_own_queues(
    fake: FakePrometheus, prometheus: Prometheus
) -> None:
    fake.answers(
        *(
            (name, vhost, queue, [(NOW, value)])
            for vhost, queue, value in (("/", "a", "1"), ("/", "b", "10"), ("other", "a", "100"))
            for name in ("ready", "unacked")
        )
    )
    pools = {
        "both": Pool(queues=("a", "b")),
        "other": Pool(queues=("a",), vhost="other"),
        "none": Pool(queues=("b",), vhost="other"),
    }
    seen = await prometheus.observe(pools)
    assert (seen["both"].backlog, seen["other"].backlog) == (22, 200)
    assert seen["none"].problem is STALE
    assert len(fake.queries) == 1


def test_the_query_takes_names_literally_and_spans_the_largest_age() -> None:
    pools = {
        "a": Pool(queues=('a.b"c',), vhost="/"),
        "d": Pool(queues=("d-ü",), autoscale=Autoscale(metric_max_age_seconds=45)),
    }
    assert query(pools) == (
        '{__name__=~"rabbitmq_detailed_queue_messages_ready|rabbitmq_detailed_queue_messages_unacked",'
        'vhost=~"/",queue=~"a\\\\.b\\"c|d\\\\-ü"}[45000ms]'
    )


def test_the_query_asks_for_the_labels_that_tell_the_broker_from_others() -> None:
    assert query({"a": Pool(queues=("q",))}, {"job": "kit-rabbitmq", "namespace": 'a"b'}) == (
        '{__name__=~"rabbitmq_detailed_queue_messages_ready|rabbitmq_detailed_queue_messages_unacked",'
        'vhost=~"/",queue=~"q",job="kit-rabbitmq",namespace="a\\"b"}[30000ms]'
    )


@pytest.mark.parametrize("number", ["NaN", "+Inf", "-Inf", "-1", "many"])
@pytest.mark.behaviour("S29")
async def test_a_sample_that_is_no_count_holds(
    fake: FakePrometheus, prometheus: Prometheus, number: str
) -> None:
    fake.answers(
        ("ready", "/", "default", [(NOW, number)]),
        ("unacked", "/", "default", [(NOW, "3")]),
    )
    seen = await look(prometheus)
    assert seen.problem is STALE
    assert f"'default' ready is {number}" in seen.detail


async def test_missing_series_hold(fake: FakePrometheus, prometheus: Prometheus) -> None:
    fake.answers(("ready", "/", "default", [(NOW, "3")]))
    seen = await look(prometheus)
    assert (seen.problem, seen.detail) == (STALE, "no fresh series of 'default' unacknowledged")
    fake.answers()
    assert (await look(prometheus)).problem is STALE
    fake.answers(("ready", "/", "default", []), ("unacked", "/", "default", []))
    assert (await look(prometheus)).problem is STALE


async def test_a_missing_queue_of_several_holds_the_whole_pool(
    fake: FakePrometheus, prometheus: Prometheus
) -> None:
    fake.backlog(1, 1, queue="a")
    assert (await look(prometheus, Pool(queues=("a", "b")))).problem is STALE


@pytest.mark.behaviour("S29")
async def test_an_old_sample_holds_and_says_its_age(fake: FakePrometheus, prometheus: Prometheus) -> None:
    fake.backlog(5, age=30)
    assert (await look(prometheus)).problem is None
    fake.backlog(5, age=31)
    seen = await look(prometheus)
    assert (seen.problem, seen.age_seconds) == (STALE, 31)


@pytest.mark.behaviour("S29")
async def test_two_series_of_one_queue_hold(fake: FakePrometheus, prometheus: Prometheus) -> None:
    fake.answers(
        ("ready", "/", "default", [(NOW, "3")]),
        ("ready", "/", "default", [(NOW, "3")]),
        ("unacked", "/", "default", [(NOW, "3")]),
    )
    seen = await look(prometheus)
    assert (seen.problem, seen.detail) == (SEVERAL, "2 series of 'default' ready")


@pytest.mark.parametrize("date", [None, "yesterday", ""])
async def test_without_its_clock_ours_tells_the_age(
    fake: FakePrometheus, prometheus: Prometheus, date: str | None
) -> None:
    fake.backlog(5, age=1)
    fake.date = date
    assert (await look(prometheus)).age_seconds == 8


async def test_the_age_follows_prometheus_clock_not_ours_and_is_never_negative(
    fake: FakePrometheus, prometheus: Prometheus
) -> None:
    fake.backlog(5, age=0)
    fake.date = formatdate(NOW + 3600, usegmt=True)
    assert (await look(prometheus)).problem is STALE
    fake.date = formatdate(NOW - 1, usegmt=True)
    assert (await look(prometheus)).age_seconds == 0


GOOD = {"status": "success", "data": {"resultType": "matrix", "result": []}}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (503, b"down", "HTTP 503: b'down'"),
        (422, b'{"status":"error","error":"bad query"}', "HTTP 422"),
        (302, b"", "HTTP 302"),
        (204, b"", "HTTP 204"),
        (200, b"", "not a matrix"),
        (200, b"<html>", "not a matrix"),
        (200, b'{"status":"error","error":"x"}', "not a matrix"),
        (200, json.dumps(GOOD | {"data": {"resultType": "vector", "result": []}}).encode(), "not a matrix"),
        (200, json.dumps(GOOD | {"data": {"resultType": "matrix"}}).encode(), "not a matrix"),
        (200, json.dumps(GOOD | {"warnings": ["a store is gone"]}).encode(), "warns: a store is gone"),
        (200, b"x" * (MAX_ANSWER_BYTES + 1), "does not answer"),
        (200, None, "does not answer"),
    ],
)
async def test_an_answer_that_is_none_is_a_query_error(
    fake: FakePrometheus, prometheus: Prometheus, status: int, body: bytes | None, said: str
) -> None:
    fake.status, fake.body = status, body
    seen = await look(prometheus)
    assert seen.problem is ERROR
    assert said in seen.detail


async def test_a_redirect_is_not_followed(fake: FakePrometheus, prometheus: Prometheus) -> None:
    async with serving() as other:
        other.backlog(5)
        fake.status, fake.elsewhere = 307, other.url
        assert (await look(prometheus)).problem is ERROR
        assert other.queries == []


async def test_a_refused_connection_is_a_query_error(unused_tcp_port: int) -> None:
    prometheus = Prometheus(f"http://127.0.0.1:{unused_tcp_port}", 0.5)
    seen = await look(prometheus)
    prometheus.close()
    assert seen.problem is ERROR
    assert "does not answer" in seen.detail


async def test_a_broken_connection_is_a_query_error() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    broken = Prometheus(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", 0.5)
    seen = await look(broken)
    broken.close()
    server.close()
    assert seen.problem is ERROR
