"""What Prometheus remembers of queues: how many messages there were, how many tasks ended, what they took."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from urllib.parse import urlencode

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPError

from autoscaler.config import Pool
from autoscaler.flows import Counter, Flows, Process, Queue
from autoscaler.past import Histogram, Past
from autoscaler.prometheus import (
    COUNTERS,
    MAX_ANSWER_BYTES,
    NO_LABELS,
    SERIES,
    WORKER_COUNTERS,
    WORKER_STARTED,
    any_of,
    more_labels,
    quoted,
)
from autoscaler.stream import QueryError

POINTS = 1000  # of one series in an answer; Prometheus gives 11,000 at most, and many series are large
PART_SECONDS = 600.0  # in which tasks take about as long, and enough of them end
FRESH_SECONDS = 60.0  # an older sample is none; by itself Prometheus looks back for five minutes
RECENT_SECONDS = 600
RECENT_STEP_SECONDS = 5
MANY_QUEUES = 100  # from which on recent moments are fewer
POOLS_AT_ONCE = 50  # of which recent moments are asked for: those of a thousand take more than all else
ENDED = next(name for name, what in WORKER_COUNTERS.items() if what == "ended")
ACKNOWLEDGED = next(name for name, what in COUNTERS.items() if what == "ended")
RUNTIME = "worker_task_runtime_seconds"
SLOTS = "worker_slots"  # a worker has it from its start, for each of its queues


@dataclass(frozen=True, slots=True)
class Sought:
    """The queues that are asked for, and whose workers may tell of them."""

    queues: tuple[Queue, ...]
    pools: Mapping[str, str] | None = None  # to their virtual hosts; None: the workers of any pool


class _Labels(msgspec.Struct):
    what: str = ""
    vhost: str = ""
    queue: str = ""
    pool: str = ""
    instance: str = ""
    le: str = ""


class _Series(msgspec.Struct):
    metric: _Labels
    values: list[tuple[float, str]] = []  # of a matrix
    value: tuple[float, str] = (math.nan, "NaN")  # of a vector


class _Data(msgspec.Struct):
    result: list[_Series]


class _Answer(msgspec.Struct):
    data: _Data
    warnings: list[str] = []


class History:
    """The HTTP API of one Prometheus, of which series with these labels count. All raise QueryError."""

    def __init__(
        self,
        url: str,
        timeout_seconds: float,
        labels: Mapping[str, str] = NO_LABELS,
        worker_labels: Mapping[str, str] = NO_LABELS,
    ) -> None:
        self._url = url.rstrip("/") + "/api/v1/"
        self._timeout = timeout_seconds
        self._labels = labels
        self._worker_labels = worker_labels
        self._http = AsyncHTTPClient(force_instance=True, max_body_size=MAX_ANSWER_BYTES)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    async def now(self) -> float:
        """Tell the time as Prometheus does, in unix seconds."""
        (told,) = await self._ask("query", query="vector(time())")
        return float(told.value[1])

    async def queues(self, vhost: str, at: float, seconds: float) -> set[str]:
        """Name the queues of a virtual host that were known in the seconds before."""
        of_vhost = f"vhost={quoted(vhost)}{more_labels(self._labels)}"
        known = f"group by (queue) (last_over_time({next(iter(SERIES))}{{{of_vhost}}}[{_ms(seconds)}]))"
        return {series.metric.queue for series in await self._ask("query", query=known, time=at)}

    async def recent(self, pools: Mapping[str, Pool], step: float = RECENT_STEP_SECONDS) -> dict[Queue, Past]:
        """Give the last minutes of all queues of these pools: one query, and by Prometheus' own clock."""
        queues = tuple((pool.vhost, queue) for pool in pools.values() for queue in pool.queues)
        sought = Sought(queues, {name: pool.vhost for name, pool in pools.items()})
        told = await self._ask(
            "query", query=f"({self._query(sought, step)})[{_ms(RECENT_SECONDS)}:{_ms(step)}]"
        )
        return _Reader(sought).read(told).past()

    async def read(self, sought: Sought, end: float, seconds: float, step: float) -> dict[Queue, Past]:
        """Give so many seconds until `end`, in unix seconds."""
        reader, query = _Reader(sought), self._query(sought, step)
        moments = int(seconds / step) + 1
        for first in range(0, moments, POINTS):
            last = min(first + POINTS, moments) - 1
            begin = end - (moments - 1) * step
            told = await self._ask(
                "query_range", query=query, start=begin + first * step, end=begin + last * step, step=step
            )
            reader.read(told)
        return reader.past()

    async def histograms(self, sought: Sought, end: float, seconds: float) -> dict[Queue, list[Histogram]]:
        """Give of each queue of which workers tell what its tasks took, for each part in which any ended."""
        selector = (
            f'{{__name__=~"{RUNTIME}_(bucket|sum)",{self._of_workers(sought)},'
            f"queue=~{any_of(queue for _, queue in sought.queues)}}}"
        )
        part = min(PART_SECONDS, seconds)
        most = f"max_over_time({selector}[{_ms(part)}])"
        # What a worker counted before does not count; one that is new counts from 0.
        gained = f"{most} - ({selector} offset {_ms(part)}) or {most}"
        begin = end - part * (math.ceil(seconds / part) - 1)
        told = await self._ask(
            "query_range", query=f"sum by (pool,queue,le) ({gained})", start=begin, end=end, step=part
        )
        counts: dict[tuple[Queue, float], dict[float, float]] = {}
        sums: dict[tuple[Queue, float], float] = {}
        for series in told:
            for queue, (at, text) in product(_of(sought, series.metric), series.values):
                gain = max(0.0, float(text))
                if not math.isfinite(gain):
                    continue
                if series.metric.le:
                    bounds, bound = counts.setdefault((queue, at), {}), float(series.metric.le)
                    bounds[bound] = bounds.get(bound, 0.0) + gain
                else:
                    sums[queue, at] = sums.get((queue, at), 0.0) + gain
        found: dict[Queue, list[Histogram]] = {}
        for (queue, at), bounds in sorted(counts.items()):
            if bounds.get(math.inf, 0.0) > 0:
                upper = tuple(sorted(bounds))
                numbers = tuple(bounds[bound] for bound in upper)
                found.setdefault(queue, []).append(Histogram(at, upper, numbers, sums.get((queue, at), 0.0)))
        return found

    def _query(self, sought: Sought, step: float) -> str:
        """Select all that is told of the queues, and each moment; the label `what` says what a number is."""
        queues = any_of(queue for _, queue in sought.queues)
        vhosts = any_of(vhost for vhost, _ in sought.queues)
        of_queue = f"vhost=~{vhosts},queue=~{queues}{more_labels(self._labels)}"
        of_worker = self._of_workers(sought)
        age = max(FRESH_SECONDS, 2 * step)

        def fresh(name: str, labels: str) -> str:
            return f"({name}{{{labels}}} and timestamp({name}{{{labels}}}) > time() - {age:g})"

        slots = fresh(SLOTS, f"{of_worker},queue=~{queues}")
        numbers = {what: f"max by (vhost,queue) {fresh(name, of_queue)}" for name, what in SERIES.items()}
        numbers |= {
            "moment": "vector(time())",
            "acknowledged": f"max by (vhost,queue,instance) {fresh(ACKNOWLEDGED, of_queue)}",
            "ended": f"sum by (pool,instance,queue) {fresh(ENDED, f'{of_worker},queue=~{queues}')}",
            # of each queue that it consumes, as a worker tells nothing of others
            "started": f"0 * max by (pool,instance,queue) {slots}"
            f" + on (pool,instance) group_left () max by (pool,instance) {fresh(WORKER_STARTED, of_worker)}",
        }
        return " or ".join(
            f'label_replace({number},"what","{what}","","")' for what, number in numbers.items()
        )

    def _of_workers(self, sought: Sought) -> str:
        pools = '".*"' if sought.pools is None else any_of(sought.pools)
        return f"pool=~{pools}{more_labels(self._worker_labels)}"

    async def _ask(self, how: str, **arguments: Any) -> list[_Series]:
        try:
            response = await self._http.fetch(
                self._url + how,
                method="POST",
                body=urlencode(arguments),
                raise_error=False,
                follow_redirects=False,
                connect_timeout=self._timeout,
                request_timeout=self._timeout,
            )
        except (HTTPError, OSError, UnicodeError, ValueError) as error:
            raise QueryError(f"Prometheus does not answer: {error}") from error
        if response.code != 200:
            raise QueryError(f"Prometheus answers HTTP {response.code}: {response.body[:200]!r}")
        try:
            answer = msgspec.json.decode(response.body, type=_Answer)
        except msgspec.DecodeError as error:
            raise QueryError(f"Prometheus' answer has no series: {error}") from error
        if answer.warnings:  # part of the data may be missing
            raise QueryError(f"Prometheus warns: {answer.warnings[0][:200]}")
        return answer.data.result


