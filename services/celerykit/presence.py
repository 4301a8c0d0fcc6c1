"""What a worker is to the outside: alive, ready, draining, empty. Bootsteps keep it; its port tells it."""

import importlib.metadata
import threading
import time
from typing import Any

from celery import Celery, bootsteps
from celery.worker import state
from kombu import Connection

from celerykit import metrics
from celerykit.profile import dead_letters
from celerykit.request import unacknowledged
from celerykit.settings import Settings

DRAIN_SECONDS = 5.0  # that the main loop may take to answer


class Presence:
    """The worker's state, asked by the threads of its port and changed on Celery's main loop."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self.settings = settings
        self._app = app
        self._consumer: Any = None
        self._draining = False
        self._asked: float | None = None  # when the main loop was asked for a sign of life it has not given
        self._changing = threading.Lock()
        metrics.build_info.labels(importlib.metadata.version("celery"), "worker").set(1)

    def connected(self, consumer: Any) -> None:
        """The consumer has its connection; called by its bootstep."""
        if consumer.restart_count > 0:
            metrics.broker_reconnects.inc()
        self._consumer, self._asked = consumer, None
        metrics.broker_connected.set(1)
        metrics.prefetch_count.set_function(lambda: consumer.qos.value if consumer.qos else 0)
        metrics.consumer_registered.set_function(lambda: float(self._consuming()))
        metrics.reserved_tasks.set_function(lambda: float(self._held()))
        for name in self.settings.queues:
            metrics.slots.labels(name).set_function(self._slots)
            metrics.slots_busy.labels(name).set_function(lambda: float(len(state.active_requests)))

    def disconnected(self) -> None:
        """The connection is gone; called by the bootstep."""
        self._consumer = None
        metrics.broker_connected.set(0)

    def alive(self) -> bool:
        """Whether the main loop turns; never asks the broker, and is true while there is none."""
        consumer = self._consumer
        if consumer is None:
            return True
        asked = self._asked
        if asked is None:
            self._asked = time.monotonic()
            consumer.call_soon(self._answer)
            return True
        return time.monotonic() - asked < self.settings.liveness_seconds

    def report(self) -> dict[str, Any]:
        """The state as the port tells it."""
        return {
            "ready": self._consuming() and not self._draining,
            "draining": self._draining,
            "active": len(state.active_requests),
            "reserved": self._held(),
            "slots": self._slots(),
            "worker": getattr(self._consumer, "hostname", None),
        }

    def drain(self, wanted: bool) -> bool:
        """Stop or resume taking tasks; returns whether it is so now.

        Once this is true, every task that the broker has delivered is counted in `reserved`.
        """
        with self._changing:
            consumer = self._consumer
            if consumer is None or self._draining == wanted:
                return self._draining == wanted
            done = threading.Event()
            consumer.call_soon(self._change, consumer, wanted, done)
            done.wait(DRAIN_SECONDS)
            return self._draining == wanted

    def _change(self, consumer: Any, wanted: bool, done: threading.Event) -> None:
        for name in self.settings.queues:
            if wanted:
                consumer.cancel_task_queue(name)
            else:
                consumer.add_task_queue(name)
        self._draining = wanted
        done.set()

    def _answer(self) -> None:
        self._asked = None

    def _consuming(self) -> bool:
        tasks = getattr(self._consumer, "task_consumer", None)
        return tasks is not None and any(tasks.consuming_from(name) for name in self.settings.queues)

    def _held(self) -> int:
        """Tasks that would be hurt by an end: unacknowledged, or acknowledged early and running."""
        return len(set(unacknowledged) | set(state.reserved_requests))

    def _slots(self) -> int:
        pool = getattr(self._consumer, "pool", None)
        return int(pool.num_processes or 0) if pool else 0


class PresenceStep(bootsteps.StartStopStep):
    """Tells the presence when the consumer connects and when it loses its connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        """The consumer has its queues."""
        presence: Presence = c.app.celerykit
        _declare_dead_letters(c.connection, presence.settings)
        presence.connected(c)

    def stop(self, c: Any) -> None:
        """The connection is gone, or the worker is about to end."""
        c.app.celerykit.disconnected()

    shutdown = stop


def _declare_dead_letters(connection: Connection, settings: Settings) -> None:
    with connection.channel() as channel:
        for name in settings.queues:
            dead_letters(name)(channel).declare()
