"""The ledger of runs, by which the tests and the demo prove that no task is lost, cut short or run twice."""

import time
import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from celerykit.database import Connections
from worker.celery import app

F = TypeVar("F", bound=Callable[..., Any])

# its own connection: what a task does with its own cannot take the entry back
_connections = Connections(app.celerykit.settings.database_url)


def recorded(run: F) -> F:
    """Note the start of each run of a bound task, and its end if it comes to one, failed or not."""

    @wraps(run)
    def recording(task: Any, *args: Any, **kwargs: Any) -> Any:
        attempt = str(uuid.uuid4())
        _execute(
            "INSERT INTO celerykit_ledger (task_id, attempt_id, worker, started_at) VALUES (%s, %s, %s, %s)",
            (task.request.id, attempt, task.request.hostname, time.time()),
        )
        try:
            result = run(task, *args, **kwargs)
        except Exception:
            _ended(attempt)
            raise
        # anything else, SystemExit above all, cuts the run short: no end is noted
        _ended(attempt)
        return result

    return recording  # type: ignore[return-value]


def _ended(attempt: str) -> None:
    _execute("UPDATE celerykit_ledger SET ended_at = %s WHERE attempt_id = %s", (time.time(), attempt))


def _execute(statement: str, values: tuple[Any, ...]) -> None:
    with _connections.get().cursor() as cursor:
        cursor.execute(statement, values)
