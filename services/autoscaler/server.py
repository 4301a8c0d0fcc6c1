"""The HTTP port: is it well, is it ready, its metrics, and why it did what it did."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from tornado.web import Application, RequestHandler

from autoscaler.loop import Loop, summary
from autoscaler.metrics import Tick

Page = tuple[int, str, bytes]  # status, content type, body


def application(loop: Loop) -> Application:
    """Make the web application that shows one loop."""
    pages: Mapping[str, Callable[[Loop], Page]] = {
        "/healthz": health,
        "/readyz": readiness,
        "/metrics": metrics,
        "/explain": explain,
    }
    # Probes and scrapes are all there is: a log of requests would only hide the decisions.
    return Application(
        [(path, _Handler, {"page": page, "loop": loop}) for path, page in pages.items()],
        log_function=lambda _: None,
    )


def health(loop: Loop) -> Page:
    """Alive. A refused configuration is told, but is no reason to be restarted: the old one works on."""
    return _json({"status": "ok", "configProblem": loop.file.problem})


def readiness(loop: Loop) -> Page:
    """Ready once there was a decision, or another autoscaler decides."""
    ready = bool(loop.latest) if loop.leading else bool(loop.leader)
    return _json({"ready": ready, "problems": loop.unseen}, 200 if ready else 503)


def metrics(loop: Loop) -> Page:
    """All metrics, for Prometheus."""
    return 200, CONTENT_TYPE_LATEST, generate_latest(loop.metrics.registry)


def explain(loop: Loop) -> Page:
    """Tell of each pool its inputs, the arithmetic, and its decisions, newest first, without repeats."""
    return _json(
        {
            "config": {"file": str(loop.file.path), "problem": loop.file.problem},
            "mode": loop.mode,
            "leading": loop.leading,
            "leader": loop.leader or None,
            "unseen": loop.unseen,
            "pools": {
                name: _pool(tick) | {"decisions": [_decision(*one) for one in reversed(loop.changes[name])]}
                for name, tick in loop.latest.items()
            },
        }
    )


def _pool(tick: Tick) -> dict[str, Any]:
    observation = tick.estimate.observation
    fleet = observation.fleet
    return {
        "settings": tick.scale,
        "inputs": [
            {"queue": s.queue, "signal": s.name, "value": s.value, "ageSeconds": round(s.age_seconds, 3)}
            for s in observation.signals
        ],
        "inputProblem": observation.detail or None,
        "flows": [  # a number that is not known is null
            {
                "queue": f.queue,
                "source": f.source,
                "ended": f.ended,
                "arrived": f.arrived,
                "busySeconds": f.busy_seconds,
            }
            for f in observation.flows
        ],
        "terms": tick.estimate.terms,
        "unclamped": tick.estimate.workers,
        "current": len(fleet.workers),
        "wanted": fleet.wanted,
        "draining": len(fleet.draining),
        "ready": fleet.ready,
        "slots": fleet.slots,
        "workers": [
            {
                "name": w.name,
                "ready": w.ready,
                "active": w.active,
                "reserved": w.reserved,
                "drainingSeconds": w.draining_seconds,
            }
            for w in fleet.workers
        ],
        "last": _decision(tick.at, summary(tick)),
    }


def _decision(at: float, told: Mapping[str, object]) -> dict[str, object]:
    return {"at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"), **told}


def _json(body: object, status: int = 200) -> Page:
    return status, "application/json", msgspec.json.encode(body)


class _Handler(RequestHandler):
    def initialize(self, page: Callable[[Loop], Page], loop: Loop) -> None:
        self._page = page
        self._loop = loop

    def get(self) -> None:
        status, kind, body = self._page(self._loop)
        self.set_status(status)
        self.set_header("Content-Type", kind)
        self.finish(body)
