"""A gateway on a real port, with a link and a table of operations that do as a test tells them."""

import asyncio
import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.testing import bind_unused_port

from celerykit.link import NotFinished, Outcome, Saturated
from gateway.app import Gateway, make_server
from gateway.catalogue import Task
from gateway.operations import DatabaseUnavailable
from gateway.queries import Queries
from gateway.settings import GatewaySettings

CATALOGUE = {
    "task.echo": Task(queue="default"),
    "task.limited": Task(queue="slow", time_limit_seconds=20, soft_time_limit_seconds=10, expires_seconds=60),
    "task.query_users": Task(queue="default"),
    "task.secret": Task(queue="default", allowed=False),
    "task.foreign": Task(queue="theirs", foreign=True),
    "task.terminable": Task(queue="default", terminable=True),
}


class FakeLink:
    """The link's methods; `error` is raised by sending, `outcome` ends the tasks, None lets none end."""

    def __init__(self):
        self.connected = True
        self.in_flight = 0
        self.error = None
        self.outcome = None
        self.sent = []
        self.waits = []
        self.rows = {}
        self.results = SimpleNamespace(fetch=self._fetch, store=self._store)
        self.expected = {}
        self.revoked = []
        self.fetch_error = None
        self.gate = asyncio.Event()  # calls and waits go on once it is set
        self.gate.set()

    async def send(self, name, args=(), kwargs=None, **options):
        if self.error:
            raise self.error
        self.sent.append((name, list(args), dict(kwargs or {}), options))
        return options["task_id"]

    async def call(self, name, args=(), kwargs=None, *, wait, **options):
        options.setdefault("task_id", "made-by-the-link")
        task_id = await self.send(name, args, kwargs, wait=wait, **options)
        with self._waiting():
            await self.gate.wait()
        if self.outcome is None:
            raise NotFinished(task_id)
        return Outcome(task_id, *self.outcome)

    def apply_async(self, name, args=(), kwargs=None, *, callback, wait, **options):
        future = asyncio.ensure_future(self.call(name, args, kwargs, wait=wait, **options))
        future.add_done_callback(callback)
        return future

    def expect(self, task_id, seconds):
        if isinstance(self.error, Saturated):
            raise self.error
        future = asyncio.get_running_loop().create_future()
        self.expected[task_id] = (future, seconds)
        return future

    async def revoke(self, task_id, *, terminate=False):
        if self.fetch_error:
            raise self.fetch_error
        self.rows.setdefault(task_id, ("REVOKING", None))
        if self.error:
            raise self.error
        self.revoked.append((task_id, terminate))

    async def wait(self, task_id, wait):
        self.waits.append(wait)
        if self.error:
            raise self.error
        with self._waiting():
            await self.gate.wait()
        return self.outcome and Outcome(task_id, *self.outcome)

    async def _fetch(self, ids):
        if self.fetch_error:
            raise self.fetch_error
        return {i: Outcome(i, *self.rows[i]) for i in ids if i in self.rows}

    async def _store(self, outcome):
        if self.fetch_error:
            raise self.fetch_error
        self.rows[outcome.task_id] = (outcome.state, outcome.result)

    @contextmanager
    def _waiting(self):
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1


class FakeOperations:
    """The table as a dict; `down` makes it a database that does not answer."""

    def __init__(self):
        self.rows = {}
        self.down = False
        self.log = []

    def _use(self, what):
        if self.down:
            raise DatabaseUnavailable
        self.log.append(what)

    async def insert(self, operation):
        self._use("insert")
        self.rows[operation.id] = operation

    async def get(self, operation_id):
        self._use("get")
        return self.rows.get(operation_id)

    async def delete(self, operation_id):
        self._use("delete")
        del self.rows[operation_id]

    async def ping(self):
        self._use("ping")


class Client:
    """A gateway with its fakes, and requests to it."""

    def __init__(self, gateway, port):
        self.gateway, self.link, self.operations, self.port = gateway, gateway.link, gateway.operations, port
        self._http = AsyncHTTPClient(force_instance=True)

    async def request(self, method, path, body=None, headers=None, **options):
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body:
            headers.setdefault("Content-Type", "application/json")
        response = await self._http.fetch(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            body=body,
            headers=headers,
            raise_error=False,
            allow_nonstandard_methods=True,
            **options,
        )
        is_json = "json" in response.headers.get("Content-Type", "")
        return SimpleNamespace(
            status=response.code,
            headers=response.headers,
            text=response.body.decode(),
            json=json.loads(response.body) if is_json and response.body else None,
        )

    async def get(self, path, **options):
        return await self.request("GET", path, **options)

    async def post(self, path, body=None, **options):
        return await self.request("POST", path, body, **options)

    async def raw(self, data):
        """Send bytes on a connection of their own; returns all bytes until the gateway closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            return await reader.read()
        finally:
            writer.close()

    async def metric(self, name, **labels):
        await self.get("/metrics")
        return self.gateway.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
async def start():
    """A function that starts a gateway with the settings given and returns its Client."""
    running = []

    def begin(**settings):
        own = GatewaySettings(**settings)
        queries = Queries("mysql://u:p@127.0.0.1:1/away", own.example_threads) if own.examples else None
        gateway = Gateway(own, CATALOGUE, FakeLink(), FakeOperations(), queries)
        server = make_server(gateway)
        listener, port = bind_unused_port()
        server.add_socket(listener)
        client = Client(gateway, port)
        running.append((server, client))
        return client

    yield begin
    for server, client in running:
        client._http.close()
        await client.gateway.foreign.close()
        server.stop()
        await server.close_all_connections()


@pytest.fixture
async def client(start):
    """A gateway with the default settings."""
    return start()


@pytest.fixture
def until():
    """A function that awaits a condition."""

    async def wait_until(condition, seconds=5):
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  # a condition of any kind
                await asyncio.sleep(0.005)

    return wait_until
