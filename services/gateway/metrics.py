"""What Prometheus reads of a gateway. No label holds an id, a path or a client's words."""

import asyncio
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from gateway.problems import REJECTS

PUBLISH_OUTCOMES = ("confirmed", "returned", "error")
_LAG_SECONDS = 0.25  # between two looks at the loop
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        labels = ("method", "route", "code")
        self.requests = Counter("gateway_http_requests_total", "Requests answered", labels, registry=registry)
        self.duration = Histogram(
            "gateway_http_request_duration_seconds",
            "Head of the request to end of the answer",
            labels,
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.internal_errors = Counter(
            "gateway_internal_errors_total", "Requests that failed as nobody foresaw", registry=registry
        )
        self.in_flight = Gauge("gateway_http_requests_in_flight", "Requests now", registry=registry)
        self.loop_lag = Histogram(
            "gateway_event_loop_lag_seconds",
            "How late the event loop runs what is due",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        self.accepted = Counter(
            "gateway_tasks_accepted_total",
            "Tasks that the broker took and a client was told of",
            ("queue", "task"),
            registry=registry,
        )
        self.rejected = Counter(
            "gateway_tasks_rejected_total", "Tasks that were refused, by why", ("reason",), registry=registry
        )
        self.publish = Counter(
            "gateway_publish_total",
            "Messages handed to the broker, by what it said",
            ("outcome",),
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "gateway_publish_seconds",
            "Publish to the broker's confirm",
            buckets=_LAG_BUCKETS,
            registry=registry,
        )
        self.waits = Gauge("gateway_waits_in_flight", "Requests that wait for a task now", registry=registry)
        self.connected = Gauge("gateway_broker_connected", "1 while the link is up", registry=registry)
        build = Gauge(
            "kit_build_info", "1; the labels say what runs", ("version", "component"), registry=registry
        )
        build.labels(version("celery-kit"), "gateway").set(1)
        # a label costs as much as all else that is counted, so those of what comes often are kept
        self._of_answer = cache(self._labels_of_answer)
        for reason in REJECTS:
            self.rejected.labels(reason)
        for outcome in PUBLISH_OUTCOMES:
            self.publish.labels(outcome)

    def expect(self, tasks: Iterable[tuple[str, str]], routes: Iterable[tuple[str, str]]) -> None:
        """Begin known (queue, task) and (method, route) at 0, so that rates see the first event."""
        for queue, task in tasks:
            self.accepted.labels(queue, task)
        for method, route in routes:
            for code in ("200", "202", "500", "503"):
                self.requests.labels(method, route, code)
                self.duration.labels(method, route, code)

    def answered(self, method: str, route: str, code: int, seconds: float) -> None:
        """Count a request and the time that it took; none of the labels may be a client's words."""
        requests, duration = self._of_answer(method, route, code)
        requests.inc()
        duration.observe(seconds)

    def _labels_of_answer(self, method: str, route: str, code: int) -> tuple[Counter, Histogram]:
        return self.requests.labels(method, route, code), self.duration.labels(method, route, code)

    def watch(
        self, *, requests: Callable[[], int], waits: Callable[[], int], connected: Callable[[], bool]
    ) -> None:
        """Read these when Prometheus asks."""
        self.in_flight.set_function(requests)
        self.waits.set_function(waits)
        self.connected.set_function(connected)

    async def watch_loop(self) -> None:
        """Measure for ever how late the event loop is."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_SECONDS
            await asyncio.sleep(_LAG_SECONDS)
            self.loop_lag.observe(max(0.0, loop.time() - due))
