"""What Prometheus knows of the queues: two queries for all pools, and nothing read as zero that is not."""

import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from sys import intern
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPError

from autoscaler.config import Pool
from autoscaler.flows import Counter, Flows, Process, Queue, Reading
from autoscaler.model import Observation, Reason, Signal
from autoscaler.stream import Answer, QueryError

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


class Newest(NamedTuple):
    """The last sample of a series: unix seconds, -inf if there is none, and the number as text."""

    at: float
    text: str


_Found = Mapping[tuple[str, Queue], list[Newest]]  # by `ready` or `unacknowledged`


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
        owners = {(pool.vhost, queue): pool for pool in pools.values() for queue in pool.queues}
        told = _Broker(owners, self._clock)
        if problem := await self._queues(pools, told):
            return dict.fromkeys(pools, Observation(problem=Reason.QUERY_ERROR, detail=problem))
        by_broker = self._flows.broker(owners, told.now, told.nodes)
        told.nodes.clear()  # before the workers are asked, as what they tell is as large
        flows = self._flows.follow(owners, told.now, by_broker, await self._workers(pools))
        return {
            name: replace(
                _observation(pool, told.found, told.now),
                flows=tuple(flows[key] for queue in pool.queues if (key := (pool.vhost, queue)) in flows),
            )
            for name, pool in pools.items()
        }

    async def _queues(self, pools: Mapping[str, Pool], told: "_Broker") -> str:
        """Ask what the broker tells; returns why it is not known."""
        try:
            answer = Answer("matrix", Series, told.take)
            await self._ask(query(pools, self._labels), answer, told.head)
        except QueryError as error:
            return str(error)
        return ""

    async def _workers(self, pools: Mapping[str, Pool]) -> Reading:
        """What the workers tell; where they cannot be asked for it, nothing is told."""
        told = _Workers(pools)
        problem = ""
        try:
            answer = Answer("vector", Sample, told.take)
            await self._ask(worker_query(pools, self._worker_labels), answer)
        except QueryError as error:
            problem = str(error)
        if problem and not self._problem:
            logger.warning("what the workers count is not known: %s", problem)
        self._problem = problem
        return {} if problem else told.reading()

    async def _ask(self, promql: str, answer: Answer[Any], head: Callable[[str], None] | None = None) -> None:
        """Have the answer read; `head` gets each line of the HTTP head before."""
        try:
            response = await self._http.fetch(
                self._url,
                method="POST",
                body=urlencode({"query": promql}),
                header_callback=head,
                streaming_callback=answer.feed,
                raise_error=False,
                follow_redirects=False,
                decompress_response=False,
                connect_timeout=self._timeout,
                request_timeout=self._timeout,
            )
        except (HTTPError, OSError, UnicodeError) as error:
            raise QueryError(f"Prometheus does not answer: {error}") from error
        if response.code != 200:
            raise QueryError(f"Prometheus answers HTTP {response.code}: {bytes(answer.rest[:200])!r}")
        answer.end()


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


class _Broker:
    """What the broker tells: the messages that are there, what each node counts, and Prometheus' time.

    What is counted is by the node of the channel, not of the queue.
    """

    def __init__(self, owners: Mapping[Queue, Pool], clock: Callable[[], float]) -> None:
        self._owners, self._clock = owners, clock
        self._queues = {queue: queue for queue in owners}  # one of each, as it is in many keys
        self.now = math.nan
        self.found: dict[tuple[str, Queue], list[Newest]] = {}
        self.nodes: dict[Process, dict[Counter, float]] = {}

    def head(self, line: str) -> None:
        """Tell the time by Prometheus' own clock, as the samples do; ours may be wrong."""
        name, _, value = line.partition(":")
        if name.lower() == "date":
            with suppress(ValueError):
                self.now = parsedate_to_datetime(value).timestamp()
        elif math.isnan(self.now):
            self.now = self._clock()

    def take(self, series: Series) -> None:
        """Take in one series."""
        labels = series.metric
        queue = self._queues.get((labels.vhost, labels.queue))
        if queue is None:
            return
        at, text = max(series.values, default=(-math.inf, ""))
        if name := SERIES.get(labels.name):
            self.found.setdefault((name, queue), []).append(Newest(at, text))
        if self.now - at > self._owners[queue].autoscale.metric_max_age_seconds:
            return
        node = self.nodes.setdefault(Process((labels.instance,)), {})
        if what := COUNTERS.get(labels.name):
            counter = Counter(what, queue, intern(labels.exchange))
            # read by two jobs it is one node still
            node[counter] = max(_number(text), node.get(counter, -math.inf))


class _Workers:
    """What each worker counts: nothing of a queue is 0, as it counts from its start."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._nothing = {
            name: {
                Counter(what, (pool.vhost, queue)): 0.0
                for queue in pool.queues
                for what in WORKER_COUNTERS.values()
            }
            for name, pool in pools.items()
        }
        self._pools = pools
        self._counted: dict[tuple[str, str], dict[Counter, float]] = {}
        self._started: dict[tuple[str, str], float] = {}

    def take(self, sample: Sample) -> None:
        """Take in one number."""
        labels, value = sample.metric, _number(sample.value[1])
        pool = self._pools.get(labels.pool)
        if pool is None:
            return
        worker = (intern(labels.pool), labels.instance)
        if labels.what == "started":
            self._started[worker] = value
        elif labels.queue in pool.queues:
            counts = self._counted.setdefault(worker, self._nothing[labels.pool].copy())
            counts[Counter(labels.what, (pool.vhost, labels.queue))] = value

    def reading(self) -> Reading:
        """Give what those count of which it is known when they started."""
        return {
            Process(worker, start): self._counted.get(worker, self._nothing[worker[0]])
            for worker, start in self._started.items()
            if math.isfinite(start)
        }


def _observation(pool: Pool, found: _Found, now: float) -> Observation:
    signals: list[Signal] = []
    problems: list[tuple[Reason, str]] = []
    for queue in pool.queues:
        if not any((short, (pool.vhost, queue)) in found for short in SERIES.values()):
            # A queue is there from when its first worker or sender has declared it.
            why = "it is not declared yet, or its broker is not read"
            problems.append((Reason.HOLD_STALE_METRICS, f"no fresh series of {queue!r}: {why}"))
            continue
        for short in SERIES.values():
            series = found.get((short, (pool.vhost, queue)), [])
            if len(series) > 1:
                problems.append((Reason.SEVERAL_SERIES, f"{len(series)} series of {queue!r} {short}"))
                continue
            if not series or math.isinf(series[0].at):
                problems.append((Reason.HOLD_STALE_METRICS, f"no fresh series of {queue!r} {short}"))
                continue
            text = series[0].text
            signal = Signal(queue, short, _number(text), max(0.0, now - series[0].at))
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
