"""`python -m tests.bench.responder AMQP-URL`: answers `task.echo` on the kit's queue in a worker's place.

It speaks the wire format of Celery's workers and nothing else: no pool, no database. What it reads at once it
answers and acknowledges with one write, so that it bounds nobody who is measured with it. It prints `ready`,
and ends by SIGTERM.
"""

import argparse
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import amqp
import msgspec
from kombu import Connection
from pamqp import commands, frame
from pamqp.header import ContentHeader

from celerykit.profile import queue
from celerykit.settings import Settings
from tests.bench.runs import QUEUE

PREFETCH = 2000
CHUNK = 1 << 18  # bytes that are read at once
CHANNEL = 1
METHOD, HEADER, BODY, END = 1, 2, 3, 0xCE
DELIVER = struct.pack(">HH", 60, 60)
# the properties that may stand before and at those that are wanted, in AMQP's order
CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE, PRIORITY, CORRELATION_ID, REPLY_TO = (
    1 << bit for bit in range(15, 8, -1)
)

start_of_frame = struct.Struct(">BHI")  # type, channel, length of the payload
number = struct.Struct(">Q")
length = struct.Struct(">I")
flags_of = struct.Struct(">H")
decode_body = msgspec.json.Decoder().decode
encode_result = msgspec.json.Encoder().encode


def consume(url: str) -> amqp.Connection:
    """Connect, declare the queue as the kit does, and have its messages sent; nothing of them is read yet."""
    connection: amqp.Connection = Connection(url, heartbeat=0).connect()
    channel = connection.channel(CHANNEL)
    queue(QUEUE, Settings(broker_url=url, database_url="mysql://unused/unused"))(channel).declare()
    channel.basic_qos(0, PREFETCH, False)
    channel.basic_consume(QUEUE, consumer_tag=__name__, nowait=True)
    return connection


def frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the whole frames out of what was read, as type and payload; a part of one stays."""
    view, at = bytes(buffer), 0
    while len(view) - at >= 8:
        kind, _, size = start_of_frame.unpack_from(view, at)
        after = at + 8 + size
        if after > len(view):
            break
        yield kind, view[at + 7 : after - 1]
        at = after
    del buffer[:at]


def delivery_tag(payload: bytes) -> int:
    """Of Basic.Deliver: it follows the consumer tag."""
    tag: int = number.unpack_from(payload, 5 + payload[4])[0]
    return tag


def asker(payload: bytes) -> tuple[str, str]:
    """`correlation_id` and `reply_to` of a message's header; the large table of headers is passed over."""
    (flags,) = flags_of.unpack_from(payload, 12)
    at = 14
    for flag in (CONTENT_TYPE, CONTENT_ENCODING):
        at += 1 + payload[at] if flags & flag else 0
    at += 4 + length.unpack_from(payload, at)[0] if flags & HEADERS else 0
    at += bool(flags & DELIVERY_MODE) + bool(flags & PRIORITY)
    found = []
    for flag in (CORRELATION_ID, REPLY_TO):
        size = payload[at] if flags & flag else -1
        found.append(payload[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return found[0], found[1]


@lru_cache(1000)
def publish(reply_to: str) -> bytes:
    """The method frame of an answer, the same for all answers to one caller."""
    return frame.marshal(commands.Basic.Publish(exchange="", routing_key=reply_to), CHANNEL)


@lru_cache(1000)
def header(size: int, id_size: int) -> tuple[bytes, bytes]:
    """The header frame of an answer, before and after its correlation id: equal for ids of one length."""
    mark = "\x01" * id_size
    properties = commands.Basic.Properties(
        content_type="application/json",
        content_encoding="utf-8",
        correlation_id=mark,
        delivery_mode=1,
        priority=0,
    )
    before, _, after = frame.marshal(ContentHeader(0, size, properties), CHANNEL).partition(mark.encode())
    return before, after


def answer(correlation_id: str, reply_to: str, body: bytes, done: str) -> bytes:
    """The frames of a task's result: its first argument."""
    args: Any = decode_body(body)[0]
    result = encode_result(
        {
            "status": "SUCCESS",
            "result": args[0],
            "traceback": None,
            "children": [],
            "date_done": done,
            "task_id": correlation_id,
        }
    )
    before, after = header(len(result), len(correlation_id))
    return b"".join(
        (
            publish(reply_to),
            before,
            correlation_id.encode(),
            after,
            start_of_frame.pack(BODY, CHANNEL, len(result)),
            result,
            b"\xce",
        )
    )


class Answers:
    """Makes of the frames of deliveries what is to be written: answers, and one acknowledgement for all."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._tag = 0
        self._asker = ("", "")

    def to(self, data: bytes) -> bytes:
        """What to write after this was read. Raises ConnectionError if the broker ends it."""
        self._buffer += data
        done, answers, answered = datetime.now(UTC).isoformat(), [], 0
        for kind, payload in frames(self._buffer):
            if kind == BODY:
                if self._asker[1]:
                    answers.append(answer(*self._asker, payload, done))
                answered = self._tag
            elif kind == HEADER:
                self._asker = asker(payload)
            elif kind == METHOD and payload.startswith(DELIVER):
                self._tag = delivery_tag(payload)
            elif kind == METHOD:
                raise ConnectionError(f"the broker sent {frame.unmarshal(_whole(kind, payload))[2]}")
        if answered:
            answers.append(frame.marshal(commands.Basic.Ack(delivery_tag=answered, multiple=True), CHANNEL))
        return b"".join(answers)


def _whole(kind: int, payload: bytes) -> bytes:
    return start_of_frame.pack(kind, CHANNEL, len(payload)) + payload + bytes((END,))


def main() -> None:
    """Answer until the end."""
    parser = argparse.ArgumentParser(description="Answers task.echo as a worker does, without one.")
    parser.add_argument("url")
    socket = consume(parser.parse_args().url).sock
    socket.settimeout(None)
    print("ready", flush=True)  # noqa: T201
    answers = Answers()
    while data := socket.recv(CHUNK):
        if out := answers.to(data):
            socket.sendall(out)


if __name__ == "__main__":
    main()
