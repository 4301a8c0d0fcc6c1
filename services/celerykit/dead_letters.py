"""`python -m celerykit.dead_letters list|show|requeue QUEUE`: what a queue gave up, and the way back.

The letters of queue Q lie in Q.dlq. Looking at them takes them from there without an acknowledgement and
gives them back at the end; meanwhile nobody else sees them, and nothing is lost if the program is killed.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from amqp import Message
from amqp.exceptions import AMQPError, MessageNacked, NotFound
from kombu import Connection

from celerykit import tls
from celerykit.profile import PUBLISHED_AT, dead_letters, stamp_publish_time, without_past
from celerykit.settings import Broker, load_or_exit

CONNECT_SECONDS = 5
CONFIRM_SECONDS = 30
BODY_SHOWN = 2000  # characters of a body that is no task's


class DeadLetterError(Exception):
    """Not all could be done that was asked for; the message says what."""


class Letter:
    """One message that its queue gave up."""

    def __init__(self, message: Any) -> None:
        self._message = message
        self.headers: dict[str, Any] = dict(message.headers or {})
        deaths = self.headers.get("x-death") or [{}]
        self.id: str | None = self.headers.get("id") or message.properties.get("correlation_id")
        self.task: str | None = self.headers.get("task")
        self.reason = str(deaths[0].get("reason", "unknown"))
        self.died_at: datetime | None = deaths[0].get("time")  # in UTC, without a zone

    def shown(self) -> dict[str, Any]:
        """The letter as plain data; arguments are text, as the caller's Celery wrote them."""
        body = self._message.body
        text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
        return {
            "id": self.id,
            "task": self.task,
            "args": self.headers.get("argsrepr"),
            "kwargs": self.headers.get("kwargsrepr"),
            "body": None if "argsrepr" in self.headers else text[:BODY_SHOWN],
            "reason": self.reason,
            "died_at": _iso(self.died_at),
            "headers": self.headers,
        }

    def requeue(self, channel: Any, queue: str) -> None:
        """Publish it to a queue as if it were new, await the broker's confirm, and only then let go of it."""
        message = self._message
        headers = without_past(self.headers)
        if PUBLISHED_AT in headers:
            stamp_publish_time(headers)  # or the days among the dead would be a wait in the queue
        properties = message.properties | {"application_headers": headers, "delivery_mode": 2}
        channel.basic_publish(
            Message(message.body, **properties),
            exchange="",
            routing_key=queue,
            mandatory=True,
            confirm_timeout=CONFIRM_SECONDS,
        )
        message.ack()


class Box:
    """The dead letters of one queue, over one channel."""

    def __init__(self, channel: Any, queue: str) -> None:
        self._channel = channel
        self._queue = queue
        self._name = dead_letters(queue).name
        self.count = self._declared(self._name)

    def letters(self) -> Iterator[Letter]:
        """As many as there were at the start, oldest first; what comes meanwhile is for the next time."""
        for _ in range(self.count):
            message = self._channel.basic_get(self._name)
            if message is None:  # somebody else has the rest
                return
            yield Letter(self._channel.message_to_python(message))

    def requeue(self, ids: Collection[str] | None) -> int:
        """Give the letters with these ids, or all, back to the queue; returns how many went.

        Raises DeadLetterError if ids were not found, once all the others went.
        """
        self._declared(self._queue)
        missing, gone = set(ids or ()), 0
        for letter in self.letters():
            if ids is None or letter.id in ids:
                letter.requeue(self._channel, self._queue)
                missing.discard(letter.id or "")
                gone += 1
        if missing:
            raise DeadLetterError(
                f"{gone} went back to {self._queue!r}; no dead letter has the id {', '.join(sorted(missing))}"
            )
        return gone

    def _declared(self, queue: str) -> int:
        try:
            return int(self._channel.queue_declare(queue, passive=True).message_count)
        except NotFound:
            raise DeadLetterError(
                f"there is no queue {queue!r} on the broker: a worker makes it at its first start"
            ) from None


@contextmanager
def opened(broker: Broker, queue: str) -> Iterator[Box]:
    """The box of a queue. Raises DeadLetterError for all that may be wrong with the broker."""
    connection = Connection(
        broker.broker_url,
        ssl=tls.for_kombu(broker.broker_url, broker.broker_ca_file),
        connect_timeout=CONNECT_SECONDS,
        heartbeat=0,
        transport_options={"confirm_publish": True},
    )
    try:
        with connection:
            yield Box(connection.channel(), queue)
    except MessageNacked:
        raise DeadLetterError(
            f"the broker refused to put a letter into {queue!r}; it stays where it was"
        ) from None
    except (AMQPError, OSError, *connection.connection_errors, *connection.channel_errors) as error:
        raise DeadLetterError(f"{connection.as_uri()}: {error or type(error).__name__}") from None


def summary(letters: Iterator[Letter]) -> dict[str, Any]:
    """How many there are, since when, and of which tasks and for which reasons."""
    tasks: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    oldest: datetime | None = None
    for letter in letters:
        tasks[letter.task or "unknown"] += 1
        reasons[letter.reason] += 1
        if letter.died_at is not None:
            oldest = min(oldest or letter.died_at, letter.died_at)
    return {
        "count": tasks.total(),
        "oldest": _iso(oldest),
        "tasks": dict(tasks.most_common()),
        "reasons": dict(reasons.most_common()),
    }


def main(arguments: list[str] | None = None) -> None:
    """End with code 0 if all was done, 1 if not, and 2 if what was asked for makes no sense."""
    asked = _parser().parse_args(arguments)
    queue = asked.queue.removesuffix(".dlq")
    try:
        with opened(load_or_exit(Broker), queue) as box:
            if asked.command == "list":
                _say({"queue": queue, **summary(box.letters())})
            elif asked.command == "show":
                for letter in box.letters():
                    if not asked.id or letter.id in asked.id:
                        _say(letter.shown())
            else:
                _say({"queue": queue, "requeued": box.requeue(None if asked.all else set(asked.id))})
    except DeadLetterError as error:
        print(f"dead_letters: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="celerykit.dead_letters", description="list, show or requeue what a queue gave up"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    described = {
        "list": "how many there are, the oldest, and their tasks",
        "show": "each as a line of JSON: headers, reason, arguments as text",
        "requeue": "publish them to their queue again; each may run twice, and none is lost",
    }
    for name, words in described.items():
        command = commands.add_parser(name, help=words, description=words)
        command.add_argument("queue", metavar="QUEUE", help="the queue that gave them up")
        if name == "list":
            continue
        which = command.add_mutually_exclusive_group(required=name == "requeue")
        which.add_argument("--id", metavar="ID", nargs="+", default=[], help="only the tasks with these ids")
        if name == "requeue":
            which.add_argument("--all", action="store_true", help="all that are there now")
    return parser


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer, default=_plain), flush=True)  # noqa: T201


def _plain(value: Any) -> str:
    return _iso(value) or "" if isinstance(value, datetime) else str(value)


def _iso(moment: datetime | None) -> str | None:
    return moment.replace(tzinfo=UTC).isoformat() if moment else None


if __name__ == "__main__":
    main()
