"""The push of a result to the caller that waits for it, over AMQP."""

import logging
import multiprocessing
import os
import select
from typing import Any

from celery import Celery
from kombu import Connection

from celerykit.per_thread import PerThread

PREFIX = "gw."  # reply queues of the link begin so; other callers do not wait on ours
TRIES = 2
TIMEOUT = 1.0  # seconds, of each try

log = logging.getLogger(__name__)


class SharedCount:
    """A count in memory shared with the pool's children, so that the parent can show it.

    Each child has a place of its own by its process id. A lock would stay locked when a child is killed.
    """

    PLACES = 1024

    def __init__(self) -> None:
        self._counts = multiprocessing.RawArray("Q", self.PLACES)

    def add(self) -> None:
        """Count one."""
        self._counts[os.getpid() % self.PLACES] += 1

    def total(self) -> int:
        """What all have counted."""
        return sum(self._counts)


pushed, failed = SharedCount(), SharedCount()


class Replies:
    """Pushes results from any thread of any child, on a connection without confirms.

    The result is in the database before, so a push that fails costs the caller time, not the result:
    it is counted, logged, and never raised.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._channels = PerThread(self._open)

    def push(self, reply_to: str, correlation_id: str, body: str) -> None:
        """Send a result, a JSON text, to a reply queue."""
        for _ in range(TRIES):
            try:
                self._publish(reply_to, correlation_id, body)
            except Exception as problem:  # noqa: BLE001  # whatever it is, the task has succeeded
                self._channels.drop()
                error = problem
            except BaseException:  # a limit struck amid a frame: nobody may write after it
                self._channels.drop()
                raise
            else:
                pushed.add()
                return
        failed.add()
        log.warning("reply of task %s was not pushed: %r", correlation_id, error)

    def _publish(self, reply_to: str, correlation_id: str, body: str) -> None:
        channel = self._channels.get()
        connection = channel.connection
        # nobody reads this connection: hear first whether the broker has closed it
        readable = select.poll()
        readable.register(connection.sock, select.POLLIN)
        if readable.poll(0):
            connection.drain_events(timeout=TIMEOUT)
        message = channel.prepare_message(
            body,
            content_type="application/json",
            content_encoding="utf-8",
            properties={"correlation_id": correlation_id, "delivery_mode": 1},
        )
        channel.basic_publish(message, exchange="", routing_key=reply_to)

    def _open(self) -> Any:
        connection: Connection = self._app.connection_for_write(connect_timeout=TIMEOUT, heartbeat=0).clone(
            transport_options={"read_timeout": TIMEOUT, "write_timeout": TIMEOUT}
        )
        return connection.channel()