def recent_parts(pools: Mapping[str, Pool]) -> tuple[float, list[Mapping[str, Pool]]]:
    """Give the step in which recent moments are asked for, in seconds, and the pools that are at once."""
    many = sum(len(pool.queues) for pool in pools.values()) > MANY_QUEUES
    names = list(pools)
    parts = [names[first : first + POOLS_AT_ONCE] for first in range(0, len(names), POOLS_AT_ONCE)]
    return RECENT_STEP_SECONDS * (3 if many else 1), [{name: pools[name] for name in part} for part in parts]


def _ms(seconds: float) -> str:
    return f"{math.ceil(seconds * 1000)}ms"


def _of(sought: Sought, labels: _Labels) -> list[Queue]:
    """Whose the number of a worker is: its series say no virtual host, but its pool is of one."""
    return [
        queue
        for queue in sought.queues
        if queue[1] == labels.queue and (sought.pools is None or sought.pools.get(labels.pool) == queue[0])
    ]


@dataclass(slots=True)
class _Moment:
    there: dict[tuple[str, Queue], float] = field(default_factory=dict)  # by what
    broker: dict[Process, dict[Counter, float]] = field(default_factory=dict)
    started: dict[tuple[str, str], float] = field(default_factory=dict)  # by pool and instance
    ended: dict[tuple[str, str], dict[Counter, float]] = field(default_factory=dict)


