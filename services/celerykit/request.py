"""A task's message in the worker's parent process, which sees what its children cannot count.

The children of a prefork pool die with what they counted: by SIGKILL, by the memory limit, by a hard time
limit. Celery tells its parent of all of these, through the methods that are extended here.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import pymysql
from celery.exceptions import (
    BackendError,
    Ignore,
    InvalidTaskError,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.utils.time import maybe_iso8601
from celery.worker import state
from celery.worker.request import Request as CeleryRequest
from kombu.asynchronous import get_event_loop

from celerykit import metrics
from celerykit.profile import PUBLISHED_AT, undelayed

PUT_BACK_AFTER = 15.0  # seconds: times the delivery limit, the minutes that a database may be away

log = logging.getLogger(__name__)

# requests that the broker waits for: neither acknowledged nor rejected
unacknowledged: WeakSet["Request"] = WeakSet()

# the first that fits; whatever else a task raises is its failure
OUTCOMES = (
    (WorkerLostError, "worker_lost"),
    ((TimeLimitExceeded, SoftTimeLimitExceeded), "timeout"),
    (Terminated, "revoked"),
    ((Reject, Ignore), "rejected"),
    (Exception, "failure"),
)


class Request(CeleryRequest):
    """Counts what becomes of a message, and how long it waited and ran."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # as such it is rejected; as anything else it ends the worker, and the next one that gets it
            raise InvalidTaskError(f"the message has another shape than a task's: {error!r}") from error
        self._outcome: str | None = None
        self._cancelled = False
        self._handed = False  # to the pool
        self._future: Any = None  # of a pool of threads, which takes more than it runs
        self.queue = undelayed(str(self.delivery_info.get("routing_key") or ""))
        self._labels = (self.queue, self.name)
        metrics.received.labels(*self._labels, str(bool(self.delivery_info.get("redelivered"))).lower()).inc()
        unacknowledged.add(self)

    def __init_subclass__(cls) -> None:
        """Celery subclasses this for each task with methods that call no super: wrap them."""
        super().__init_subclass__()
        succeeded, execute = (cls.__dict__.get(name) for name in ("on_success", "execute_using_pool"))
        if succeeded is None or execute is None:
            return

        def on_success(self: Request, failed__retval__runtime: Any, **kwargs: Any) -> None:
            failed, _, runtime = failed__retval__runtime
            if self._cancelled and not failed and runtime is None:
                return  # gevent's pool calls it a success that it killed a task; unacknowledged, it goes back
            succeeded(self, failed__retval__runtime, **kwargs)
            if not failed:
                self._finish("success")

        def execute_using_pool(self: Request, pool: Any, **kwargs: Any) -> Any:
            result = execute(self, pool, **kwargs)
            self._handed, self._future = True, getattr(result, "f", None)
            return result

        cls.on_success = on_success
        cls.execute_using_pool = execute_using_pool

    def cancel(self, *args: Any, **kwargs: Any) -> None:
        self._cancelled = True
        super().cancel(*args, **kwargs)

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        published = _number(self.request_dict.get(PUBLISHED_AT))
        if published is not None:
            due = maybe_iso8601(self.request_dict.get("eta"))
            waited = self.time_start - max(published, due.timestamp() if due else 0)
            metrics.queue_wait.labels(*self._labels).observe(max(0.0, waited))

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if self._written(super().on_timeout, soft, timeout) and not soft:
            self._finish("timeout")

    def on_retry(self, exc_info: Any) -> None:
        super().on_retry(exc_info)
        self._finish("retry")

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        error = getattr(exc_info.exception, "exc", None) or exc_info.exception
        if isinstance(error, TimeLimitExceeded) and not return_ok:
            return None  # `on_timeout` comes next: it acknowledges after the result is written, not before
        result = super().on_failure(exc_info, send_failed_event, return_ok)
        if not isinstance(error, Retry):
            # what ends a child, SystemExit too, is a lost worker
            self._finish(next((word for kind, word in OUTCOMES if isinstance(error, kind)), "worker_lost"))
        return result

    def acknowledge(self) -> None:
        super().acknowledge()
        unacknowledged.discard(self)

    def reject(self, requeue: bool = False) -> None:
        super().reject(requeue)
        unacknowledged.discard(self)

    def give_back(self) -> None:
        """Return the message to its queue, unless a slot has begun with it."""
        if not self._handed or (self._future is not None and self._future.cancel()):
            state.task_ready(self)
            self.reject(requeue=True)

    def _announce_revoked(self, reason: str, terminated: Any, signum: Any, expired: Any) -> None:
        if self._written(super()._announce_revoked, reason, terminated, signum, expired):
            self._finish("expired" if expired else "revoked")
        self._already_revoked = True

    def _written(self, end: Callable[..., None], *args: Any) -> bool:
        """End the task as Celery does; if that cannot be written, its message is given out again later.

        Raised here, the error would end the worker, or leave the message with it for good.
        """
        try:
            end(*args)
        except (BackendError, pymysql.MySQLError) as error:
            log.error("task %s goes back to its queue, its end cannot be written: %r", self.id, error)
            _later(self.reject, True)
            return False
        return True

    def _finish(self, outcome: str) -> None:
        if self._outcome is not None:  # Celery tells of a time limit twice
            return
        self._outcome = outcome
        metrics.finished.labels(*self._labels, outcome).inc()
        if self.time_start:
            metrics.runtime.labels(*self._labels).observe(max(0.0, time.time() - self.time_start))


def _later(function: Callable[..., None], *args: Any) -> None:
    """Call in the worker's loop, or in a greenlet of its own where gevent is the loop.

    At once, the message would spend all its deliveries in a few seconds.
    """
    loop = get_event_loop()
    if loop is not None:
        loop.call_later(PUT_BACK_AFTER, function, *args)
        return
    timer = threading.Timer(PUT_BACK_AFTER, function, args)
    timer.daemon = True
    timer.start()


def _number(header: Any) -> float | None:
    try:
        return float(header)
    except (TypeError, ValueError):  # not stamped, or by somebody else
        return None
