"""What all handlers share: reading the body within bounds, errors, metrics, the access log."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler, stream_request_body

from gateway.problems import (
    CONTENT_TYPE,
    INTERNAL,
    METHOD_NOT_ALLOWED,
    NOT_JSON,
    TOO_LARGE,
    Problem,
    problem_of,
)

if TYPE_CHECKING:
    from gateway.app import Gateway

CLIENT_CLOSED = 499  # in metrics and logs: the client left before the answer
# A client that still sends when the connection closes never sees the answer: so much is read for nothing.
_DISCARD_BYTES = 64 * 1024 * 1024

access = logging.getLogger("gateway.access")


@stream_request_body
class Handler(RequestHandler):
    """A handler of the gateway. `route` is its path with `{names}`, and the label of its metrics."""

    route: ClassVar[str] = "unmatched"
    takes_tasks: ClassVar[bool] = False  # its refusals are counted as rejected tasks

    request: HTTPServerRequest
    _task: "asyncio.Future[Any] | None" = None  # ends if the client leaves
    _accounted = False

    @property
    def gateway(self) -> "Gateway":
        """The parts that all requests share."""
        gateway: Gateway = self.settings["gateway"]
        return gateway

    @classmethod
    def methods(cls) -> list[str]:
        """The methods that the resource has."""
        return [
            method
            for method in cls.SUPPORTED_METHODS
            if getattr(cls, method.lower()) is not getattr(RequestHandler, method.lower())
        ]

    def initialize(self) -> None:
        """Count the request in."""
        self._chunks = bytearray()
        self._received = 0
        self.gateway.begin()

    def set_default_headers(self) -> None:
        """Headers of every answer, errors included."""
        self.clear_header("Server")
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        if self.gateway.stopping:
            self.set_header("Connection", "close")

    def compute_etag(self) -> str | None:
        """Compute no ETag: answers are not cached."""
        return None

    def decode_argument(self, value: bytes, name: str | None = None) -> str:  # noqa: ARG002  # Tornado's signature
        """Decode a part of the URL; what is not UTF-8 names nothing that exists."""
        return value.decode("utf-8", "replace")

    def prepare(self) -> None:
        """Refuse at once a body that is too large and not sent yet, or far too large."""
        self._task = asyncio.current_task()
        announced = self.request.headers.get("Content-Length", "")
        # what is no number, Tornado refuses
        length = int(announced) if announced.isdecimal() and len(announced) < 20 else 0
        unsent = self.request.headers.get("Expect", "").lower() == "100-continue"
        if length > (self.gateway.settings.max_body_bytes if unsent else _DISCARD_BYTES):
            raise self._too_large()

    def data_received(self, chunk: bytes) -> None:
        """Keep a piece of the body, or throw it away if there is too much of it."""
        self._received += len(chunk)
        if self._received <= self.gateway.settings.max_body_bytes:
            self._chunks += chunk
        elif self._received > _DISCARD_BYTES:
            self.answer_problem(self._too_large())

    def json_body(self) -> bytes:
        """The body, which must be JSON by its header if there is one; raises Problem (413, 415)."""
        if self._received > self.gateway.settings.max_body_bytes:
            raise self._too_large()
        media_type = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        encoding = self.request.headers.get("Content-Encoding", "identity")
        if self._chunks and (media_type != "application/json" or encoding != "identity"):
            raise Problem(
                NOT_JSON,
                "Send `Content-Type: application/json`, not compressed.",
                headers={"Accept": "application/json"},
            )
        return bytes(self._chunks)

    def owner(self) -> str:
        """Whose request it is; raises Problem (401)."""
        return self.gateway.keys.owner(self.request.headers)

    def answer(self, body: Any, status: int = 200) -> None:
        """Answer with JSON."""
        self.set_status(status)
        self.finish(msgspec.json.encode(body))

    def answer_problem(self, problem: Problem) -> None:
        """Answer with a problem and count what it keeps out."""
        self.set_status(problem.kind.status)
        self.set_header("Content-Type", CONTENT_TYPE)
        for name, value in problem.headers.items():
            self.set_header(name, value)
        if self.takes_tasks and problem.kind.rejects:
            self.gateway.metrics.rejected.labels(problem.kind.rejects).inc()
        self.finish(problem.body())

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Tell the client what a handler raised, be it a Problem or not."""
        if status_code == METHOD_NOT_ALLOWED.status:
            self.answer_problem(Problem(METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(self.methods())}))
        else:
            self.answer_problem(problem_of(kwargs.get("exc_info", (None, None))[1]))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log and count what nobody foresaw; a foreseen problem is in the access log."""
        if problem_of(value).kind is INTERNAL:
            self.gateway.metrics.internal_errors.inc()
            super().log_exception(typ, value, tb)

    def on_finish(self) -> None:
        """Count the request out."""
        self._account(self.get_status())

    def on_connection_close(self) -> None:
        """End the work for a client that has left: its wait frees its place."""
        super().on_connection_close()
        self._account(CLIENT_CLOSED)
        if self._task is not None:
            self._task.cancel()

    def _too_large(self) -> Problem:
        return Problem(TOO_LARGE, f"At most {self.gateway.settings.max_body_bytes} bytes are taken.")

    def _account(self, code: int) -> None:
        if self._accounted:
            return
        self._accounted = True
        method = self.request.method if self.request.method in self.SUPPORTED_METHODS else "other"
        seconds = self.request.request_time()
        self.gateway.end()
        self.gateway.metrics.answered(method or "", self.route, code, seconds)
        fields = {
            "method": method,
            "path": self.request.path,
            "code": code,
            "seconds": round(seconds, 6),
            "client": self.request.remote_ip,
        }
        access.info("request", extra={"fields": fields})
