"""The gateway as a Tornado application: its shared parts, its routes, its server."""

import asyncio
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from tornado.httpserver import HTTPServer
from tornado.web import Application

from celerykit.link import Link
from gateway.auth import Keys
from gateway.catalogue import Task
from gateway.foreign import Foreign
from gateway.handlers.base import Handler
from gateway.handlers.examples import EXAMPLES, IWantYouNow, MysqlQuery
from gateway.handlers.health import Alive, ForPrometheus, Ready, Unmatched
from gateway.handlers.operations import Operations
from gateway.handlers.tasks import Tasks
from gateway.metrics import Metrics
from gateway.operations import OperationStore
from gateway.queries import Queries
from gateway.settings import GatewaySettings

HANDLERS: tuple[type[Handler], ...] = (
    Tasks,
    Operations,
    Alive,
    Ready,
    ForPrometheus,
    MysqlQuery,
    IWantYouNow,
)


@dataclass
class Gateway:
    """What all requests share."""

    settings: GatewaySettings
    catalogue: Mapping[str, Task]
    link: Link
    operations: OperationStore
    queries: Queries | None = None  # if the examples are served
    foreign: Foreign = field(init=False)
    keys: Keys = field(init=False)
    metrics: Metrics = field(init=False, default_factory=Metrics)
    requests: int = field(init=False, default=0)  # under way now
    idle: asyncio.Event = field(init=False, default_factory=asyncio.Event)  # set while there are none
    stopping: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.keys = Keys(self.settings.api_keys)
        self.foreign = Foreign(self.link, self.settings)
        self.idle.set()
        self.metrics.expect(
            tasks=[(task.queue, name) for name, task in self.catalogue.items() if task.allowed],
            routes=[(method, handler.route) for handler in self.handlers for method in handler.methods()],
        )
        self.metrics.watch(
            requests=lambda: self.requests,
            waits=lambda: self.link.in_flight,
            connected=lambda: self.link.connected,
        )

    @property
    def handlers(self) -> tuple[type[Handler], ...]:
        """Of all routes there are."""
        return HANDLERS + (EXAMPLES if self.queries else ())

    def begin(self) -> None:
        """Take note of a request that has come."""
        self.requests += 1
        self.idle.clear()

    def end(self) -> None:
        """Take note of a request that was answered, or whose client has left."""
        self.requests -= 1
        if not self.requests:
            self.idle.set()


def make_app(gateway: Gateway) -> Application:
    """The routes, each handler's by its own word."""
    routes = [(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", handler.route), handler) for handler in gateway.handlers]
    # handlers write the log of requests themselves, those of clients that left included
    return Application(routes, default_handler_class=Unmatched, log_function=lambda _: None, gateway=gateway)


def make_server(gateway: Gateway) -> HTTPServer:
    """The server of the application, with its limits against large and slow requests."""
    settings = gateway.settings
    return HTTPServer(
        make_app(gateway),
        max_header_size=settings.max_header_bytes,
        # Tornado only closes the connection on a large body: handlers bound it, with an answer
        max_body_size=sys.maxsize,
        body_timeout=settings.body_timeout_seconds,
        idle_connection_timeout=settings.idle_timeout_seconds,
    )
