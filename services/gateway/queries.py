"""The article's query without Celery: PyMySQL in whichever thread asks. It is here to be compared with."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymysql
from pymysql.cursors import DictCursor
from tornado.concurrent import run_on_executor

from celerykit.database import Connections
from gateway.operations import DatabaseUnavailable
from gateway.problems import BUSY, Problem, retry_after


class Queries:
    """Rows of the table `users`, read by the thread that asks or by one of a few."""

    def __init__(self, database_url: str, threads: int) -> None:
        self._connections = Connections(database_url)
        self._free = threading.BoundedSemaphore(threads)
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix="example")

    def rows(self, flag: int, delay: float) -> list[dict[str, Any]]:
        """Block for `delay` seconds and longer; raises DatabaseUnavailable."""
        try:
            with self._connections.get().cursor(DictCursor) as cursor:
                cursor.execute("SELECT SLEEP(%s)", (delay,))
                cursor.execute("SELECT id, name, flag FROM users WHERE flag = %s ORDER BY id", (flag,))
                return list(cursor.fetchall())
        except (pymysql.MySQLError, OSError) as error:
            raise DatabaseUnavailable from error

    async def rows_by_thread(self, flag: int, delay: float) -> list[dict[str, Any]]:
        """The same without blocking; raises Problem (503) if no thread is free: nobody queues for one."""
        if not self._free.acquire(blocking=False):
            raise Problem(BUSY, "Each query takes one for all of its time.", headers=retry_after(1))
        rows: list[dict[str, Any]] = await self._in_thread(flag, delay)
        return rows

    def close(self) -> None:
        """Take no more; queries that run end by themselves."""
        self.executor.shutdown(wait=False)

    @run_on_executor
    def _in_thread(self, flag: int, delay: float) -> list[dict[str, Any]]:
        try:
            return self.rows(flag, delay)
        finally:
            self._free.release()  # by the thread: a client that leaves frees none
