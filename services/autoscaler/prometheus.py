"""What Prometheus knows of the queues: two queries for all pools, and nothing read as zero that is not."""

import asyncio
import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Literal, TypeVar
from urllib.parse import urlencode

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPResponse

from autoscaler.config import Pool
from autoscaler.flows import Counter, Flows, Process, Queue, Reading
from autoscaler.model import Observation, Reason, Signal

SERIES = {
    "rabbitmq_detailed_queue_messages_ready": "ready",
    "rabbitmq_detailed_queue_messages_unacked": "unacknowledged",
}
COUNTERS = {  # from RabbitMQ 4.0 on
    "rabbitmq_detailed_queue_messages_acked_total": "ended",
    "rabbitmq_detailed_queue_exchange_messages_published_total": "arrived",
}
WORKER_COUNTERS = {
    "worker_task_finished_total": "ended",
    "worker_task_runtime_seconds_sum": "busy",
}
WORKER_STARTED = "process_start_time_seconds"
NO_LABELS: Mapping[str, str] = MappingProxyType({})
MAX_ANSWER_BYTES = 32 * 1024 * 1024

logger = logging.getLogger(__name__)


class QueryError(Exception):
    """Prometheus gave no data; the text says why."""


# Of all labels only those that are read: an answer has thousands of them.
class Labels(msgspec.Struct):
    """What a series of the broker is of."""

    name: str = msgspec.field(name="__name__", default="")
    vhost: str = ""
    queue: str = ""
    exchange: str = ""
    instance: str = ""


class Series(msgspec.Struct):
    """One series with its samples: unix seconds and the number as text."""

    metric: Labels
    values: list[tuple[float, str]]


class WorkerLabels(msgspec.Struct):
    """What a number of a worker is of."""

    what: str = ""
    pool: str = ""
    queue: str = ""
    instance: str = ""


class Sample(msgspec.Struct):
    """One number of one worker, with the time of the query."""

    metric: WorkerLabels
    value: tuple[float, str]


class _Matrix(msgspec.Struct, rename="camel"):
    result_type: Literal["matrix"]
    result: list[Series]


class _Vector(msgspec.Struct, rename="camel"):
    result_type: Literal["vector"]
    result: list[Sample]


class _MatrixAnswer(msgspec.Struct):
    status: Literal["success"]
    data: _Matrix
    warnings: list[str] = []


class _VectorAnswer(msgspec.Struct):
    status: Literal["success"]
    data: _Vector
    warnings: list[str] = []


_A = TypeVar("_A", _MatrixAnswer, _VectorAnswer)
_Found = Mapping[tuple[str, str, str], list[Series]]  # by name, vhost, queue


