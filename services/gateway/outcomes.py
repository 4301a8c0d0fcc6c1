"""How a task ended, in the words of the HTTP API."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from celerykit.link import Outcome
from celerykit.waits import ENDED
from gateway.operations import Operation
from gateway.payload import plain
from gateway.problems import TASK_FAILED, TASK_REVOKED, Kind, Problem


def ended(outcome: Outcome | None) -> bool:
    """Whether the task will change no more."""
    return outcome is not None and outcome.state in ENDED


def described(
    task_id: str, operation: Operation | None, outcome: Outcome | None, *, traceback: bool = False
) -> dict[str, Any]:
    """An operation: `{"id", "task", "state", "done", "acceptedAt", "result" | "error"}`.

    Without a row, as of a task that was waited for, the task's name and the time are null.
    """
    accepted = operation and datetime.fromtimestamp(operation.accepted_at, UTC).isoformat()
    body: dict[str, Any] = {
        "id": task_id,
        "task": operation and operation.task,
        "state": outcome.state if outcome else "PENDING",
        "done": ended(outcome),
        "acceptedAt": accepted,
    }
    if outcome is None or not ended(outcome):
        return body
    if outcome.state == "SUCCESS":
        return body | {"result": plain(outcome.result)}
    kind = _kind(outcome)
    return body | {"error": {"type": kind.type, "title": kind.title, **error(outcome, traceback=traceback)}}


def error(outcome: Outcome, *, traceback: bool = False) -> dict[str, Any]:
    """Why a task failed: `{"exc_type", "message"}`, and the `traceback` if it is wanted."""
    result = outcome.result if isinstance(outcome.result, dict) else {}
    words = result.get("exc_message", "")
    message = ", ".join(map(str, words)) if isinstance(words, list) else str(words)
    told = {"exc_type": result.get("exc_type"), "message": message}
    return told | {"traceback": outcome.traceback} if traceback else told


def problem_with(
    outcome: Outcome, *, traceback: bool = False, headers: Mapping[str, str] | None = None
) -> Problem:
    """The problem for those who waited for a task that failed."""
    told = error(outcome, traceback=traceback)
    return Problem(_kind(outcome), headers=headers, id=outcome.task_id, state=outcome.state, **told)


def _kind(outcome: Outcome) -> Kind:
    return TASK_REVOKED if outcome.state == "REVOKED" else TASK_FAILED
