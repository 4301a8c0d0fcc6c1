"""What Prometheus knows of the queues: one query for all pools, and nothing read as zero that is not."""

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlencode

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPResponse

from autoscaler.config import Pool
from autoscaler.model import Observation, Reason, Signal

SERIES = {
    "rabbitmq_detailed_queue_messages_ready": "ready",
    "rabbitmq_detailed_queue_messages_unacked": "unacknowledged",
}
NO_LABELS: Mapping[str, str] = MappingProxyType({})
MAX_ANSWER_BYTES = 4 * 1024 * 1024


class QueryError(Exception):
    """Prometheus gave no data; the text says why."""


class Series(msgspec.Struct):
    """One series with its samples: unix seconds and the number as text."""

    metric: dict[str, str]
    values: list[tuple[float, str]]


class _Data(msgspec.Struct, rename="camel"):
    result_type: Literal["matrix"]
    result: list[Series]


class _Answer(msgspec.Struct):
    status: Literal["success"]
    data: _Data
    warnings: list[str] = []


_Found = Mapping[tuple[str, str, str], list[Series]]  # by name, vhost, queue


class Prometheus:
    """The HTTP API of one Prometheus, of which series with these labels count.

    `clock` tells unix seconds where an answer does not.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float,
        labels: Mapping[str, str] = NO_LABELS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = url.rstrip("/") + "/api/v1/query"
        self._timeout = timeout_seconds
        self._labels = labels
        self._clock = clock
        self._http = AsyncHTTPClient(force_instance=True, max_body_size=MAX_ANSWER_BYTES)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    async def observe(self, pools: Mapping[str, Pool]) -> dict[str, Observation]:
        """Ask once for all pools. An observation without a problem has fresh numbers for every queue."""
        try:
            response = await self._ask(query(pools, self._labels))
            found = _parse(response.body)
        except QueryError as error:
            return dict.fromkeys(pools, Observation(problem=Reason.QUERY_ERROR, detail=str(error)))
        now = self._now(response)
        return {name: _observation(pool, found, now) for name, pool in pools.items()}

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
    """Select a range, because unlike an instant vector it tells when each sample was taken."""
    vhosts = _any_of(pool.vhost for pool in pools.values())
    queues = _any_of(queue for pool in pools.values() for queue in pool.queues)
    age = max(pool.autoscale.metric_max_age_seconds for pool in pools.values())
    more = "".join(f",{name}={_quoted(value)}" for name, value in labels.items())
    return f"{{__name__=~{_any_of(SERIES)},vhost=~{vhosts},queue=~{queues}{more}}}[{math.ceil(age * 1000)}ms]"


def _any_of(names: Iterable[str]) -> str:
    return _quoted("|".join(re.escape(name) for name in sorted(set(names))))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # PromQL quotes strings as JSON does


def _parse(body: bytes) -> _Found:
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except msgspec.DecodeError as error:
        raise QueryError(f"Prometheus' answer is not a matrix: {error}") from error
    if answer.warnings:  # part of the data may be missing
        raise QueryError(f"Prometheus warns: {answer.warnings[0][:200]}")
    found: dict[tuple[str, str, str], list[Series]] = {}
    for series in answer.data.result:
        labels = series.metric
        key = (labels.get("__name__", ""), labels.get("vhost", ""), labels.get("queue", ""))
        found.setdefault(key, []).append(series)
    return found


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
