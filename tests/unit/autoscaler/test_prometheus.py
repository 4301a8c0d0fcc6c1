"""What Prometheus says becomes numbers only when it is whole, fresh and unambiguous."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import pytest

from autoscaler.config import Autoscale, Pool
from autoscaler.model import Observation, Reason, Signal
from autoscaler.prometheus import MAX_ANSWER_BYTES, Prometheus, query, worker_query
from tests.unit.autoscaler.fake_prometheus import NOW, FakePrometheus, matrix, series, serving, vector

POOL = Pool(queues=("default",))
NAMES = (
    "rabbitmq_detailed_queue_exchange_messages_published_total|rabbitmq_detailed_queue_messages_acked_total"
    "|rabbitmq_detailed_queue_messages_ready|rabbitmq_detailed_queue_messages_unacked"
)
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


async def test_two_queries_serve_all_pools_and_each_sees_its_own_queues(
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
    assert len(fake.queries) == 2


def test_the_query_takes_names_literally_and_spans_the_largest_age() -> None:
    pools = {
        "a": Pool(queues=('a.b"c',), vhost="/"),
        "d": Pool(queues=("d-ü",), autoscale=Autoscale(metric_max_age_seconds=45)),
    }
    assert query(pools) == ('{__name__=~"' + NAMES + '",vhost=~"/",queue=~"a\\\\.b\\"c|d\\\\-ü"}[45000ms]')


def test_the_query_asks_for_the_labels_that_tell_the_broker_from_others() -> None:
    assert query({"a": Pool(queues=("q",))}, {"job": "kit-rabbitmq", "namespace": 'a"b'}) == (
        '{__name__=~"' + NAMES + '",vhost=~"/",queue=~"q",job="kit-rabbitmq",namespace="a\\"b"}[30000ms]'
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


@pytest.mark.behaviour("F2")
async def test_missing_series_hold(fake: FakePrometheus, prometheus: Prometheus) -> None:
    fake.answers(("ready", "/", "default", [(NOW, "3")]))
    seen = await look(prometheus)
    assert (seen.problem, seen.detail) == (STALE, "no fresh series of 'default' unacknowledged")
    fake.answers()
    seen = await look(prometheus)
    why = "it is not declared yet, or its broker is not read"
    assert (seen.problem, seen.detail) == (STALE, f"no fresh series of 'default': {why}")
    fake.answers(("ready", "/", "default", []), ("unacked", "/", "default", []))
    assert (await look(prometheus)).problem is STALE


@pytest.mark.behaviour("F4")
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
@pytest.mark.behaviour("F1")
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


@pytest.mark.behaviour("F1")
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


def test_the_workers_are_asked_by_their_pool_and_the_labels_that_tell_them_from_others() -> None:
    pools = {"a": Pool(queues=("q", "r.s")), "b": Pool(queues=("q",), vhost="other")}
    of_pool = 'pool=~"a|b",namespace="x"'
    of_both = f'{of_pool},queue=~"q|r\\\\.s"'
    started = f"max by (pool,instance) (last_over_time(process_start_time_seconds{{{of_pool}}}[30000ms]))"
    assert worker_query(pools, {"namespace": "x"}) == (
        f'label_replace({started},"what","started","","")'
        " or label_replace(sum by (pool,instance,queue)"
        f' (last_over_time(worker_task_finished_total{{{of_both}}}[30000ms])),"what","ended","","")'
        " or label_replace(sum by (pool,instance,queue)"
        f' (last_over_time(worker_task_runtime_seconds_sum{{{of_both}}}[30000ms])),"what","busy","","")'
    )


def queue_told(queue: str = "default", vhost: str = "/", node: str = "n1", at: float = NOW) -> list[Any]:
    """The messages of a queue, none."""
    labels = {"vhost": vhost, "queue": queue, "instance": node}
    names = ("ready", "unacked")
    return [series(f"rabbitmq_detailed_queue_messages_{name}", 0, at, **labels) for name in names]


def acked(count: object, node: str = "n1", at: float = NOW, vhost: str = "/", **more: str) -> Any:
    name = "rabbitmq_detailed_queue_messages_acked_total"
    return series(name, count, at, queue="default", vhost=vhost, instance=node, **more)


def published(count: object, exchange: str = "x") -> Any:
    name = "rabbitmq_detailed_queue_exchange_messages_published_total"
    return series(name, count, queue="default", vhost="/", instance="n1", exchange=exchange)


def of_worker(
    ended: float,
    busy: float,
    worker: str = "w1",
    pool: str = "default",
    queue: str = "default",
    start: float = 0,
) -> list[tuple[dict[str, str], float]]:
    labels = {"pool": pool, "instance": worker}
    return [
        ({"what": "started"} | labels, start),
        ({"what": "ended", "queue": queue} | labels, ended),
        ({"what": "busy", "queue": queue} | labels, busy),
    ]


async def flows(prometheus: Prometheus, pool: Pool = POOL) -> list[tuple[float, float, float, str]]:
    """Ended, arrived, busy and source of each flow; -1 is a number that is not known."""
    seen = await look(prometheus, pool)
    assert seen.problem is None
    numbers = [(flow.ended, flow.arrived, flow.busy_seconds) for flow in seen.flows]
    return [
        (*(-1 if math.isnan(n) else n for n in three), flow.source)
        for three, flow in zip(numbers, seen.flows, strict=True)
    ]


async def test_the_broker_tells_what_was_acknowledged_on_all_nodes_and_published_by_all_exchanges(
    fake: FakePrometheus, prometheus: Prometheus
) -> None:
    fake.body = matrix(*queue_told(), acked(5), acked(7, "n2"), published(9), published(1, ""))
    assert await flows(prometheus) == [(0, 0, -1, "broker")]
    fake.body = matrix(*queue_told(), acked(6), acked(9, "n2"), published(12), published(5, ""))
    assert await flows(prometheus) == [(3, 7, -1, "broker")]


async def test_the_newest_sample_of_a_counter_counts(fake: FakePrometheus, prometheus: Prometheus) -> None:
    fake.body = matrix(*queue_told(), acked(5))
    await flows(prometheus)
    several = acked(5)
    several["values"] = [[NOW - 4, "9"], [NOW - 9, "7"]]
    fake.body = matrix(*queue_told(), several)
    assert await flows(prometheus) == [(4, -1, -1, "broker")]


async def test_a_queue_that_begins_to_flow_is_told_from_its_first_task(
    fake: FakePrometheus, prometheus: Prometheus
) -> None:
    fake.body = matrix(*queue_told())
    assert await flows(prometheus) == []
    fake.body = matrix(*queue_told(), published(4), acked(2))
    assert await flows(prometheus) == [(2, 4, -1, "broker")]


async def test_workers_tell_where_the_broker_does_not(fake: FakePrometheus, prometheus: Prometheus) -> None:
    fake.body = matrix(*queue_told())
    fake.workers = vector(*of_worker(5, 50), *of_worker(3, 30, "w2"))
    assert await flows(prometheus) == [(0, -1, 0, "workers")]
    fake.workers = vector(*of_worker(6, 51.5), *of_worker(5, 32, "w2"))
    assert await flows(prometheus) == [(3, -1, 3.5, "workers")]


async def test_a_worker_that_has_ended_no_task_yet_tells_that_it_ended_none(
    fake: FakePrometheus, prometheus: Prometheus
) -> None:
    fake.body = matrix(*queue_told())
    fake.workers = vector(({"what": "started", "pool": "default", "instance": "w1"}, 5))
    assert await flows(prometheus) == [(0, -1, 0, "workers")]
    fake.workers = vector(*of_worker(2, 3, start=5))
    assert await flows(prometheus) == [(2, -1, 3, "workers")]


async def test_with_both_the_broker_counts_and_the_workers_tell_how_long_it_took(
    fake: FakePrometheus, prometheus: Prometheus
) -> None:
    fake.body = matrix(*queue_told(), acked(5))
    fake.workers = vector(*of_worker(5, 50))
    await flows(prometheus)
    fake.body = matrix(*queue_told(), acked(9))
    fake.workers = vector(*of_worker(6, 51))
    assert await flows(prometheus) == [(4, -1, 1, "broker")]


async def test_other_pools_queues_and_virtual_hosts_are_not_counted(
    fake: FakePrometheus, prometheus: Prometheus
) -> None:
    fake.body = matrix(*queue_told(), acked(5, vhost="other"), *queue_told(vhost="other"))
    fake.workers = vector(
        *of_worker(9, 9, pool="another"),
        *of_worker(9, 9, queue="another"),
        ({"what": "ended", "pool": "default", "instance": "no start", "queue": "default"}, 9),
    )
    assert await flows(prometheus) == [(0, -1, 0, "workers")]
    pools = {"default": POOL, "namesake": Pool(queues=("default",), vhost="other")}
    seen = await prometheus.observe(pools)
    assert [flow.source for flow in seen["namesake"].flows] == ["broker"]


@pytest.mark.parametrize("lost", [acked("NaN"), acked("many"), acked("-1"), acked(9, at=NOW - 31), None])
async def test_a_counter_that_is_none_or_too_old_is_no_problem_and_not_told(
    fake: FakePrometheus, prometheus: Prometheus, lost: Any
) -> None:
    fake.body = matrix(*queue_told(), acked(5))
    await flows(prometheus)
    fake.body = matrix(*queue_told(), *([lost] if lost else []))
    assert await flows(prometheus) == []
    fake.body = matrix(*queue_told(), acked(8))
    assert await flows(prometheus) == [(3, -1, -1, "broker")]


async def test_two_jobs_that_read_one_node_count_once(fake: FakePrometheus, prometheus: Prometheus) -> None:
    fake.body = matrix(*queue_told(), acked(5, job="a"), acked(4, job="b"))
    await flows(prometheus)
    fake.body = matrix(*queue_told(), acked(7, job="a"), acked(7, job="b"))
    assert await flows(prometheus) == [(2, -1, -1, "broker")]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", matrix(), vector(warnings=["a store is gone"])],
)
async def test_workers_that_cannot_be_asked_are_no_problem_and_it_is_said_once(
    fake: FakePrometheus, prometheus: Prometheus, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    fake.body = matrix(*queue_told())
    fake.workers = body
    for _ in range(3):
        assert await flows(prometheus) == []
    said = [line for line in caplog.messages if "what the workers count is not known" in line]
    assert len(said) == 1


async def test_flows_are_followed_while_the_messages_are_not_to_be_trusted(
    fake: FakePrometheus, prometheus: Prometheus
) -> None:
    fake.body = matrix(*queue_told(), acked(5))
    await flows(prometheus)
    fake.body = matrix(*queue_told()[:1], acked(7))
    seen = await look(prometheus)
    (flow,) = seen.flows
    assert (seen.problem, flow.ended, flow.source) == (STALE, 2, "broker")
    fake.status = 503
    assert (await look(prometheus)).flows == ()
    fake.status, fake.body = 200, matrix(*queue_told(), acked(9))
    assert await flows(prometheus) == [(4, -1, -1, "broker")]
