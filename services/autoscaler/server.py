"""The HTTP port: is it well, is it ready, its metrics, and why it did what it did."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from tornado.iostream import StreamClosedError
from tornado.web import Application, RequestHandler

from autoscaler.loop import Loop, decided
from autoscaler.metrics import Tick

# Status, content type, body. What is large comes in parts, of which one is in memory at a time.
Page = tuple[int, str, bytes | Iterable[bytes]]


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
    return 200, CONTENT_TYPE_LATEST, _families(loop.metrics.registry)


def explain(loop: Loop) -> Page:
    """Tell of each pool its inputs, the arithmetic, and its decisions, newest first, without repeats."""
    head = {
        "config": {"file": str(loop.file.path), "problem": loop.file.problem},
        "mode": loop.mode,
        "leading": loop.leading,
        "leader": loop.leader or None,
        "unseen": loop.unseen,
    }
    return 200, "application/json", _explained(head, loop)


def _explained(head: Mapping[str, object], loop: Loop) -> Iterator[bytes]:
    yield msgspec.json.encode(head).removesuffix(b"}") + b',"pools":{'
    for number, (name, tick) in enumerate(list(loop.latest.items())):
        changes = map(msgspec.Raw, reversed(loop.changes.get(name, ())))
        pool = _pool(tick) | {"decisions": list(changes)}
        yield b"," * (number > 0) + msgspec.json.encode(name) + b":" + msgspec.json.encode(pool)
    yield b"}}"


def _families(registry: CollectorRegistry) -> Iterator[bytes]:
    told = set()
    for family in registry.collect():
        text = generate_latest(_One(family))
        # Only its first part says what it is.
        yield text.split(b"\n", 2)[2] if family.name in told else text
        told.add(family.name)


class _One(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return [self._family]


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
        "last": decided(tick),
    }


def _json(body: object, status: int = 200) -> Page:
    return status, "application/json", msgspec.json.encode(body)


class _Handler(RequestHandler):
    def initialize(self, page: Callable[[Loop], Page], loop: Loop) -> None:
        self._page = page
        self._loop = loop

    async def get(self) -> None:
        status, kind, body = self._page(self._loop)
        self.set_status(status)
        self.set_header("Content-Type", kind)
        if isinstance(body, bytes):
            await self.finish(body)
            return
        try:
            for part in body:
                self.write(part)
                await self.flush()
        except StreamClosedError:
            return  # who asked is gone
        except Exception:
            self.detach().close()  # so that half a page is no answer
            raise
        await self.finish()