class _Reader:
    """Puts answers together, one after the other: what ended is counted as the live loop does."""

    def __init__(self, sought: Sought) -> None:
        self._sought = sought
        self._flows = Flows()
        self._times: list[float] = []
        self._there: dict[tuple[str, Queue], list[float]] = {
            (what, queue): [] for what in SERIES.values() for queue in sought.queues
        }
        self._ended: dict[Queue, list[float]] = {queue: [] for queue in sought.queues}
        self._sources: dict[Queue, set[str]] = {queue: set() for queue in sought.queues}
        self._resets: dict[Queue, int] = dict.fromkeys(sought.queues, 0)

    def read(self, told: Iterable[_Series]) -> "_Reader":
        """Take in the moments of one answer, which follow those of the one before."""
        moments: dict[float, _Moment] = {}
        told = sorted(told, key=lambda series: series.metric.what != "moment")
        for series in told:
            if series.metric.what == "moment":
                moments |= {at: _Moment() for at, _ in series.values}
            else:
                self._put(moments, series)
        for at, moment in sorted(moments.items()):
            self._add(at, moment)
        return self

    def past(self) -> dict[Queue, Past]:
        """Give what was read of each queue of which anything is known."""
        return {
            queue: Past(
                tuple(self._times),
                tuple(self._there["ready", queue]),
                tuple(self._there["unacknowledged", queue]),
                tuple(self._ended[queue]),
                frozenset(self._sources[queue]),
                self._resets[queue],
            )
            for queue in self._sought.queues
            if not all(map(math.isnan, self._there["ready", queue]))
        }

    def _put(self, moments: Mapping[float, _Moment], series: _Series) -> None:
        labels = series.metric
        worker = (labels.pool, labels.instance)
        of_broker = labels.what not in ("started", "ended")
        queues = [(labels.vhost, labels.queue)] if of_broker else _of(self._sought, labels)
        before = 0.0
        for at, text in series.values:
            value = float(text)
            if at not in moments or not math.isfinite(value):
                continue
            moment = moments[at]
            for queue in queues:
                match labels.what:
                    case "started":
                        moment.started[worker] = value
                        moment.ended.setdefault(worker, {}).setdefault(Counter("ended", queue), 0.0)
                    case "ended":
                        moment.ended.setdefault(worker, {})[Counter("ended", queue)] = value
                    case "acknowledged":
                        node = moment.broker.setdefault(Process((labels.instance,)), {})
                        node[Counter("ended", queue)] = value
                    case what:
                        moment.there[what, queue] = value
                if labels.what in ("ended", "acknowledged") and value < before:
                    self._resets[queue] = self._resets.get(queue, 0) + 1
            before = value

    def _add(self, at: float, moment: _Moment) -> None:
        workers = {
            Process(worker, started): moment.ended[worker] for worker, started in moment.started.items()
        }
        flows = self._flows.update(self._sought.queues, at, moment.broker, workers)
        self._times.append(at)
        for key, numbers in self._there.items():
            numbers.append(moment.there.get(key, math.nan))
        for queue in self._sought.queues:
            flow = flows.get(queue)
            self._ended[queue].append(flow.ended if flow else math.nan)
            if flow:
                self._sources[queue].add(flow.source)
