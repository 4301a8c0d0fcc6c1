"""A Kubernetes API with one Deployment, the controller behind it, and workers in its pods, all played.

Pods have addresses of their own on the loopback and one port, as pods do.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

DEPLOYMENT, TOKEN, DRAIN_TOKEN = "kit-worker-default", "api-token", "s3cret"
ADDRESSES = (f"127.{a}.{b}.{c}" for a, b, c in itertools.product(range(9, 99), range(250), range(1, 250)))
BORN = "2026-11-23T12:00:00Z"


@dataclass
class FakePod:
    """A pod and the worker in it."""

    name: str
    address: str
    created: str = BORN
    owner: str = "rs-1"
    ready: bool = True  # as the API says
    running: bool = True
    conditions: list[dict[str, str]] = field(default_factory=list)
    waiting: str = ""
    terminating: bool = False
    worker: dict[str, Any] = field(
        default_factory=lambda: {"ready": True, "draining": False, "active": 0, "reserved": 0}
    )
    told: list[str] = field(default_factory=list)
    deaf: bool = False

    @property
    def probed(self) -> bool:
        """What the worker answers to the kubelet."""
        worker = self.worker
        return bool(worker["ready"] or (worker["draining"] and (worker["active"] or worker["reserved"])))

    def json(self) -> dict[str, Any]:
        state = (
            {"running": {}} if self.running else {"waiting": {"reason": self.waiting or "PodInitializing"}}
        )
        ready = {"type": "Ready", "status": str(self.ready)}
        return {
            "metadata": {
                "name": self.name,
                "creationTimestamp": self.created,
                "deletionTimestamp": BORN if self.terminating else None,
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": self.owner}
                    | {"controller": True}
                ],
            },
            "spec": {"containers": []},
            "status": {
                "phase": "Running" if self.running else "Pending",
                "podIP": self.address,
                "conditions": [ready, *self.conditions],
                "containerStatuses": [
                    {"name": "worker", "image": "i", "imageID": "i", "ready": self.ready, "restartCount": 0}
                    | {"state": state}
                ],
            },
        }


class FakeKubernetes:
    """What a test sets, and what was asked for. `faults` are answers by the last words of a path."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.replicas = 1
        self.generation = 1
        self.version = 1
        self.status: dict[str, Any] = {}
        self.pods: dict[str, FakePod] = {}
        self.removed: list[FakePod] = []
        self.leases: dict[str, dict[str, Any]] = {}
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.hpas: list[dict[str, Any]] = []
        self.scaled_objects: list[dict[str, Any]] | None = None
        self.faults: dict[str, int | None] = {}
        self.token = TOKEN
        self.makes_pods = True
        self.answers_patches = True
        self.image = "kit:1"
        self.between: Any = None  # called before a scale is written
        self._servers: list[HTTPServer] = []
        self._names = itertools.count()

    async def settle(self) -> None:
        """Do what the controllers would."""
        active = [pod for pod in self.pods.values() if not pod.terminating]
        too_many = max(0, len(active) - self.replicas)
        for pod in sorted(active, key=lambda pod: (pod.running, pod.ready))[:too_many]:
            self.removed.append(self.pods.pop(pod.name))
        while self.makes_pods and len(self.pods) < self.replicas:
            self.add()

    def add(self, **what: Any) -> FakePod:
        pod = FakePod(f"pod-{next(self._names)}", next(ADDRESSES), **what)
        self.pods[pod.name] = pod
        server = HTTPServer(Application([("/.*", _Worker, {"pod": pod})], log_function=lambda _: None))
        server.listen(self.port, pod.address)
        self._servers.append(server)
        self.version += 1
        return pod

    def readiness(self) -> None:
        """Have the kubelet see what the workers say."""
        for pod in self.pods.values():
            if pod.running and pod.ready != pod.probed:
                pod.ready = pod.probed
                self.version += 1

    def deployment(self) -> dict[str, Any]:
        labels = {"app.kubernetes.io/component": "worker"}
        status = {
            "observedGeneration": self.generation,
            "replicas": len(self.pods),
            "updatedReplicas": len(self.pods),
        }
        return {
            "metadata": self.meta(DEPLOYMENT) | {"generation": self.generation},
            "spec": {
                "replicas": self.replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "worker", "image": self.image}]},
                },
            },
            "status": status | self.status,
        }

    def meta(self, name: str) -> dict[str, Any]:
        return {"name": name, "namespace": "n", "uid": f"uid-{name}", "resourceVersion": str(self.version)}

    async def close(self) -> None:
        for server in self._servers:
            server.stop()
            await server.close_all_connections()


