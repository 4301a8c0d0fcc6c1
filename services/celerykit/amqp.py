"""AMQP 0-9-1 on an asyncio protocol class: what the link needs of it, at little cost for a message.

aiormq takes a task and several futures for each: 0.4 ms of CPU for a publish and its reply, where this takes
0.1 (docs/adr/0003-own-amqp-client.md). Frames that come once in a connection are pamqp's; those of every
message are read and written here.
"""

import asyncio
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import count
from struct import Struct
from typing import Any, Self, cast
from urllib.parse import parse_qs, unquote, urlsplit

from pamqp import commands, encode, frame
from pamqp.base import Frame
from pamqp.header import ProtocolHeader
from pamqp.heartbeat import Heartbeat

from celerykit import tls

PORTS = {"amqp": 5672, "amqps": 5671}
FRAME_MAX = 131072  # bytes: what we take, which is also RabbitMQ's own limit
CLOSE_SECONDS = 2
WORK = 1  # the channel of all messages; those above it ask whether an exchange is there
CLIENT = {
    "product": "celery-kit",
    "platform": f"Python {platform.python_version()}",
    "capabilities": {
        "authentication_failure_close": True,
        "basic.nack": True,
        "connection.blocked": True,
        "consumer_cancel_notify": True,
        "publisher_confirms": True,
    },
}

METHOD, HEADER, BODY = 1, 2, 3  # kinds of frames
FRAME_START, FRAME_END = Struct(">BHI"), 0xCE
INDEX = Struct(">I")
ACKED = Struct(">QB")
FLAGS = Struct(">H")
SIZE = Struct(">Q")
CONTENT = Struct(">HHQH")
HEARTBEAT = Heartbeat().marshal()


class Closed(ConnectionError):
    """A channel or the connection ended; `code` is AMQP's where the broker ended it, else 0."""

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.code = code


