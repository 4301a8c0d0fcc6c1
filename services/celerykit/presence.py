"""What a worker is to the outside: alive, ready, draining, empty. Bootsteps keep it; its port tells it."""

import importlib.metadata
import logging
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

from billiard.pool import EX_OK, EX_RECYCLE
from celery import bootsteps
from celery.worker import state
from kombu import Connection

from celerykit import metrics, timers
from celerykit.profile import dead_letters, declaring
from celerykit.request import unacknowledged
from celerykit.settings import Settings

log = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0  # that the main loop may take to answer
LOOK_SECONDS = 5.0  # between two looks at whether a drain is over


class Presence:
    """The worker's state, asked by the threads of its port and changed on Celery's main loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._consumer: Any = None
        self.queues: tuple[str, ...] = settings.queues
        self.started = False  # once connected: the queues are those that the command line names
        self._draining = False
        self._told = 0.0  # when it was last told to drain
        self._asked: float | None = None  # when the main loop was asked for a sign of life it has not given
        self._changing = threading.Lock()
        self._midway = False  # while the broker has not yet confirmed a change
        metrics.build_info.labels(_version(), "worker").set(1)

    def connected(self, consumer: Any) -> None:
        """The consumer has its connection; called by its bootstep."""
        if consumer.restart_count > 0:
            metrics.broker_reconnects.inc()
        self._consumer, self._asked = consumer, None
        metrics.broker_connected.set(1)
        metrics.prefetch_count.set_function(lambda: consumer.qos.value if consumer.qos else 0)
        metrics.consumer_registered.set_function(lambda: float(self._consuming()))
        metrics.reserved_tasks.set_function(lambda: float(self._held()))
        for name in self.queues:
            metrics.slots.labels(name).set_function(self._slots)
            metrics.slots_busy.labels(name).set_function(partial(_busy, name))
        metrics.expect(self.queues, [name for name in consumer.app.tasks if not name.startswith("celery.")])

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
            "draining": self._draining and not self._midway,
            "active": len(state.active_requests),
            "reserved": self._held(),
            "slots": self._slots(),
            "worker": getattr(self._consumer, "hostname", None),
        }

    def ends_tasks(self) -> bool:
        """Whether it drains, or is about to, and has tasks."""
        return self._draining and bool(state.active_requests or self._held())

    def drain(self, wanted: bool) -> bool:
        """Stop or resume taking tasks; returns whether it is so now.

        Once this is true, every task that the broker has delivered is counted in `reserved`.
        """
        with self._changing:
            self._told = time.monotonic()
            consumer = self._consumer
            if consumer is None or self._settled(wanted):
                return self._settled(wanted)
            done = threading.Event()
            consumer.call_soon(self._change, consumer, wanted, done)
            done.wait(DRAIN_SECONDS)
            return self._settled(wanted)

    def resume_when_forgotten(self, consumer: Any) -> None:
        """Take tasks again if whoever drained this worker is gone, who would have repeated it."""
        limit = self.settings.drain_seconds
        if not self._changing.acquire(blocking=False):
            return  # somebody tells it something now, and may wait for this very loop
        try:
            if limit and self._draining and time.monotonic() - self._told > limit:
                log.warning("nobody repeated /drain for %g s: taking tasks again", limit)
                self._change(consumer, False, threading.Event())
        finally:
            self._changing.release()

    def _change(self, consumer: Any, wanted: bool, done: threading.Event) -> None:
        self._midway = True
        try:
            # all of it before the broker hears of any: if that fails, the next connection makes it so
            self._draining = wanted
            known = consumer.app.amqp.queues
            for name in self.queues:
                if wanted:
                    known.deselect(name)
                else:
                    known.select_add(known[name])
            for name in self.queues:
                if wanted:
                    consumer.cancel_task_queue(name)
                else:
                    consumer.add_task_queue(name)
            if wanted:
                consumer.give_back()
        finally:
            self._midway = False
            done.set()

    def _settled(self, wanted: bool) -> bool:
        """Whether it is as told; without a connection, whether it will be so with the next one."""
        tasks = getattr(self._consumer, "task_consumer", None)
        return (
            self._draining == wanted
            and not self._midway
            and (tasks is None or all(tasks.consuming_from(name) != wanted for name in self.queues))
        )

    def _answer(self) -> None:
        self._asked = None

    def _consuming(self) -> bool:
        tasks = getattr(self._consumer, "task_consumer", None)
        return tasks is not None and any(tasks.consuming_from(name) for name in self.queues)

    def _held(self) -> int:
        """Tasks that would be hurt by an end: unacknowledged, or acknowledged early and running."""
        # copied in one step: a weak set that another thread changes cannot be iterated
        references = (*unacknowledged.data, *state.reserved_requests.data)  # type: ignore[attr-defined]
        return len({id(request) for reference in references if (request := reference()) is not None})

    def _slots(self) -> int:
        pool = getattr(self._consumer, "pool", None)
        return int(pool.num_processes or 0) if pool else 0


class PresenceStep(bootsteps.StartStopStep):
    """Tells the presence when the consumer connects and when it loses its connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        self._looks: Any = None
        super().__init__(c, **kwargs)

    def start(self, c: Any) -> None:
        """The consumer has its queues."""
        presence: Presence = c.app.celerykit
        if not presence.started:
            presence.started = True
            presence.queues = tuple(c.app.amqp.queues.consume_from)  # later a drained worker has none
            _count_child_exits(c.pool)
        _declare_dead_letters(c.connection, presence.queues)
        presence.connected(c)
        self._looks = c.timer.call_repeatedly(LOOK_SECONDS, c.call_soon, (presence.resume_when_forgotten, c))

    def stop(self, c: Any) -> None:
        """The connection is gone, or the worker is about to end."""
        timers.end(self._looks)
        c.app.celerykit.disconnected()

    shutdown = stop


def _busy(queue: str) -> float:
    """How many tasks of a queue run now; the slots are shared by all queues of the worker."""
    requests = [reference() for reference in (*state.active_requests.data,)]
    return float(sum(getattr(request, "queue", None) == queue for request in requests))


def _version() -> str:
    """The kit's version, installed whole or as celerykit alone."""
    for name in ("celerykit", "celery-kit"):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "unknown"


def _declare_dead_letters(connection: Connection, queues: tuple[str, ...]) -> None:
    with connection.channel() as channel, declaring():
        for name in queues:
            dead_letters(name)(channel).declare()


def _count_child_exits(pool: Any) -> None:
    """Have the parent count what becomes of its children, where the pool has any."""
    children = getattr(pool, "_pool", None)
    join = getattr(children, "_join_exited_workers", None)
    if join is None:
        return

    def joining(*args: Any, **kwargs: Any) -> Any:
        codes = join(*args, **kwargs)
        for code in codes or ():
            metrics.child_exits.labels(_reason(code)).inc()
        return codes

    children._join_exited_workers = joining  # type: ignore[union-attr]  # noqa: SLF001  # there is no public way


def _reason(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal{-code}"
    return {EX_OK: "clean", EX_RECYCLE: "recycled"}.get(code, "error")
