"""Task messages as Celery itself builds them, caught before they are sent.

Celery's `send_task` runs as it is, routes, signals and all, with a producer that keeps the message instead of
blocking on a socket. The protocol is Celery's, and stays so when Celery changes it. A message that differs
from an earlier one in its arguments alone is made after that one, in a tenth of the time.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from typing import Any
from uuid import uuid4

import msgspec
from celery import Celery
from celery.backends.base import BaseBackend
from celery.canvas import Signature
from celery.result import GroupResult
from celery.signals import after_task_publish, before_task_publish
from celery.utils.saferepr import saferepr
from kombu import Exchange, Producer, Queue
from kombu.utils.json import dumps, loads

from celerykit.amqp import entries
from celerykit.backend import STORE
from celerykit.profile import PUBLISHED_AT, configure
from celerykit.settings import Settings
from celerykit.task import replies_to

# what may differ between two messages of one template; with any other option Celery builds the message
ALIKE = frozenset({"task_id", "store", "priority", "time_limit", "soft_time_limit"})
DIFFER = ("id", "root_id", "argsrepr", "kwargsrepr", PUBLISHED_AT)  # headers
TEMPLATES = 1000  # kept


class Message(msgspec.Struct, frozen=True):
    """What goes to the broker; `properties` are AMQP's basic properties without `headers`.

    `constant` is what a template gives of the headers, encoded already.
    """

    exchange: str
    routing_key: str
    body: bytes
    headers: dict[str, Any]
    properties: dict[str, Any]
    constant: bytes = b""


class _Recorder(Producer):
    """Keeps messages; opens nothing and declares nothing."""

    def __init__(self) -> None:
        super().__init__(None, auto_declare=False)
        self.messages: list[Message] = []

    @property
    def connection(self) -> Any:
        return self

    def _reraise_as_library_errors(self) -> Any:
        return nullcontext()

    def publish(  # kombu's signature, of which the declarations and retries are the link's own affair
        self,
        body: Any,
        routing_key: str = "",
        delivery_mode: Any = None,
        serializer: str | None = None,
        headers: dict[str, Any] | None = None,
        compression: str | None = None,
        exchange: Exchange | str = "",
        **properties: Any,
    ) -> None:
        for name in ("declare", "retry", "retry_policy", "timeout", "confirm_timeout"):
            properties.pop(name, None)
        # an expired task is the worker's to revoke, with a result: from the broker it would go without one
        properties.pop("expiration", None)
        headers = dict(headers or {})
        name, properties["delivery_mode"] = self._delivery_details(exchange, delivery_mode)
        content, content_type, encoding = self._prepare(body, serializer, None, None, compression, headers)
        self.messages.append(
            Message(
                exchange=name,
                routing_key=routing_key,
                body=content if isinstance(content, bytes) else content.encode(),
                headers=headers,
                properties={**properties, "content_type": content_type, "content_encoding": encoding},
            )
        )


class _RecordingCelery(Celery):
    """An app whose every publish ends in its current recorder."""

    recorder: _Recorder

    @contextmanager
    def producer_or_acquire(self, producer: Any = None) -> Any:  # noqa: ARG002  # Celery's signature
        yield self.recorder


class Nowhere(BaseBackend):
    """A backend that canvas code asks for and that does nothing: the link reads results by itself."""


class _Template:
    """A message of Celery's, to make others after that differ in their ids and arguments."""

    def __init__(self, message: Message, shown: Callable[[Any], str]) -> None:
        self._message = message
        self._shown = shown
        constant = {name: value for name, value in message.headers.items() if name not in DIFFER}
        self._constant = entries(constant)
        self._embed = dumps(loads(message.body)[2])  # callbacks and the like, of which there are none

    def filled(self, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Message:
        """The message of one task."""
        of = self._message
        given, named = list(args) or (), dict(kwargs)  # Celery shows no arguments as ()
        return Message(
            of.exchange,
            of.routing_key,
            f"[{dumps(given)}, {dumps(named)}, {self._embed}]".encode(),
            {
                "id": task_id,
                "root_id": task_id,
                "argsrepr": self._shown(given),
                "kwargsrepr": self._shown(named),
                PUBLISHED_AT: time.time(),
            },
            {**of.properties, "correlation_id": task_id},
            self._constant,
        )


class Envelopes:
    """Builds the messages of one caller; answers go where `reply_to` says then. Not for several threads."""

    def __init__(
        self, settings: Settings, reply_to: Callable[[], str], foreign: Collection[str] = ()
    ) -> None:
        self._app = _RecordingCelery("celerykit.link", set_as_current=False)
        configure(self._app, settings)
        self._app.conf.result_backend = f"{__name__}:{Nowhere.__name__}"
        # the queues of workers that are not ours: Celery sends to a direct one by the default exchange
        for name in foreign:
            self._app.amqp.queues.add(Queue(name, Exchange(name, type="direct"), routing_key=name))
        self._reply_to = reply_to
        # some tracers do so, and give each message headers of its own
        self._wrapped = hasattr(Celery.send_task, "__wrapped__")
        self._template = lru_cache(TEMPLATES, typed=True)(self._make_template)

    def signature(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, queue: str, **options: Any
    ) -> Signature:
        """A task as a part of a canvas."""
        return self._app.signature(name, args=list(args), kwargs=dict(kwargs), queue=queue, **options)

    def build(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, queue: str, **options: Any
    ) -> tuple[list[str], list[Message]]:
        """The ids of the tasks whose results are asked for, here one, and all messages.

        Options are those of `Link.send`.

        Raises kombu's EncodeError or TypeError if an argument is not plain JSON data.
        """
        # in a worker's task, Celery makes that one the parent
        by_celery = self._wrapped or _is_observed() or self._app.current_worker_task
        if options.keys() <= ALIKE and not by_celery:
            task_id = options.pop("task_id", None) or str(uuid4())
            template = self._template(name, queue, self._reply_to(), **options)
            return [task_id], [template.filled(task_id, args, kwargs)]
        return self._build(name, list(args), dict(kwargs), queue=queue, **options)

    def _build(
        self, name: str, args: list[Any], kwargs: dict[str, Any], **options: Any
    ) -> tuple[list[str], list[Message]]:
        with self._recording() as recorder:
            result = self._app.send_task(name, args=args, kwargs=kwargs, **_celery_options(**options))
        return [result.id], recorder.messages

    def _make_template(self, name: str, queue: str, _reply_to: str, **options: Any) -> _Template:
        _, (message,) = self._build(name, [], {}, queue=queue, **options)
        longest, deepest = self._app.amqp.argsrepr_maxsize, self._app.conf.task_repr_maxlevels
        return _Template(message, partial(saferepr, maxlen=longest, maxlevels=deepest))

    def canvas(self, canvas: Signature, **options: Any) -> tuple[list[str], list[Message]]:
        """The ids of the tasks whose results are the canvas's own, and all messages.

        A group has as many as members; a chain has its last task's, a chord its body's.
        """
        with self._recording() as recorder:
            result = canvas.apply_async(**_celery_options(**options))
        return list(_ids(result)), recorder.messages

    def revocation(self, task_id: str, *, terminate: bool) -> Message:
        """What all workers are told so that none of them runs a task."""
        recorder = _Recorder()
        # what Celery's control calls; all around it takes a connection
        self._app.control.mailbox._publish(  # noqa: SLF001
            "revoke",
            {"task_id": task_id, "terminate": terminate, "signal": "SIGTERM"},
            channel=recorder,
            producer=recorder,
        )
        return recorder.messages[0]

    @contextmanager
    def _recording(self) -> Iterator[_Recorder]:
        self._app.recorder = recorder = _Recorder()
        with replies_to(self._app, self._reply_to()):
            yield recorder


def _is_observed() -> bool:
    """Whether anybody but us wants to see, and may change, each message of Celery's: tracing, for one."""
    return len(before_task_publish.receivers) > 1 or bool(after_task_publish.receivers)


def _celery_options(
    *,
    store: bool = True,
    headers: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    own = dict(headers or {})
    if not store:
        own[STORE] = "no"
    return {**options, "headers": own}


def _ids(result: Any) -> Iterator[str]:
    if isinstance(result, GroupResult):
        for member in result.results:
            yield from _ids(member)
    else:
        yield result.id
