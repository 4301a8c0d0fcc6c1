"""The worker's own HTTP port: /livez /readyz /metrics, and /drain /undrain for who has the token."""

import hmac
import json
import logging
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from celery import bootsteps, signals
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from celerykit.presence import Presence

log = logging.getLogger(__name__)


class Port(ThreadingHTTPServer):
    """Answers from threads of the worker's parent process."""

    daemon_threads = True

    def __init__(self, presence: Presence) -> None:
        self.presence = presence
        super().__init__((presence.settings.worker_host, presence.settings.worker_port), Handler)


class Handler(BaseHTTPRequestHandler):
    """One request; a client that stalls is dropped after `timeout` seconds."""

    server: Port
    timeout = 10
    server_version = "celerykit"
    sys_version = ""

    def do_GET(self) -> None:
        """Probes and metrics, open to whoever reaches the port."""
        presence = self.server.presence
        if self.path == "/livez":
            alive = presence.alive()
            self._answer(HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE, {"alive": alive})
        elif self.path == "/readyz":
            report = presence.report()
            # A ReplicaSet ends pods that are not ready first: one that drains is not so before it is empty.
            ok = report["ready"] or presence.ends_tasks()
            self._answer(HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE, report)
        elif self.path == "/metrics":
            self._send(HTTPStatus.OK, generate_latest(), CONTENT_TYPE_LATEST)
        else:
            self._answer(HTTPStatus.NOT_FOUND, {"error": "there are /livez, /readyz and /metrics"})

    def do_POST(self) -> None:
        """Drain and its recall, for the autoscaler."""
        presence = self.server.presence
        if self.path not in ("/drain", "/undrain"):
            self._answer(HTTPStatus.NOT_FOUND, {"error": "there are /drain and /undrain"})
        elif not self._authorized(presence.settings.drain_token):
            self._answer(
                HTTPStatus.UNAUTHORIZED, {"error": "Authorization: Bearer with the drain token is required"}
            )
        elif presence.drain(self.path == "/drain"):
            self._answer(HTTPStatus.OK, presence.report())
        else:
            self._answer(
                HTTPStatus.SERVICE_UNAVAILABLE, presence.report() | {"error": "the worker is not connected"}
            )

    def _authorized(self, token: str) -> bool:
        given = self.headers.get("Authorization", "")
        return bool(token) and hmac.compare_digest(given.encode(), f"Bearer {token}".encode())

    def _answer(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        self._send(status, json.dumps(body).encode() + b"\n", "application/json")

    def _send(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's word
        """Probes come every few seconds: only for debugging."""
        log.debug(format, *args)


class PortStep(bootsteps.StartStopStep):
    """Opens the port after the pool's children were made and before the broker is asked for anything."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, w: Any, **kwargs: Any) -> None:
        self.port: Port | None = None
        self.enabled = w.app.celerykit.settings.worker_port > 0
        super().__init__(w, **kwargs)

    def start(self, w: Any) -> None:
        """Open it, or end the worker with a message that names the setting."""
        settings = w.app.celerykit.settings
        try:
            self.port = Port(w.app.celerykit)
        except OSError as error:
            log.critical(
                "CELERYKIT_WORKER_PORT: cannot open %s:%d: %s",
                settings.worker_host,
                settings.worker_port,
                error.strerror,
            )
            raise SystemExit(2) from None
        signals.worker_process_init.connect(self._close_in_child)
        threading.Thread(target=self.port.serve_forever, name="port", daemon=True).start()

    def stop(self, w: Any) -> None:
        """Keep answering while tasks end: the port closes with the process."""

    def terminate(self, w: Any) -> None:
        """The same."""

    def _close_in_child(self, **_: Any) -> None:
        # a child made later inherits the socket and would hold the port beyond its parent
        if self.port is not None:
            self.port.socket.close()