class Prometheus:
    """The HTTP API of one Prometheus, of which the broker's and the workers' series with these labels count.

    `clock` tells unix seconds where an answer does not.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float,
        labels: Mapping[str, str] = NO_LABELS,
        worker_labels: Mapping[str, str] = NO_LABELS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url.rstrip("/") + "/api/v1/query"
        self._timeout = timeout_seconds
        self._labels = labels
        self._worker_labels = worker_labels
        self._flows = Flows()
        self._problem = ""  # with what the workers count
        self._clock = clock
        self._http = AsyncHTTPClient(force_instance=True, max_body_size=MAX_ANSWER_BYTES)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    async def observe(self, pools: Mapping[str, Pool]) -> dict[str, Observation]:
        """Ask once for all pools. An observation without a problem has fresh numbers for every queue.

        What went through the queues comes with it where anybody tells, and is missed by nobody.
        """
        seen, workers = await asyncio.gather(self._queues(pools), self._workers(pools))
        if isinstance(seen, QueryError):
            return dict.fromkeys(pools, Observation(problem=Reason.QUERY_ERROR, detail=str(seen)))
        found, now = seen
        owners = {(pool.vhost, queue): pool for pool in pools.values() for queue in pool.queues}
        flows = self._flows.update(owners, now, _broker(owners, found, now), workers)
        return {
            name: replace(
                _observation(pool, found, now),
                flows=tuple(flows[key] for queue in pool.queues if (key := (pool.vhost, queue)) in flows),
            )
            for name, pool in pools.items()
        }

    async def _queues(self, pools: Mapping[str, Pool]) -> tuple[_Found, float] | QueryError:
        """What the broker tells, and Prometheus' time."""
        try:
            response = await self._ask(query(pools, self._labels))
            return _found(_decoded(response.body, _MatrixAnswer).data.result), self._now(response)
        except QueryError as error:
            return error

    async def _workers(self, pools: Mapping[str, Pool]) -> Reading:
        """What the workers tell; where they cannot be asked for it, nothing is told."""
        reading: Reading = {}
        problem = ""
        try:
            response = await self._ask(worker_query(pools, self._worker_labels))
            reading = _told(pools, _decoded(response.body, _VectorAnswer).data.result)
        except QueryError as error:
            problem = str(error)
        if problem and not self._problem:
            logger.warning("what the workers count is not known: %s", problem)
        self._problem = problem
        return reading

    async def _ask(self, promql: str) -> HTTPResponse:
        try:
            response = await self._http.fetch(
                self._url,
                method="POST",
                body=urlencode({"query": promql}),
                raise_error=False,
                follow_redirects=False,
                decompress_response=False,
                connect_timeout=self._timeout,
                request_timeout=self._timeout,
            )
        except (HTTPError, OSError, UnicodeError) as error:
            raise QueryError(f"Prometheus does not answer: {error}") from error
        if response.code != 200:
            raise QueryError(f"Prometheus answers HTTP {response.code}: {response.body[:200]!r}")
        return response

    def _now(self, response: HTTPResponse) -> float:
        """Tell the time by Prometheus' own clock, as the samples do; ours may be wrong."""
        try:
            return parsedate_to_datetime(response.headers.get("Date", "")).timestamp()
        except ValueError:
            return self._clock()


def query(pools: Mapping[str, Pool], labels: Mapping[str, str] = NO_LABELS) -> str:
    """Select a range, because unlike an instant vector it tells when each sample was taken.

    So the counters are known to be of the same scrape as the messages that are there.
    """
    vhosts = any_of(pool.vhost for pool in pools.values())
    queues = any_of(queue for pool in pools.values() for queue in pool.queues)
    age = max(pool.autoscale.metric_max_age_seconds for pool in pools.values())
    names = any_of((*SERIES, *COUNTERS))
    of_queues = f"__name__=~{names},vhost=~{vhosts},queue=~{queues}{more_labels(labels)}"
    return f"{{{of_queues}}}[{math.ceil(age * 1000)}ms]"


def worker_query(pools: Mapping[str, Pool], labels: Mapping[str, str] = NO_LABELS) -> str:
    """Select one number of each kind for a worker and queue, over all its tasks and outcomes.

    Sums within a worker only rise while it lives, which those over workers do not. Which virtual host a
    queue is of is known by the pool, as its workers are of one.
    """
    # Prometheus looks back five minutes, and where it began anew itself it takes the last word of a worker
    # that is gone for that of the next one at its address.
    fresh = f"[{math.ceil(max(pool.autoscale.metric_max_age_seconds for pool in pools.values()) * 1000)}ms]"
    of_pool = f"pool=~{any_of(pools)}{more_labels(labels)}"
    queues = any_of(queue for pool in pools.values() for queue in pool.queues)
    numbers = {
        "started": f"max by (pool,instance) (last_over_time({WORKER_STARTED}{{{of_pool}}}{fresh}))"
    } | {
        what: f"sum by (pool,instance,queue) (last_over_time({name}{{{of_pool},queue=~{queues}}}{fresh}))"
        for name, what in WORKER_COUNTERS.items()
    }
    return " or ".join(f'label_replace({number},"what","{what}","","")' for what, number in numbers.items())


def more_labels(labels: Mapping[str, str]) -> str:
    """Go on with a selector."""
    return "".join(f",{name}={quoted(value)}" for name, value in labels.items())


