"""What the link knows of the broker: publish with confirms, consume the replies, stay connected."""

import asyncio
import logging
import random
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from uuid import uuid4

from pamqp.commands import Basic, Channel, Confirm, Queue
from pamqp.common import FieldValue

from celerykit.amqp import WORK, Closed, Connection, entries, publishing
from celerykit.envelope import Message
from celerykit.profile import undelayed
from celerykit.settings import Broker

HEARTBEAT = 20  # seconds
CONNECT_SECONDS = 10
CHUNK = 65536  # bytes of messages that are written at once
NOT_FOUND = 404
OVERSIZE = re.compile(
    r"message size \d+ (?:is )?larger than (?:configured )?max size (\d+)"
)  # a broker's 406
TICK = 0.1  # seconds: the time limits of publishes are kept to this
BACKOFF = (0.2, 5.0)  # seconds: the first wait before a new try, and the longest
REPLY_QUEUE: dict[str, FieldValue] = {
    "x-queue-type": "classic",  # named, since a vhost may have another default
    "x-expires": 300_000,  # ms that it outlives us, so that a short absence loses no reply
    "x-max-length-bytes": 64 * 1024 * 1024,
    "x-overflow": "drop-head",
}

log = logging.getLogger(__name__)


class LinkError(Exception):
    """The link could not do what was asked; its subclasses say why."""


class Unavailable(LinkError):
    """The broker cannot be reached, does not confirm, or blocks publishers for now."""


