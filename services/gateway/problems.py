"""Errors as the client sees them: problem details of RFC 9457, `application/problem+json`."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from tornado.web import HTTPError

from celerykit.link import LinkError, NoQueue, NotFinished, Saturated, Unsendable
from gateway.operations import DatabaseUnavailable

CONTENT_TYPE = "application/problem+json"


class Kind(NamedTuple):
    """A sort of problem; `rejects` is the reason under which a task that it keeps out is counted."""

    name: str
    status: int
    title: str
    rejects: str = ""

    @property
    def type(self) -> str:
        """The URI reference that names the sort."""
        return f"/problems/{self.name}" if self.name else "about:blank"


BAD_JSON = Kind("bad-json", 400, "The body is not JSON", "schema")
UNAUTHORIZED = Kind("unauthorized", 401, "A valid API key is needed", "auth")
NOT_ALLOWED = Kind("task-not-allowed", 403, "The task may not be called", "auth")
NOT_FOUND = Kind("not-found", 404, "No such resource")
UNKNOWN_TASK = Kind("unknown-task", 404, "No such task", "unknown")
UNKNOWN_OPERATION = Kind("unknown-operation", 404, "No such operation")
METHOD_NOT_ALLOWED = Kind("method-not-allowed", 405, "The resource has no such method")
TOO_LARGE = Kind("body-too-large", 413, "The body is too large", "size")
NOT_JSON = Kind("not-json", 415, "The body must be application/json", "schema")
INVALID = Kind("invalid-request", 422, "The request has a wrong shape", "schema")
INTERNAL = Kind("internal-error", 500, "The gateway failed")
TASK_FAILED = Kind("task-failed", 500, "The task failed")
TASK_REVOKED = Kind("task-revoked", 500, "The task was revoked, or expired before it ran")
BROKER_UNAVAILABLE = Kind("broker-unavailable", 503, "The broker cannot take the task", "unavailable")
DATABASE_UNAVAILABLE = Kind("database-unavailable", 503, "The database does not answer", "unavailable")
NO_QUEUE = Kind("no-queue", 503, "The task's queue does not exist", "unavailable")
BUSY = Kind("threads-busy", 503, "All threads are busy")
SATURATED = Kind("saturated", 503, "Too many requests wait for tasks", "backpressure")
UNFINISHED = Kind("task-not-finished", 504, "The task did not end in time")

REJECTS = frozenset(kind.rejects for kind in list(globals().values()) if isinstance(kind, Kind)) - {""}


class Problem(HTTPError):
    """An error that is told to the client; `members` are added to the standard ones."""

    def __init__(
        self, kind: Kind, detail: str = "", *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(kind.status)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def body(self) -> bytes:
        """The problem as JSON: `{"type", "title", "status", "detail", ...}`."""
        standard = {"type": self.kind.type, "title": self.kind.title, "status": self.kind.status}
        detail = {"detail": self.detail} if self.detail else {}
        return msgspec.json.encode(standard | detail | self.members)


def problem_of(error: BaseException | None) -> Problem:
    """Whatever a handler raised, as what the client is told; an unforeseen error tells nothing."""
    match error:
        case Problem():
            return error
        case NoQueue():
            return Problem(
                NO_QUEUE, "No worker has declared it yet; nothing was run.", headers=retry_after(5)
            )
        case Saturated():
            return Problem(SATURATED, "Retry, or ask for `Prefer: respond-async`.", headers=retry_after(1))
        case NotFinished():
            return Problem(UNFINISHED, "It may still run.", id=error.task_id)
        case Unsendable():  # by the catalogue or the settings: what a client sent is told by its field
            return Problem(INTERNAL)
        case LinkError():
            return Problem(
                BROKER_UNAVAILABLE,
                "The broker did not confirm the task in time. It may run all the same.",
                headers=retry_after(5),
            )
        case DatabaseUnavailable():
            return Problem(DATABASE_UNAVAILABLE, headers=retry_after(5))
        case HTTPError():
            phrase = HTTPStatus(error.status_code).phrase
            return Problem(Kind("", error.status_code, phrase))
        case _:
            return Problem(INTERNAL)


def retry_after(seconds: int) -> dict[str, str]:
    """The header that says when to come again."""
    return {"Retry-After": str(seconds)}
