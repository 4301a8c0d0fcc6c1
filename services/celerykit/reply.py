"""Messages that nobody confirms: above all the push of a result to the caller that waits for it."""

import logging
import multiprocessing
import os
import select
import sys
from contextlib import AbstractContextManager, nullcontext
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


class Publisher:
    """Publishes from any thread of any child, on connections of its own that never wait for long.

    There are no confirms: on a network that has gone silent, they would be waited for without end.
    """

    def __init__(self, app: Celery, tries: int = TRIES) -> None:
        self._app = app
        self._tries = tries
        self._channels = PerThread(self._open)

    def publish(self, body: str | bytes, exchange: str, routing_key: str, **message: Any) -> None:
        """Send a message, made as amqp's `prepare_message` makes it. Raises what the last try raised."""
        for left in reversed(range(self._tries)):
            try:
                self._publish(body, exchange, routing_key, message)
            except Exception:
                self._channels.drop()
                if not left:
                    raise
            except BaseException:  # a limit struck amid a frame: nobody may write after it
                self._channels.drop()
                raise
            else:
                return

    def _publish(self, body: str | bytes, exchange: str, routing_key: str, message: dict[str, Any]) -> None:
        channel = self._channels.get()
        try:
            _hear(channel.connection)
        except Exception:  # noqa: BLE001  # however it ended, this is no try: nothing was sent
            self._channels.drop()
            channel = self._channels.get()
        prepared = channel.prepare_message(body, **message)
        with _limit():
            channel.basic_publish(prepared, exchange=exchange, routing_key=routing_key)

    def _open(self) -> Any:
        connection: Connection = self._app.connection_for_write(connect_timeout=TIMEOUT, heartbeat=0).clone(
            transport_options={"read_timeout": TIMEOUT, "write_timeout": TIMEOUT}
        )
        with _limit():
            # `channel` alone would sleep two seconds and connect again
            return connection.ensure_connection(max_retries=0, reraise_as_library_errors=False).channel()


def _hear(connection: Any) -> None:
    """Raise if the broker has closed a connection, which nobody reads otherwise."""
    readable = select.poll()
    readable.register(connection.sock, select.POLLIN)
    if readable.poll(0):
        connection.drain_events(timeout=TIMEOUT)


def _limit() -> AbstractContextManager[Any]:
    """Keep TIMEOUT under gevent too, whose sockets do not heed the timeouts that amqp sets in the kernel."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("socket"):
        return nullcontext()
    limit: AbstractContextManager[Any] = sys.modules["gevent"].Timeout(
        TIMEOUT, TimeoutError(f"the broker said nothing for {TIMEOUT:g} s")
    )
    return limit


class Replies:
    """Pushes results to the callers that wait.

    The result is in the database before, so a push that fails costs the caller time, not the result:
    it is counted, logged, and never raised.
    """

    def __init__(self, app: Celery) -> None:
        self._publisher = Publisher(app)

    def push(self, reply_to: str, correlation_id: str, body: str) -> None:
        """Send a result, a JSON text, to a reply queue."""
        try:
            self._publisher.publish(
                body,
                exchange="",
                routing_key=reply_to,
                content_type="application/json",
                content_encoding="utf-8",
                properties={"correlation_id": correlation_id, "delivery_mode": 1},
            )
        except Exception as error:  # noqa: BLE001  # whatever it is, the task has succeeded
            failed.add()
            log.warning("reply of task %s was not pushed: %r", correlation_id, error)
        else:
            pushed.add()
