"""AMQP for the link, on aiormq: publish with confirms, consume the replies, stay connected.

This is all of AMQP that the link knows, so that the client beneath can be replaced.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import aiormq
from aiormq.exceptions import AMQPError, ChannelNotFoundEntity, DeliveryError, PublishError
from pamqp.commands import Basic

from celerykit import tls
from celerykit.envelope import Message
from celerykit.profile import undelayed
from celerykit.settings import Broker

HEARTBEAT = 20  # seconds
CONNECT_SECONDS = 10
BACKOFF = (0.2, 5.0)  # seconds: the first wait before a new try, and the longest
REPLY_QUEUE = {
    "x-queue-type": "classic",  # named, since a vhost may have another default
    "x-expires": 300_000,  # ms that it outlives us, so that a short absence loses no reply
    "x-max-length-bytes": 64 * 1024 * 1024,
    "x-overflow": "drop-head",
}

# what a broken connection raises, in all its forms
BROKEN = (AMQPError, OSError, asyncio.TimeoutError, RuntimeError)

log = logging.getLogger(__name__)


class Connection(aiormq.Connection):
    """Notices within two heartbeats that the network has gone silent; aiormq itself takes over three."""

    HEARTBEAT_GRACE_MULTIPLIER = 1.4  # type: ignore[assignment]  # asked each half a heartbeat


class LinkError(Exception):
    """The link could not do what was asked; its subclasses say why."""


class Unavailable(LinkError):
    """The broker cannot be reached, does not confirm, or blocks publishers for now."""


class NoQueue(Unavailable):
    """No such queue is on the broker: no worker has declared it yet."""


class Transport:
    """Two connections, one to publish and one to consume: the broker may block the first alone."""

    def __init__(
        self,
        broker: Broker,
        replies: str,
        on_reply: Callable[[str, bytes], None],
        on_connect: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._replies = replies
        self.reply_queue = self._name_queue()
        self._on_reply = on_reply
        self._on_connect = on_connect
        self._ready = asyncio.Event()
        self._down_since = 0.0  # the loop's time; of use while not ready
        self._task: asyncio.Task[None] | None = None
        self._connection: Any = None  # to publish; None while there is none
        self._channel: Any = None
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._exchanges: set[str] = set()  # known to exist on this connection

    @property
    def connected(self) -> bool:
        """Whether both connections stand and replies are consumed."""
        return self._ready.is_set()

    def start(self) -> None:
        """Connect in the background, again and again."""
        self._down_since = asyncio.get_running_loop().time()
        self._task = asyncio.create_task(self._stay_connected(), name="celerykit-transport")

    async def close(self) -> None:
        """Leave the broker; the reply queue expires by itself."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def publish(self, message: Message, timeout: float) -> None:
        """Publish and await the broker's confirm, both within `timeout` seconds.

        Raises NoQueue if the message has nowhere to go, Unavailable for all else; at once if the broker has
        been away for longer than `timeout`.
        """
        if not self.connected and asyncio.get_running_loop().time() - self._down_since > timeout:
            raise Unavailable("the broker cannot be reached")
        try:
            async with asyncio.timeout(timeout):
                await self._ready.wait()
                await self._connection.ready()  # not blocked by an alarm: nothing may be sent later, unasked
                for name in _exchanges(message):
                    await self._check_exchange(name)
                await self._channel.basic_publish(
                    message.body,
                    exchange=message.exchange,
                    routing_key=message.routing_key,
                    properties=Basic.Properties(headers=_headers(message), **_properties(message)),
                    mandatory=True,
                )
        except (PublishError, ChannelNotFoundEntity):
            raise NoQueue(f"no queue takes messages for {message.routing_key!r}: is a worker up?") from None
        except DeliveryError:
            raise Unavailable("the broker refused the message") from None
        except TimeoutError:
            raise Unavailable(f"the broker did not take the message within {timeout:g} s") from None
        except BROKEN as error:
            raise Unavailable(f"the connection to the broker broke: {error!r}") from None
        except asyncio.CancelledError:
            if _cancelled():
                raise
            raise Unavailable("the connection to the broker went silent") from None

    async def _check_exchange(self, name: str) -> None:
        """See that an exchange is there, since a publish to one that is not ends the whole channel."""
        if not name or name in self._exchanges:
            return
        # one question for all who publish now: after a reconnect they may be thousands
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = asyncio.ensure_future(self._ask_exchange(name))
            asking.add_done_callback(lambda _: self._asking.pop(name, None))
            asking.add_done_callback(_heard)
        await asyncio.shield(asking)

    async def _ask_exchange(self, name: str) -> None:
        probe = await self._connection.channel()
        await probe.exchange_declare(name, passive=True)
        await probe.close()
        self._exchanges.add(name)

    async def _stay_connected(self) -> None:
        delay = BACKOFF[0]
        while True:
            opened: list[Any] = []
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    closing = await self._connect(opened)
                self._ready.set()
                delay = BACKOFF[0]
                log.info("connected to the broker")
                self._on_connect()
                await asyncio.wait(closing, return_when=asyncio.FIRST_COMPLETED)
                log.warning("lost the broker")
            except Exception as error:  # noqa: BLE001  # whatever it is, it is tried again
                log.warning("no broker: %r", error)
            except asyncio.CancelledError:
                if _cancelled():
                    raise
                log.warning("no broker: it went silent")
            finally:
                if self._ready.is_set():
                    self._ready.clear()
                    self._down_since = asyncio.get_running_loop().time()
                for connection in opened:
                    await asyncio.gather(connection.close(), return_exceptions=True)
            await asyncio.sleep(delay * random.uniform(0.5, 1))
            delay = min(delay * 2, BACKOFF[1])

    async def _connect(self, opened: list[Any]) -> list["asyncio.Future[Any]"]:
        """Set up both connections; returns the futures of which one ends when something breaks."""
        url = self._broker.broker_url
        url = f"{url}{'&' if '?' in url else '?'}heartbeat={HEARTBEAT}"
        secure = url.startswith("amqps:")
        # made anew each time, so that another CA in the file is taken
        trusted = tls.context(self._broker.broker_ca_file) if secure else None
        for _ in range(2):
            connection = Connection(url, context=trusted)
            opened.append(connection)
            await connection.connect()
        self._connection, consuming = opened
        self._exchanges = set()
        self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        replies = await consuming.channel(publisher_confirms=False)
        deprived = asyncio.get_running_loop().create_future()
        replies.on_consumer_cancel_callbacks.add(deprived.set_result)
        try:
            await replies.queue_declare(self.reply_queue, durable=True, arguments=dict(REPLY_QUEUE))
        except ChannelNotFoundEntity:
            # it is on a node of the broker that is away, maybe for ever
            self.reply_queue = self._name_queue()
            raise
        await replies.basic_consume(self.reply_queue, self._receive, no_ack=True, exclusive=True)
        ends = (part.closing for part in (*opened, self._channel, replies))
        return [deprived, *(asyncio.ensure_future(end) for end in ends)]

    def _name_queue(self) -> str:
        return f"{self._replies}.{uuid4()}"

    async def _receive(self, delivery: Any) -> None:
        self._on_reply(delivery.header.properties.correlation_id or "", delivery.body)


def _cancelled() -> bool:
    """Whether it is us who are cancelled: aiormq cancels what waits on a connection that went silent."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _heard(done: "asyncio.Future[None]") -> None:
    """Take note of an answer that nobody waited for any more, so that asyncio does not complain."""
    if not done.cancelled():
        done.exception()


def _exchanges(message: Message) -> list[str]:
    """What the message passes: with a countdown, after the delay, the exchange of its queue."""
    if not message.exchange.startswith("celery_delayed_"):
        return [message.exchange]
    return [message.exchange, undelayed(message.routing_key)]


def _headers(message: Message) -> dict[str, Any]:
    # pamqp writes a float with 32 bits, which is minutes off for a time of day; as text it stays whole
    return {
        name: repr(value) if isinstance(value, float) else value for name, value in message.headers.items()
    }


def _properties(message: Message) -> dict[str, Any]:
    names = (
        "content_type",
        "content_encoding",
        "delivery_mode",
        "priority",
        "correlation_id",
        "reply_to",
    )
    return {name: message.properties[name] for name in names if message.properties.get(name) is not None}