class Unsendable(LinkError):
    """No message can be so; `part` names what of it: `headers`, `body`, or an argument or a property."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(reason)
        self.part = part


class NoQueue(Unavailable):
    """No such queue is on the broker: no worker has declared it yet."""


@dataclass(slots=True, eq=False)
class Publish:
    """A message on its way; the future ends with the broker's confirm."""

    message: Message
    timeout: float
    deadline: float  # the loop's time
    future: "asyncio.Future[None]"

    def fail(self, error: Exception) -> None:
        """End it, unless it has ended; asyncio does not complain if nobody asks how."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()

    def find_no_queue(self) -> None:
        """End it since no queue takes it."""
        name = self.message.routing_key
        self.fail(NoQueue(f"no queue takes messages for {name!r}: is a worker up?"))


class Transport:
    """Two connections, one to publish and one to consume: the broker may block the first alone.

    A publish is in the outbox until it may be written, so that nothing is sent later, unasked; then it is
    among the unconfirmed. All that one turn of the loop publishes is written at once.
    """

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
        self._down_since = 0.0  # the loop's time; of use while not connected
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None  # to publish; None while not both stand
        self._outbox: deque[Publish] = deque()
        self._held: dict[str, list[Publish]] = {}  # back until their exchange is found
        self._finders: set[asyncio.Task[None]] = set()
        self._exchanges: set[str] = set()  # known to exist on this connection
        self._unconfirmed: dict[int, Publish] = {}
        self._number = 0  # of the last publish on this connection
        self._largest: int | None = None  # bytes of a body: what the broker has said that it takes
        self._flushing = False  # soon
        self._clock: asyncio.TimerHandle | None = None

    @property
    def connected(self) -> bool:
        """Whether both connections stand and replies are consumed."""
        return self._connection is not None

    def start(self) -> None:
        """Connect in the background, again and again."""
        self._down_since = asyncio.get_running_loop().time()
        self._task = asyncio.create_task(self._stay_connected(), name="celerykit-transport")

    async def close(self) -> None:
        """Leave the broker; the reply queue expires by itself."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, *self._finders, return_exceptions=True)
        for publish in self._waiting():
            publish.fail(Unavailable("the link was closed"))

    def publish(self, message: Message, timeout: float) -> "asyncio.Future[None]":
        """Publish; the future ends with the broker's confirm, or fails within `timeout` seconds.

        It fails with NoQueue if the message has nowhere to go, with Unsendable if AMQP cannot carry it, with
        Unavailable for all else: at once if the broker has been away for longer than `timeout`. What is
        cancelled before it is written is not sent.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        publish = Publish(message, timeout, now + timeout, loop.create_future())
        if self._connection is None and now - self._down_since > timeout:
            publish.fail(Unavailable("the broker cannot be reached"))
            return publish.future
        self._outbox.append(publish)
        self._flush_soon()
        if self._clock is None:
            self._clock = loop.call_later(TICK, self._tick)
        return publish.future

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        connection = self._connection
        if connection is None:
            return
        frames: list[bytes] = []
        size = 0
        while self._outbox and connection.writable:
            publish = self._outbox.popleft()
            if publish.future.done():
                continue
            if too_large := self._too_large(publish.message):
                publish.fail(too_large)
                continue
            number = self._number + 1
            try:
                made = _framed(number, publish.message, connection.frame_max)
            except Exception as error:  # noqa: BLE001  # whatever it is, the others must go
                publish.fail(Unsendable(getattr(error, "part", ""), str(error)))
                continue
            unknown = [name for name in _exchanges(publish.message) if name not in self._exchanges]
            if unknown:
                self._hold(publish, unknown[0], connection)
                continue
            self._number = number
            self._unconfirmed[number] = publish
            frames += made
            size += len(publish.message.body)
            if size > CHUNK:  # see whether there is room for more
                connection.write(b"".join(frames))
                frames.clear()
                size = 0
        if frames:
            connection.write(b"".join(frames))

    def _too_large(self, message: Message) -> Unsendable | None:
        """What to tell of a message for which the broker would end the channel, as it has once."""
        size, most = len(message.body), self._largest
        if most is None or size <= most:
            return None
        return Unsendable("body", f"body: {size} bytes are too large: the broker takes {most}")

    def _hold(self, publish: Publish, exchange: str, connection: Connection) -> None:
        """Find the exchange first, since a publish to one that is not there ends the whole channel."""
        # one question for all who publish now: after a reconnect they may be thousands
        if exchange in self._held:
            self._held[exchange].append(publish)
            return
        self._held[exchange] = [publish]
        finder = asyncio.create_task(self._find(exchange, connection))
        self._finders.add(finder)  # or nobody would hold it
        finder.add_done_callback(self._finders.discard)

    async def _find(self, exchange: str, connection: Connection) -> None:
        refusal: Closed | None = None
        try:
            await connection.look_for(exchange)
            self._exchanges.add(exchange)
        except Closed as error:
            refusal = None if connection.lost.done() else error
        held = self._held.pop(exchange)
        for publish in held:
            if refusal is not None and refusal.code == NOT_FOUND:
                publish.find_no_queue()
            elif refusal is not None:
                publish.fail(Unavailable(f"the broker refused the message: {refusal}"))
        self._outbox += held  # those that have not failed go now, or with the next connection
        self._flush_soon()

    def _confirm(self, number: int, multiple: bool, taken: bool) -> None:
        # they are in the order of their numbers; those that are long confirmed are not looked for again
        every = [*takewhile(number.__ge__, self._unconfirmed)] if multiple else [number]
        for one in every:
            publish = self._unconfirmed.pop(one, None)
            if publish is None or publish.future.done():
                continue
            if taken:
                publish.future.set_result(None)
            else:
                publish.fail(Unavailable("the broker refused the message"))

    def _return(self, number: int) -> None:
        if publish := self._unconfirmed.pop(number, None):
            publish.find_no_queue()

    def _waiting(self) -> Iterator[Publish]:
        yield from self._outbox
        for held in self._held.values():
            yield from held

    def _tick(self) -> None:
        """End what has taken too long."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for publish in (*self._waiting(), *self._unconfirmed.values()):
            if publish.deadline <= now:
                reason = f"the broker did not take the message within {publish.timeout:g} s"
                publish.fail(Unavailable(reason))
        self._outbox = deque(publish for publish in self._outbox if not publish.future.done())
        for held in self._held.values():
            held[:] = [publish for publish in held if not publish.future.done()]
        # a broker that never confirms must not fill the memory
        self._unconfirmed = {
            number: publish for number, publish in self._unconfirmed.items() if not publish.future.done()
        }
        more = self._outbox or self._held or self._unconfirmed
        self._clock = loop.call_later(TICK, self._tick) if more else None

    async def _stay_connected(self) -> None:
        delay = BACKOFF[0]
        while True:
            opened: list[Connection] = []
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._connect(opened)
                delay = BACKOFF[0]
                log.info("connected to the broker")
                self._flush_soon()
                self._on_connect()
                lost = [connection.lost for connection in opened]
                await asyncio.wait(lost, return_when=asyncio.FIRST_COMPLETED)
                log.warning("lost the broker: %s", _end_of(opened))
            except Exception as error:  # noqa: BLE001  # whatever it is, it is tried again
                log.warning("no broker: %r", error)
            finally:
                if self._connection is not None:
                    self._disconnect(_end_of(opened))
                await asyncio.gather(*(connection.close() for connection in opened))
            await asyncio.sleep(delay * random.uniform(0.5, 1))
            delay = min(delay * 2, BACKOFF[1])

    async def _connect(self, opened: list[Connection]) -> None:
        """Set up both connections."""
        broker = self._broker
        for _ in range(2):
            connection = await Connection.open(broker.broker_url, HEARTBEAT, broker.broker_ca_file)
            opened.append(connection)
            await connection.ask(WORK, Channel.Open())
        sending, consuming = opened
        sending.on_confirm, sending.on_return = self._confirm, self._return
        sending.on_writable = self._flush_soon
        await sending.ask(WORK, Confirm.Select())
        consuming.on_delivery = self._receive
        try:
            declare = Queue.Declare(queue=self.reply_queue, durable=True, arguments=dict(REPLY_QUEUE))
            await consuming.ask(WORK, declare)
        except Closed as error:
            if error.code == NOT_FOUND:
                # it is on a node of the broker that is away, maybe for ever
                self.reply_queue = self._name_queue()
            raise
        await consuming.ask(WORK, Basic.Consume(queue=self.reply_queue, no_ack=True, exclusive=True))
        self._exchanges = {""}
        self._number = 0
        self._connection = sending

    def _name_queue(self) -> str:
        return f"{self._replies}.{uuid4()}"

    def _disconnect(self, error: BaseException | None) -> None:
        """Give up what is on the way; what waits, waits for the next connection."""
        self._connection = None
        self._down_since = asyncio.get_running_loop().time()
        oversize = OVERSIZE.search(str(error))
        # of use until the broker, which may take more then, ends a connection for another reason
        self._largest = int(oversize[1]) if oversize else None
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for publish in unconfirmed.values():
            if too_large := self._too_large(publish.message):
                publish.fail(too_large)
            elif f"no exchange '{publish.message.exchange}'" in str(error):
                publish.find_no_queue()
            else:
                publish.fail(Unavailable(f"the connection to the broker broke: {error}"))

    def _receive(self, correlation_id: str, body: bytes) -> None:
        try:
            self._on_reply(correlation_id, body)
        except Exception:
            log.exception("a reply could not be handled")


def _end_of(opened: list[Connection]) -> BaseException | None:
    ends = (connection.lost.exception() for connection in opened if connection.lost.done())
    return next(ends, Closed("we closed it"))


def _framed(number: int, message: Message, frame_max: int) -> list[bytes]:
    return publishing(
        number,
        message.exchange,
        message.routing_key,
        message.properties,
        message.constant + entries(message.headers),
        message.body,
        frame_max,
    )


def _exchanges(message: Message) -> tuple[str, ...]:
    """What the message passes: with a countdown, after the delay, the exchange of its queue."""
    if not message.exchange.startswith("celery_delayed_"):
        return (message.exchange,)
    return message.exchange, undelayed(message.routing_key)