def any_of(names: Iterable[str]) -> str:
    """Match one of these names, in quotes."""
    return quoted("|".join(re.escape(name) for name in sorted(set(names))))


def quoted(text: str) -> str:
    """Write a string of PromQL."""
    return json.dumps(text, ensure_ascii=False)  # PromQL quotes strings as JSON does


def _decoded(body: bytes, kind: type[_A]) -> _A:
    try:
        answer = msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        shape = "matrix" if kind is _MatrixAnswer else "vector"
        raise QueryError(f"Prometheus' answer is not a {shape}: {error}") from error
    if answer.warnings:  # part of the data may be missing
        raise QueryError(f"Prometheus warns: {answer.warnings[0][:200]}")
    return answer


def _found(result: Iterable[Series]) -> _Found:
    found: dict[tuple[str, str, str], list[Series]] = {}
    for series in result:
        labels = series.metric
        found.setdefault((labels.name, labels.vhost, labels.queue), []).append(series)
    return found


def _broker(owners: Mapping[Queue, Pool], found: _Found, now: float) -> Reading:
    """What each node counts. Acknowledged and published is by the node of the channel, not of the queue."""
    nodes: dict[Process, dict[Counter, float]] = {}
    for queue, pool in owners.items():
        for name in (*SERIES, *COUNTERS):
            for series in found.get((name, *queue), ()):
                at, text = max(series.values, default=(-math.inf, ""))
                if now - at > pool.autoscale.metric_max_age_seconds:
                    continue
                node = nodes.setdefault(Process((series.metric.instance,)), {})
                if what := COUNTERS.get(name):
                    counter = Counter(what, queue, series.metric.exchange)
                    # read by two jobs it is one node still
                    node[counter] = max(_number(text), node.get(counter, -math.inf))
    return nodes


def _told(pools: Mapping[str, Pool], result: Iterable[Sample]) -> Reading:
    """What each worker counts: nothing of a queue is 0, as it counts from its start."""
    processes: dict[tuple[str, str], dict[Counter, float]] = {}
    started: dict[tuple[str, str], float] = {}
    for sample in result:
        labels = sample.metric
        if labels.pool not in pools:
            continue
        pool, worker = pools[labels.pool], (labels.pool, labels.instance)
        if labels.what == "started":
            started[worker] = _number(sample.value[1])
        elif labels.queue in pool.queues:
            counter = Counter(labels.what, (pool.vhost, labels.queue))
            processes.setdefault(worker, {})[counter] = _number(sample.value[1])
    return {
        Process(worker, start): {
            Counter(what, (pools[worker[0]].vhost, queue)): 0.0
            for queue in pools[worker[0]].queues
            for what in WORKER_COUNTERS.values()
        }
        | processes.get(worker, {})
        for worker, start in started.items()
        if math.isfinite(start)
    }


def _observation(pool: Pool, found: _Found, now: float) -> Observation:
    signals: list[Signal] = []
    problems: list[tuple[Reason, str]] = []
    for queue in pool.queues:
        for name, short in SERIES.items():
            series = found.get((name, pool.vhost, queue), [])
            if len(series) > 1:
                problems.append((Reason.SEVERAL_SERIES, f"{len(series)} series of {queue!r} {short}"))
                continue
            samples = series[0].values if series else []
            if not samples:
                problems.append((Reason.HOLD_STALE_METRICS, f"no fresh series of {queue!r} {short}"))
                continue
            at, text = max(samples)
            signal = Signal(queue, short, _number(text), max(0.0, now - at))
            signals.append(signal)
            if not (math.isfinite(signal.value) and signal.value >= 0):
                problems.append((Reason.HOLD_STALE_METRICS, f"{queue!r} {short} is {text}"))
            elif signal.age_seconds > pool.autoscale.metric_max_age_seconds:
                problems.append(
                    (Reason.HOLD_STALE_METRICS, f"{queue!r} {short} is {signal.age_seconds:.0f} s old")
                )
    if not problems:
        return Observation(tuple(signals))
    return Observation(tuple(signals), problems[0][0], "; ".join(detail for _, detail in problems))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
