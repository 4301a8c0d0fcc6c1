"""Results and other rows, read from the database without blocking."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiomysql
import pymysql
from pymysql.constants import CLIENT, CR

from celerykit.backend import UPSERT
from celerykit.database import parse
from celerykit.waits import ENDED, REVOKING, Outcome

BATCH = 500  # ids in one query

# no worker but the one that has the message touches a state of our own; without a date, as of all that
# has not ended, the rows are few and found by its index (revocations.py)
REVOKE = f"""
INSERT INTO celery_taskmeta (task_id, status) VALUES (%s, '{REVOKING}')
ON DUPLICATE KEY UPDATE status = IF(status IN {tuple(sorted(ENDED))}, status, '{REVOKING}')
"""

log = logging.getLogger(__name__)


class _Connection(aiomysql.Connection):
    """Refuses a server without TLS where TLS is asked for; aiomysql would go on in plain text."""

    async def _request_authentication(self) -> None:
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise pymysql.OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server offers no TLS")
        await super()._request_authentication()


aiomysql.connection.Connection = _Connection  # the pool can be told of it in no other way


class Database:
    """A pool of connections that is made on first use, so that a program starts without a database."""

    def __init__(self, url: str, *, size: int = 5, timeout: float = 5) -> None:
        options = parse(url)
        options["db"] = options.pop("database")  # aiomysql's word
        # the server gives up on a lock before we do, or it would still run a statement that we gave up
        patience = max(1, int(timeout / 2))
        self._options = options | {
            "minsize": 0,
            "maxsize": size,
            "connect_timeout": timeout,
            "pool_recycle": 600,
            "init_command": f"SET innodb_lock_wait_timeout = {patience}, lock_wait_timeout = {patience}",
        }
        self._timeout = timeout
        self._pool: Any = None

    async def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement; returns its rows.

        Raises pymysql.MySQLError or OSError, TimeoutError among them for a database that is silent.
        """
        async with asyncio.timeout(self._timeout), self._connection() as connection:
            cursor = await connection.cursor()
            await cursor.execute(statement, tuple(values))
            return list(await cursor.fetchall())

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        if self._pool is None:
            self._pool = await aiomysql.create_pool(**self._options)
        async with asyncio.timeout(self._timeout / 2):  # the other half is for locks
            connection = await self._pool.acquire()
        try:
            yield connection
        finally:
            await self._pool.release(connection)

    async def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            self._pool.terminate()
            await self._pool.wait_closed()
            self._pool = None


class ResultStore:
    """The table of results."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fetch(self, task_ids: Collection[str]) -> dict[str, Outcome]:
        """The outcomes, by task id, of those tasks that have one, finished or not."""
        found: dict[str, Outcome] = {}
        ids = list(task_ids)
        for start in range(0, len(ids), BATCH):
            batch = ids[start : start + BATCH]
            marks = ", ".join(["%s"] * len(batch))
            rows = await self._database.execute(
                "SELECT task_id, status, result, traceback, date_done FROM celery_taskmeta"
                f" WHERE task_id IN ({marks})",
                batch,
            )
            for task_id, state, result, traceback, done in rows:
                date = done.isoformat() + "+00:00" if done else None
                found[task_id] = Outcome(task_id, state, decode(result), traceback, date)
        return found

    async def store(self, outcome: Outcome) -> None:
        """Write what a worker did not write itself, as done now."""
        await self._database.execute(
            UPSERT,
            (
                outcome.task_id,
                outcome.state,
                json.dumps(outcome.result),  # ASCII; aiomysql breaks on bytes
                outcome.traceback,
                None,
                datetime.now(UTC).replace(tzinfo=None),
            ),
        )

    async def revoke(self, task_id: str) -> None:
        """Note that a task shall not run, for workers that start later, too; what has ended stays."""
        await self._database.execute(REVOKE, [task_id])


def decode(result: bytes | None) -> Any:
    """The JSON of a result column; what is not JSON, a pickle of old for one, is told as its size."""
    if result is None:
        return None
    try:
        return json.loads(result)
    except ValueError:
        return f"<{len(result)} bytes that are not JSON>"
