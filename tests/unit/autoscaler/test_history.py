"""What Prometheus remembers: of each queue, at each moment, and nothing is zero that is not known."""

import math
from collections.abc import AsyncIterator

import promql_parser
import pytest

from autoscaler.config import Pool
from autoscaler.history import PART_SECONDS, POINTS, History, Sought
from autoscaler.past import Histogram, Past, looks
from autoscaler.stream import QueryError
from tests.unit.autoscaler.fake_prometheus import NOW, FakePrometheus, matrix
from tests.unit.autoscaler.played_past import MISSING, STEP, course, remembers, tasks

QUEUE = ("/", "default")
POOLS = {"default": Pool(queues=("default",))}


@pytest.fixture
async def history(fake: FakePrometheus) -> AsyncIterator[History]:
    history = History(fake.url, 0.5, {"job": "kit"}, {"namespace": "here"})
    yield history
    history.close()


async def past(history: History, fake: FakePrometheus, answer: bytes) -> Past:
    fake.others = remembers(answer)
    return (await history.recent(POOLS))[QUEUE]


async def test_each_moment_has_what_was_there_and_what_had_ended(
    history: History, fake: FakePrometheus
) -> None:
    found = await past(history, fake, course([0, 3, 1], [0, 1, 2], ended=[0, 2, 5]))
    assert found.times == (NOW - 2 * STEP, NOW - STEP, NOW)
    assert (found.ready, found.unacknowledged, found.ended) == ((0, 3, 1), (0, 1, 2), (0, 2, 5))
    assert found.sources == {"workers"}


async def test_the_broker_tells_before_the_workers_and_its_count_begins_with_the_watch(
    history: History, fake: FakePrometheus
) -> None:
    found = await past(history, fake, course([0, 0], [1, 1], acknowledged=[1000, 1004], ended=[0, 3]))
    assert (found.ended, found.sources) == ((0, 4), {"broker"})


async def test_what_nobody_tells_is_not_a_number(history: History, fake: FakePrometheus) -> None:
    found = await past(history, fake, course([MISSING, "NaN", 2], [1, 1, 1]))
    assert [math.isnan(one) for one in found.ready] == [True, True, False]
    assert all(map(math.isnan, found.ended))
    assert found.sources == frozenset()


async def test_a_counter_that_begins_anew_is_followed_and_told(
    history: History, fake: FakePrometheus
) -> None:
    found = await past(history, fake, course([0] * 4, [1] * 4, ended=[5, 9, 2, 3]))
    assert (found.ended[-1], found.resets) == (found.ended[1] + 3, 1)


async def test_a_queue_of_another_virtual_host_or_pool_is_not_ours(
    history: History, fake: FakePrometheus
) -> None:
    fake.others = remembers(course([1], [1], vhost="other", ended=[0]))
    assert await history.recent(POOLS) == {}
    found = await history.recent({"default": Pool(queues=("default",), vhost="other")})
    assert found["other", "default"].sources == {"workers"}
    found = await history.recent({"another": Pool(queues=("default",), vhost="other")})
    assert found["other", "default"].sources == frozenset()


async def test_long_histories_are_asked_for_in_parts_that_prometheus_answers(
    history: History, fake: FakePrometheus
) -> None:
    fake.others = remembers(matrix())
    await history.read(Sought((QUEUE,)), NOW, 3 * POINTS * STEP, STEP)
    asked = [{name: float(one[name]) for name in ("start", "end", "step")} for one in fake.asked]
    assert all((one["end"] - one["start"]) / one["step"] < POINTS for one in asked)
    assert [one["start"] for one in asked[1:]] == [one["end"] + STEP for one in asked[:-1]]
    assert (asked[0]["start"], asked[-1]["end"]) == (NOW - 3 * POINTS * STEP, NOW)


async def test_each_part_has_a_histogram_of_what_its_tasks_took(
    history: History, fake: FakePrometheus
) -> None:
    fake.others = remembers(matrix(), took=tasks({"1": 3, "5": 4, "+Inf": 5}, 21.0))
    found = (await history.histograms(Sought((QUEUE,)), NOW, 3600))[QUEUE]
    assert found == [Histogram(at, (1, 5, math.inf), (3, 4, 5), 21) for at in (NOW - PART_SECONDS, NOW)]
    (asked,) = fake.asked
    assert float(asked["end"]) - float(asked["start"]) == 3600 - float(asked["step"]) == 3000


async def test_the_queries_are_promql_and_bear_the_labels(history: History, fake: FakePrometheus) -> None:
    fake.others = remembers(matrix())
    await history.recent(POOLS)
    await history.read(Sought((QUEUE,)), NOW, 60, STEP)
    await history.histograms(Sought((QUEUE,)), NOW, 60)
    await history.queues("/", NOW, 60)
    for query in fake.queries:
        promql_parser.parse(query)
        assert 'job="kit"' in query or 'namespace="here"' in query


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (503, b"away", "HTTP 503"),
        (200, b"{}", "no series"),
        (200, b'{"data": {"result": []}, "warnings": ["half of it"]}', "warns: half of it"),
        (200, None, "does not answer"),
    ],
)
async def test_an_answer_that_is_none_says_why(
    history: History, fake: FakePrometheus, status: int, body: bytes | None, words: str
) -> None:
    fake.status, fake.others = status, {"": body}
    with pytest.raises(QueryError, match=words):
        await history.recent(POOLS)


def test_a_pool_is_seen_as_it_was_where_all_its_queues_are_known() -> None:
    pool = Pool(queues=("a", "b"))
    nan = math.nan
    a = Past((100, 105, 110), (1, 2, 3), (0, 1, 0), (nan, 4, 6))
    b = Past((100, 105, 110), (0, nan, 5), (0, 0, 0), (nan, nan, nan))
    assert list(looks(pool, {("/", "a"): a}, 1000.0)) == []
    (first, one), (last, other) = looks(pool, {("/", "a"): a, ("/", "b"): b}, 1000.0)
    assert (first, one.backlog, one.flows) == (985.0, 1, ())
    assert (last, other.backlog) == (995.0, 8)
    assert [(flow.queue, flow.ended) for flow in other.flows] == [("a", 6)]
