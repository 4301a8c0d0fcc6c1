"""The result backend: one row in MySQL, then a push of the same result to the caller that waits."""

import logging
from datetime import datetime
from functools import partial
from typing import Any

import pymysql
from celery import states
from celery.backends.base import BaseBackend
from celery.exceptions import BackendStoreError, Reject
from kombu.exceptions import EncodeError
from kombu.utils.url import maybe_sanitize_url
from pymysql.constants import ER
from pymysql.cursors import Cursor

from celerykit.database import connect
from celerykit.per_thread import PerThread
from celerykit.reply import PREFIX, Replies
from celerykit.waits import ENDED

log = logging.getLogger(__name__)

STORE = "x-gw-store"  # header: "no" asks for the reply alone

# one text for MySQL and MariaDB: `VALUES()` goes from the one, the alias of a row is not in the other.
# A success stays: a second run of the same task must not replace it.
UPSERT = """
INSERT INTO celery_taskmeta (task_id, status, result, traceback, children, date_done)
SELECT * FROM (
    SELECT %s AS task_id, %s AS status, %s AS result, %s AS traceback, %s AS children, %s AS date_done
) AS new
ON DUPLICATE KEY UPDATE
    result = IF(celery_taskmeta.status = 'SUCCESS', celery_taskmeta.result, new.result),
    traceback = IF(celery_taskmeta.status = 'SUCCESS', celery_taskmeta.traceback, new.traceback),
    children = IF(celery_taskmeta.status = 'SUCCESS', celery_taskmeta.children, new.children),
    date_done = IF(celery_taskmeta.status = 'SUCCESS', celery_taskmeta.date_done, new.date_done),
    status = IF(
        celery_taskmeta.status = 'SUCCESS'
        OR celery_taskmeta.status = 'REVOKING' AND new.status IN ('RETRY', 'STARTED'),
        celery_taskmeta.status, new.status
    )
"""

SURELY_TAKEN = 2**20  # characters of a statement: below it nobody need ask how much the server takes
SHORT = 1000  # characters left of each text of a failure that is too large for the database
MAIN_LOOP_TRIES = 3  # of the worker's own loop, which has more to do than to wait for a database


