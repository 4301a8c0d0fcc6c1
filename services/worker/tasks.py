"""The example tasks. Each takes and returns plain JSON, and writes the ledger."""

import time
from typing import Any

from pymysql import InterfaceError, OperationalError
from pymysql.cursors import DictCursor

from celerykit.database import Connections
from worker.celery import app
from worker.ledger import recorded

# the ledger is in the database, too: whoever needs that while it is away tries again
TRIES_AGAIN: dict[str, Any] = {
    "autoretry_for": (InterfaceError, OperationalError),
    "max_retries": 60,
    "retry_backoff": 1,
    "retry_backoff_max": 10,
}

_connections = Connections(app.celerykit.settings.database_url)


@app.task(name="task.query_users", bind=True, **TRIES_AGAIN)
@recorded
def query_users(self: Any, flag: int, delay: float = 0) -> list[dict[str, Any]]:
    """Rows of the table `users` with this flag; the database takes `delay` seconds over it."""
    with _connections.get().cursor(DictCursor) as cursor:
        cursor.execute("SELECT SLEEP(%s)", (delay,))
        cursor.execute("SELECT id, name, flag FROM users WHERE flag = %s ORDER BY id", (flag,))
        return list(cursor.fetchall())


@app.task(name="task.echo", bind=True, **TRIES_AGAIN)
@recorded
def echo(self: Any, value: Any = None) -> Any:
    """The value itself."""
    return value


@app.task(name="task.sleep", bind=True, **TRIES_AGAIN)
@recorded
def sleep(self: Any, seconds: float) -> float:
    """Wait, as a task does that waits for something else."""
    time.sleep(seconds)
    return seconds


@app.task(name="task.cpu", bind=True, **TRIES_AGAIN)
@recorded
def cpu(self: Any, seconds: float) -> int:
    """Keep a core busy; returns the rounds it made."""
    rounds, end = 0, time.process_time() + seconds
    while time.process_time() < end:
        rounds += 1
    return rounds


@app.task(name="task.fail", bind=True, **TRIES_AGAIN)
@recorded
def fail(self: Any, message: str = "as asked") -> None:
    """Raise ValueError with this message."""
    raise ValueError(message)
