"""The rows of `celerykit_operation`: what was accepted for whom, before a 202 says so."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pymysql

from celerykit.results import Database
from celerykit.waits import REVOKING

log = logging.getLogger(__name__)

_COLUMNS = "id, task, queue, owner, accepted_at, expires_at"
_PURGE_ROWS = 10_000


class DatabaseUnavailable(Exception):
    """The database refused, or did not answer in time."""


@asynccontextmanager
async def database_errors(seconds: float) -> AsyncIterator[None]:
    """Raise DatabaseUnavailable for whatever the database fails with, a silence of `seconds` included."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except (pymysql.MySQLError, OSError) as error:
        log.warning("database: %r", error.__cause__ or error)  # aiomysql says why in the cause
        raise DatabaseUnavailable from error


class Operation(msgspec.Struct, frozen=True):
    """A task that was accepted; times are unix seconds."""

    id: str
    task: str
    queue: str
    owner: str
    accepted_at: float
    expires_at: float


class OperationStore:
    """The operations in the database; methods raise DatabaseUnavailable within `timeout` seconds."""

    def __init__(self, database: Database, *, timeout: float = 5) -> None:
        self._database = database
        self._timeout = timeout

    async def insert(self, operation: Operation) -> None:
        """Write a row."""
        await self._execute(
            f"INSERT INTO celerykit_operation ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s)",  # noqa: S608
            *msgspec.structs.astuple(operation),
        )

    async def get(self, operation_id: str) -> Operation | None:
        """Read a row; None if there is none or it has expired."""
        rows = await self._execute(
            f"SELECT {_COLUMNS} FROM celerykit_operation WHERE id = %s AND expires_at > %s",  # noqa: S608
            operation_id,
            time.time(),
        )
        return Operation(*rows[0]) if rows else None

    async def delete(self, operation_id: str) -> None:
        """Remove a row."""
        await self._execute("DELETE FROM celerykit_operation WHERE id = %s", operation_id)

    async def purge(self) -> None:
        """Remove expired rows, so many at a time that no lock is held for long."""
        now = time.time()
        # who revoked it may not ask any more, so no worker needs to know
        await self._execute(
            "DELETE FROM celery_taskmeta WHERE date_done IS NULL AND status = %s AND EXISTS"
            " (SELECT 1 FROM celerykit_operation WHERE id = task_id AND expires_at <= %s)",
            REVOKING,
            now,
        )
        await self._execute(
            f"DELETE FROM celerykit_operation WHERE expires_at <= %s LIMIT {_PURGE_ROWS}",  # noqa: S608
            now,
        )

    async def ping(self) -> None:
        """Make sure that the table can be read."""
        await self._execute("SELECT id FROM celerykit_operation LIMIT 1")

    async def _execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        async with database_errors(self._timeout):
            return await self._database.execute(statement, values)