class Backend(BaseBackend):
    """Celery's backend interface on PyMySQL: one round trip a result, a connection for each thread.

    Celery's own DatabaseBackend takes about five, holds 64 KB, and opens a connection for each result
    in a thread pool.
    """

    persistent = True

    def __init__(self, app: Any, url: str, **kwargs: Any) -> None:
        super().__init__(app=app, url=url, **kwargs)
        self._connections = PerThread(lambda: connect(url))
        self._replies = Replies(app)

    def as_uri(self, include_password: bool = False) -> str:
        """The URL of the database."""
        return self.url if include_password else str(maybe_sanitize_url(self.url))

    def store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: str | None = None,
        request: Any = None,
        **_: Any,
    ) -> Any:
        """Write the row, then push it if its caller waits; returns the encoded result."""
        encoded = self.encode_result(result, state)
        meta = self._get_result_meta(encoded, state, traceback, request)
        meta["task_id"] = task_id
        if _header(request, STORE) != "no":
            self._store(meta)
        reply_to = getattr(request, "reply_to", None) or ""
        if reply_to.startswith(PREFIX):
            self._replies.push(
                reply_to, getattr(request, "correlation_id", None) or task_id, self.encode(meta)
            )
        return encoded

    def _store(self, meta: dict[str, Any]) -> None:
        """Write the row, for minutes if need be; a result is never lost.

        If it cannot be written where the task ran, its message goes back to the queue, to be run again and
        at last to the dead letters. Celery itself would acknowledge it. A result that the database will never
        take makes the task a failure that says so, and such a failure is cut short.
        """
        running = self.app.current_worker_task is not None
        tries = None if running else MAIN_LOOP_TRIES
        try:
            try:
                self._write_patiently(meta, tries)
            except pymysql.MySQLError as error:
                if meta["status"] != states.FAILURE or self.exception_safe_to_retry(error):
                    raise
                log.warning("the failure of task %s is cut short: %r", meta["task_id"], error)
                _cut_short(meta, error)
                self._write_patiently(meta, tries)
        except (BackendStoreError, pymysql.MySQLError) as error:
            if not running:
                raise
            if meta["status"] == states.SUCCESS and isinstance(error, pymysql.MySQLError):
                raise EncodeError(f"the result cannot be stored: {error.args[-1]}") from error
            if meta["status"] not in ENDED:  # it goes on, and has a row when it ends
                log.warning("state %s of task %s is not written: %r", meta["status"], meta["task_id"], error)
                return
            log.error(
                "task %s goes back to its queue, its result cannot be written: %r", meta["task_id"], error
            )
            raise Reject(str(error), requeue=True) from error

    def _write_patiently(self, meta: dict[str, Any], tries: int | None) -> None:
        self._ensure_retryable(
            self._write,
            meta,
            max_retries=tries,
            fallback_exc=partial(BackendStoreError, state=meta["status"], task_id=meta["task_id"]),
            fallback_msg="the result could not be written to the database",
        )

    def _write(self, meta: dict[str, Any]) -> None:
        done = meta["date_done"]
        self._execute(
            UPSERT,
            (
                meta["task_id"],
                meta["status"],
                self.encode(meta["result"]),  # as text: PyMySQL sends two digits for each byte
                meta["traceback"],
                self.encode(meta["children"]) if meta["children"] else None,
                datetime.fromisoformat(done).replace(tzinfo=None) if done else None,
            ),
        )

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        rows = self._execute(
            "SELECT status, result, traceback, children, date_done FROM celery_taskmeta WHERE task_id = %s",
            (task_id,),
        )
        if not rows:
            return {"status": states.PENDING, "result": None, "task_id": task_id}
        status, result, traceback, children, done = rows[0]
        meta = {
            "task_id": task_id,
            "status": status,
            "result": self.decode(result),
            "traceback": traceback,
            "children": self.decode(children),
            "date_done": done.isoformat() if done else None,
        }
        return dict(self.meta_from_decoded(meta))

    def _forget(self, task_id: str) -> None:
        self._execute("DELETE FROM celery_taskmeta WHERE task_id = %s", (task_id,))

    def cleanup(self) -> None:
        """Delete the results that are older than `result_expires` (the task celery.backend_cleanup)."""
        if self.expires:
            self._execute(
                "DELETE FROM celery_taskmeta WHERE date_done < UTC_TIMESTAMP(6) - INTERVAL %s SECOND",
                (self.expires,),
            )

    def exception_safe_to_retry(self, exc: BaseException) -> bool:
        """Whether the same statement may succeed later: all but what is wrong with the data."""
        if isinstance(exc, pymysql.DataError | pymysql.IntegrityError):
            return False
        return isinstance(exc, pymysql.MySQLError) and exc.args[:1] != (ER.NET_PACKET_TOO_LARGE,)

    def _execute(self, statement: str, values: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
        try:
            with self._connections.get().cursor() as cursor:
                query = cursor.mogrify(statement, values)
                if len(query) > SURELY_TAKEN:
                    _check_size(cursor, len(query.encode()))
                cursor.execute(query)
                return tuple(cursor.fetchall())
        except pymysql.MySQLError:
            self._connections.drop()
            raise


def _check_size(cursor: Cursor, size: int) -> None:
    """Raise for a statement that is too large: the server itself just closes the connection."""
    cursor.execute("SELECT @@max_allowed_packet")
    ((most,),) = cursor.fetchall()
    if size >= most:
        words = f"a statement of {size} bytes, where max_allowed_packet is {most}"
        raise pymysql.OperationalError(ER.NET_PACKET_TOO_LARGE, words)


def _cut_short(meta: dict[str, Any], error: pymysql.MySQLError) -> None:
    """Leave of a failure its kind, the beginning of its text, and the end of its traceback."""
    text = ", ".join(str(word) for word in meta["result"]["exc_message"])
    why = f"cut short, as the failure cannot be stored: {error.args[-1]}"
    meta["result"] = {**meta["result"], "exc_message": [f"{text[:SHORT]}… ({why})"]}
    meta["traceback"] = meta["traceback"] and meta["traceback"][-SHORT:]
    meta["children"] = None


def _header(request: Any, name: str) -> Any:
    return (getattr(request, "headers", None) or {}).get(name)
