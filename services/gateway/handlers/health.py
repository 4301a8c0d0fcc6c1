"""What Kubernetes and Prometheus ask, and what answers for paths that do not exist."""

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gateway.handlers.base import Handler
from gateway.operations import DatabaseUnavailable
from gateway.problems import NOT_FOUND, Problem


class Alive(Handler):
    """`GET /healthz`: the process answers; it asks nobody else."""

    route = "/healthz"

    async def get(self) -> None:
        """200."""
        self.answer({"alive": True})


class Ready(Handler):
    """`GET /readyz`: broker and database can be reached; else 503 that tells which one cannot."""

    route = "/readyz"

    async def get(self) -> None:
        """200 or 503 with `{"ready", "broker", "database", "stopping"}`."""
        try:
            await self.gateway.operations.ping()
            database = True
        except DatabaseUnavailable:
            database = False
        broker, stopping = self.gateway.link.connected, self.gateway.stopping
        ready = broker and database and not stopping
        parts = {"ready": ready, "broker": broker, "database": database, "stopping": stopping}
        self.answer(parts, 200 if ready else 503)


class ForPrometheus(Handler):
    """`GET /metrics`."""

    route = "/metrics"

    async def get(self) -> None:
        """The text format of Prometheus."""
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.gateway.metrics.registry))


class Unmatched(Handler):
    """Whatever no other handler answers."""

    async def get(self) -> None:
        """404."""
        raise Problem(NOT_FOUND, "There is nothing at this path.")

    head = post = put = patch = delete = options = get