class Uncarriable(ValueError):
    """AMQP cannot carry a message; `part` names what of it: `headers`, or an argument or a property."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part


class Look(commands.Exchange.Declare):
    """Asks for an exchange by its name, whatever that is: pamqp takes fewer names than brokers do."""

    def validate(self) -> None:
        """Leave it to the broker."""


class Connection(asyncio.Protocol):
    """One connection to the broker, which tells at once what comes, by calls.

    `on_delivery` gets the correlation id and body of what a consumer is sent; `on_confirm` the number of a
    publish, whether all before it are meant as well, and whether the broker took them; `on_return` the number
    of a publish that no queue takes. `on_writable` is called when `writable` may be true again.
    """

    on_delivery: Callable[[str, bytes], None]
    on_confirm: Callable[[int, bool, bool], None]
    on_return: Callable[[int], None]

    def __init__(self) -> None:
        self.on_writable: Callable[[], None] = lambda: None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # ends with Closed
        self.frame_max = FRAME_MAX
        self._channel_max = 0xFFFF
        self._asking: set[int] = set()  # the channels
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._blocked = self._paused = False
        self._beat: asyncio.TimerHandle | None = None
        self._quiet = 0  # beats without a sign of the broker
        self._buffer = bytearray()
        self._returned = False  # whether the content that comes is our own
        self._name = ""  # its correlation id, or the number of our publish
        self._missing = 0  # bytes of its body
        self._parts: list[bytes] = []

    @classmethod
    async def open(cls, url: str, heartbeat: int, ca_file: str = "") -> Self:
        """Connect and log in; the URL's query may hold `heartbeat`, in seconds, and `name`.

        With `amqps:` the broker's certificate must be good, by the CAs of the file or the system's.
        Raises Closed with the broker's reason, OSError, or ValueError for what the query holds.
        """
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        seconds = query.get("heartbeat", str(heartbeat))
        if not seconds.isdecimal():
            raise ValueError(f"heartbeat={seconds} in the broker's URL: must be whole seconds, 0 for none")
        properties = CLIENT | ({"connection_name": query["name"]} if "name" in query else {})
        login = f"\0{unquote(parts.username or 'guest')}\0{unquote(parts.password or 'guest')}"
        vhost = unquote(parts.path[1:]) or "/"
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        trusted = tls.context(ca_file) if parts.scheme == "amqps" else None
        _, self = await asyncio.get_running_loop().create_connection(cls, host, port, ssl=trusted)
        try:
            await self._log_in(properties, login, vhost, int(seconds))
        except BaseException:
            self._lose(Closed("it was not set up"))
            raise
        return self

    @property
    def writable(self) -> bool:
        """Whether the broker takes messages now, and the network as much as it is given."""
        return not (self._blocked or self._paused or self.lost.done())

    def write(self, data: bytes) -> None:
        """Send frames that are made already."""
        self._transport.write(data)

    async def ask(self, channel: int, method: Frame) -> Any:
        """Send a method and await the answer to it.

        Raises Closed if the broker closes the channel for it, or the connection breaks.
        """
        if self.lost.done():
            self.lost.result()  # raises
        answer = self._expect(channel)
        self._send(channel, method)
        return await answer

    async def look_for(self, exchange: str) -> None:
        """See that an exchange is there; raises Closed with the code 404 if not.

        On a channel of its own, which does not outlive a miss.
        """
        channel = next(number for number in count(WORK + 1) if number not in self._asking)
        if channel > self._channel_max:
            raise Closed(f"the broker allows no more than {self._channel_max} channels", 504)
        self._asking.add(channel)
        try:
            await self.ask(channel, commands.Channel.Open())
            await self.ask(channel, Look(exchange=exchange, passive=True))
            await self.ask(channel, commands.Channel.Close(200, "", 0, 0))
        finally:
            self._asking.discard(channel)

    async def close(self) -> None:
        """Take leave, and wait for the broker's as long as it may be there."""
        with suppress(Closed, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.ask(0, commands.Connection.Close(200, "", 0, 0))
        self._lose(Closed("we closed it"))

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what we write to."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self._lose(Closed(repr(exc) if exc else "the other side closed it"))

    def pause_writing(self) -> None:
        """Note that the network takes no more for now."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        self.on_writable()

    def data_received(self, data: bytes) -> None:
        """Handle the frames that are complete, and keep the rest."""
        self._quiet = 0
        buffer = self._buffer
        buffer += data
        at, end = 0, len(buffer)
        try:
            while end - at >= FRAME_START.size:
                kind, channel, size = FRAME_START.unpack_from(buffer, at)
                start = at + FRAME_START.size
                stop = start + size
                if size > FRAME_MAX or (stop < end and buffer[stop] != FRAME_END):
                    raise ValueError(f"no frame: {bytes(buffer[at : at + 20])!r}")
                if stop >= end:
                    break
                if kind == METHOD:
                    self._read_method(channel, buffer, at, stop)
                elif kind == HEADER:
                    self._read_header(buffer, at, stop)
                elif kind == BODY:
                    self._read_body(bytes(buffer[start:stop]))
                at = stop + 1
        except Exception as error:  # noqa: BLE001  # whatever it is, what follows cannot be read
            self._lose(Closed(f"what came is not understood: {error!r}"))
        del buffer[:at]

    # the rest is ours

    async def _log_in(self, properties: dict[str, Any], login: str, vhost: str, heartbeat: int) -> None:
        start = self._expect(0)
        self._transport.write(ProtocolHeader().marshal())
        await start
        tune = await self.ask(0, commands.Connection.StartOk(properties, "PLAIN", login, "en_US"))
        self.frame_max = min(tune.frame_max or FRAME_MAX, FRAME_MAX)
        self._channel_max = tune.channel_max or self._channel_max
        self._send(0, commands.Connection.TuneOk(self._channel_max, self.frame_max, heartbeat))
        if heartbeat:
            self._beat_every(heartbeat / 4)
        await self.ask(0, commands.Connection.Open(vhost))

    def _beat_every(self, seconds: float) -> None:
        # counted in beats and not by the clock, as a loop that stood still has not listened
        if self._quiet > 6:
            self._lose(Closed("it went silent"))
            return
        self._transport.write(HEARTBEAT)
        self._quiet += 1
        self._beat = asyncio.get_running_loop().call_later(seconds, self._beat_every, seconds)

    def _send(self, channel: int, method: Frame) -> None:
        self._transport.write(frame.marshal(method, channel))

    def _expect(self, channel: int) -> "asyncio.Future[Any]":
        self._answers[channel] = asyncio.get_running_loop().create_future()
        return self._answers[channel]

    def _answer(self, channel: int, method: Any) -> bool:
        answer = self._answers.pop(channel, None)
        if answer is None or answer.done():
            return False
        if isinstance(method, commands.Channel.Close):
            answer.set_exception(_reason(method))
        else:
            answer.set_result(method)
        return True

    def _lose(self, error: Closed) -> None:
        if self.lost.done():
            return
        self.lost.set_exception(error)
        self.lost.exception()  # so that asyncio does not complain where nobody asks
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)
        if self._beat is not None:
            self._beat.cancel()
        self._transport.abort()

    def _read_method(self, channel: int, buffer: bytearray, at: int, stop: int) -> None:
        (index,) = INDEX.unpack_from(buffer, at + 7)
        if index == commands.Basic.Deliver.index:
            self._returned = False
        elif index == commands.Basic.Ack.index:
            number, multiple = ACKED.unpack_from(buffer, at + 11)
            self.on_confirm(number, bool(multiple), True)
        else:
            self._handle(channel, frame.unmarshal(bytes(buffer[at : stop + 1]))[2])

    def _handle(self, channel: int, method: Any) -> None:
        match method:
            case commands.Basic.Nack():
                self.on_confirm(method.delivery_tag, method.multiple, False)
            case commands.Basic.Return():
                self._returned = True
            case commands.Basic.Cancel():
                self._lose(Closed("the broker took the consumer away"))
            case commands.Connection.Blocked():
                self._blocked = True
            case commands.Connection.Unblocked():
                self._blocked = False
                self.on_writable()
            case commands.Channel.Close():
                self._send(channel, commands.Channel.CloseOk())
                if not self._answer(channel, method):
                    self._lose(_reason(method))
            case commands.Connection.Close():
                self._send(0, commands.Connection.CloseOk())
                self._lose(_reason(method))
            case _:
                self._answer(channel, method)

    def _read_header(self, buffer: bytearray, at: int, stop: int) -> None:
        (self._missing,) = SIZE.unpack_from(buffer, at + 11)
        if self._returned:
            header: Any = frame.unmarshal(bytes(buffer[at : stop + 1]))[2]
            self._name = header.properties.message_id
        else:
            self._name = correlation_id(buffer, at + 19)
        if not self._missing:
            self._read_body(b"")

    def _read_body(self, part: bytes) -> None:
        self._missing -= len(part)
        if self._missing or self._parts:
            self._parts.append(part)
            if self._missing:
                return
            part = b"".join(self._parts)
            self._parts.clear()
        if self._returned:
            self.on_return(int(self._name))
        else:
            self.on_delivery(self._name, part)


def correlation_id(buffer: bytes | bytearray, at: int) -> str:
    """The correlation id among the properties of a message, of which the flags are at `at`; empty if none."""
    (flags,) = FLAGS.unpack_from(buffer, at)
    at += 2
    for flag in (0x8000, 0x4000):  # content type and encoding
        if flags & flag:
            at += 1 + buffer[at]
    if flags & 0x2000:  # headers
        at += 4 + INDEX.unpack_from(buffer, at)[0]
    for flag in (0x1000, 0x0800):  # delivery mode and priority
        if flags & flag:
            at += 1
    if not flags & 0x0400:
        return ""
    return buffer[at + 1 : at + 1 + buffer[at]].decode(errors="replace")


def entries(headers: Mapping[str, Any]) -> bytes:
    """The names and values of a table of headers, without its length.

    A float goes as text: pamqp writes it with 32 bits, which is minutes off for a time of day. Raises
    Uncarriable for what is no value of AMQP's.
    """
    parts: list[bytes] = []
    for name, value in headers.items():
        parts.append(_short("headers", name))
        if isinstance(value, (str, float)):
            text = str(value).encode()
            parts += (b"S", INDEX.pack(len(text)), text)
        else:
            try:
                parts.append(encode.encode_table_value(value))
            except (TypeError, ValueError, ArithmeticError) as wrong:
                raise Uncarriable("headers", f"{name} has no value of AMQP's: {wrong}") from wrong
    return b"".join(parts)


def publishing(
    number: int,
    exchange: str,
    routing_key: str,
    properties: Mapping[str, Any],
    table: bytes,
    body: bytes,
    frame_max: int = FRAME_MAX,
) -> list[bytes]:
    """The frames of a publish that some queue must take; `table` are the entries of its headers.

    Its number is its message id, by which it is known should it come back. Raises Uncarriable.
    """
    flags, parts = 0x2000 | 0x0080, []
    for flag, name in ((0x8000, "content_type"), (0x4000, "content_encoding")):
        if text := properties.get(name):
            flags |= flag
            parts.append(_short(name, text))
    parts += (INDEX.pack(len(table)), table)
    for flag, name in ((0x1000, "delivery_mode"), (0x0800, "priority")):
        if (small := properties.get(name)) is not None:
            flags |= flag
            parts.append(_octet(name, small))
    for flag, name in ((0x0400, "correlation_id"), (0x0200, "reply_to")):
        if text := properties.get(name):
            flags |= flag
            parts.append(_short(name, text))
    parts.append(_short("message_id", str(number)))
    header = CONTENT.pack(commands.Basic.frame_id, 0, len(body), flags) + b"".join(parts)
    if len(header) > frame_max - 8:
        raise Uncarriable("headers", f"{len(header)} bytes are too large: the broker takes {frame_max - 8}")
    frames = [_route(exchange, routing_key), *_framed(HEADER, header)]
    for start in range(0, len(body), frame_max - 8):
        frames += _framed(BODY, body[start : start + frame_max - 8])
    return frames


@lru_cache(1000)
def _route(exchange: str, routing_key: str) -> bytes:
    """The method of every publish that goes this way; its last byte says mandatory."""
    index = INDEX.pack(commands.Basic.Publish.index)
    way = _short("exchange", exchange) + _short("routing_key", routing_key)
    return b"".join(_framed(METHOD, index + b"\0\0" + way + b"\1"))


def _framed(kind: int, payload: bytes) -> tuple[bytes, bytes, bytes]:
    return FRAME_START.pack(kind, WORK, len(payload)), payload, b"\xce"


def _short(part: str, text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > 255:
        raise Uncarriable(part, f"{text[:50]!r}... has {len(encoded)} bytes: short texts have 255 at most")
    return len(encoded).to_bytes() + encoded


def _octet(part: str, number: int) -> bytes:
    if not isinstance(number, int) or not 0 <= number <= 255:
        raise Uncarriable(part, f"{number!r} is no whole number from 0 to 255")
    return number.to_bytes()


def _reason(close: Any) -> Closed:
    return Closed(f"{close.reply_code} {close.reply_text}", close.reply_code)