class _Worker(RequestHandler):
    def initialize(self, pod: FakePod) -> None:
        self.pod = pod

    async def get(self) -> None:
        if self.pod.deaf:
            self.set_status(404)
            return
        self.set_status(200 if self.pod.probed else 503)
        self.finish(msgspec.json.encode(self.pod.worker))

    async def post(self) -> None:
        assert self.request.headers["Authorization"] == f"Bearer {DRAIN_TOKEN}"
        self.pod.told.append(self.request.path)
        if not self.pod.deaf:
            drain = self.request.path == "/drain"
            self.pod.worker |= {"draining": drain, "ready": not drain}
        await self.get()


class _Api(RequestHandler):
    def initialize(self, fake: FakeKubernetes) -> None:
        self.fake = fake

    async def prepare(self) -> None:
        if self.request.headers.get("Authorization") != f"Bearer {self.fake.token}":
            return self.refuse(401, "Unauthorized")
        for end, code in self.fake.faults.items():
            if self.request.path.endswith(end):
                if code is None:
                    await asyncio.Event().wait()
                return self.refuse(code or 500, f"fault {code}")
        return None

    def refuse(self, code: int, message: str) -> None:
        self.set_status(code)
        self.tell({"kind": "Status", "apiVersion": "v1", "code": code, "message": message})

    def tell(self, what: dict[str, Any]) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(msgspec.json.encode(what))

    def body(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode(self.request.body)
        return found

    def get(self) -> None:
        fake, path = self.fake, self.request.path
        if path.endswith(f"/deployments/{DEPLOYMENT}"):
            self.tell(fake.deployment())
        elif path.endswith("/scale"):
            self.tell({"metadata": fake.meta(DEPLOYMENT), "spec": {"replicas": fake.replicas}})
        elif path.endswith("/pods"):
            assert self.get_query_argument("labelSelector") == "app.kubernetes.io/component=worker"
            self.tell({"metadata": {}, "items": [pod.json() for pod in fake.pods.values()]})
        elif path.endswith("/horizontalpodautoscalers"):
            self.tell({"metadata": {}, "items": fake.hpas})
        elif path.endswith("/scaledobjects") and fake.scaled_objects is not None:
            self.tell({"metadata": {}, "items": fake.scaled_objects})
        elif lease := fake.leases.get(path.rpartition("/")[2]):
            self.tell(lease)
        else:
            self.refuse(404, "not found")

    async def patch(self) -> None:
        fake, patch = self.fake, self.body()
        assert self.request.path.endswith("/scale")
        assert self.request.headers["Content-Type"] == "application/merge-patch+json"
        if fake.between:
            fake.between()
        if patch["metadata"]["resourceVersion"] != str(fake.version):
            return self.refuse(409, "the object has been modified")
        fake.replicas = patch["spec"]["replicas"]
        fake.version += 1
        await fake.settle()
        if not fake.answers_patches:
            await asyncio.Event().wait()
        return self.tell({"metadata": fake.meta(DEPLOYMENT), "spec": {"replicas": fake.replicas}})

    def post(self) -> None:
        fake, new = self.fake, self.body()
        if self.request.path.endswith("/events"):
            fake.events.put_nowait(new)
            return self.tell(new)
        return self.write_lease(new, None)

    def put(self) -> None:
        new = self.body()
        self.write_lease(new, new["metadata"]["resourceVersion"])

    def write_lease(self, new: dict[str, Any], version: str | None) -> None:
        name = new["metadata"]["name"]
        old = self.fake.leases.get(name)
        if (old["metadata"]["resourceVersion"] if old else None) != version:
            return self.refuse(409, "the lease was changed")
        self.fake.version += 1
        new["metadata"]["resourceVersion"] = str(self.fake.version)
        self.fake.leases[name] = new
        return self.tell(new)


@asynccontextmanager
async def playing(folder: Path) -> AsyncIterator[FakeKubernetes]:
    """Serve on a free port, and write a kubeconfig that leads there."""
    fake = FakeKubernetes()
    socket, port = bind_unused_port()
    server = HTTPServer(Application([("/.*", _Api, {"fake": fake})], log_function=lambda _: None))
    server.add_socket(socket)
    other, fake.port = bind_unused_port()
    other.close()
    fake.url = f"http://127.0.0.1:{port}"
    (folder / "token").write_text(TOKEN)
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": fake.url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "x", "user": {"tokenFile": str(folder / "token")}}],
    }
    (folder / "kubeconfig").write_bytes(msgspec.yaml.encode(kubeconfig))
    try:
        yield fake
    finally:
        await fake.close()
        server.stop()
        await server.close_all_connections()
