"""The profiles: the kit's settings as Celery's, and the queues they mean."""

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from amqp.exceptions import PreconditionFailed
from celery import Celery, signals
from celery.app.amqp import AMQP, Queues
from celery.utils.time import maybe_make_aware
from kombu import Exchange, Queue

from celerykit import tls
from celerykit.settings import Settings

PUBLISHED_AT = "x-published-at"
FAST_PREFETCH = 16  # messages that a worker takes for each slot
FAST_TIME_LIMIT = 60  # seconds: the others wait so long behind a task that hangs
DELAYED = re.compile(r"^(?:[01]\.){28}")  # what native delayed delivery puts before the routing key
# what the broker notes of a message's past
PAST = ("x-death", "x-delivery-count", "x-acquired-count", "x-first-death-", "x-last-death-", "x-opt-")

log = logging.getLogger(__name__)


def queue(name: str, settings: Settings) -> Queue:
    """The queue of a name: quorum, on a topic exchange, both with the queue's own name.

    Its arguments are a contract: a queue that exists with others is refused by the broker (406).
    """
    return Queue(
        name,
        Exchange(name, type="topic", durable=True),
        routing_key=name,
        durable=True,
        queue_arguments={
            "x-queue-type": "quorum",
            "x-delivery-limit": settings.delivery_limit,
            "x-dead-letter-exchange": f"{name}.dlx",
            # a dead letter leaves the queue only once the other one has it; needs reject-publish
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )


def dead_letters(name: str) -> Queue:
    """The queue that takes what queue `name` gives up: rejected, expired, or delivered too often."""
    return Queue(
        f"{name}.dlq",
        Exchange(f"{name}.dlx", type="fanout", durable=True),
        durable=True,
        # RabbitMQ 4 has a limit of its own, 20: a letter that is looked at more often would be thrown away
        queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": 1_000_000},
    )


@contextmanager
def declaring() -> Iterator[None]:
    """End the worker with one clear message, and code 2, if a queue is there with other arguments.

    Celery would try again for ever, and the queue would stay what it is.
    """
    try:
        yield
    except PreconditionFailed as error:
        log.critical(
            "The broker has this queue or exchange with other arguments than ours: %s. Empty it, delete it"
            " and start again; or put back the setting it was made with (CELERYKIT_DELIVERY_LIMIT is one); or"
            " name a new queue in CELERYKIT_QUEUES.",
            error.reply_text,
        )
        raise SystemExit(2) from None


def configure(app: Celery, settings: Settings) -> None:
    """Give an app the profile; its own later settings win, on its own risk."""

    class KitQueues(Queues):
        """Makes a queue that is named but not listed as the kit makes all its queues."""

        def new_missing(self, name: str) -> Queue:
            return queue(name, settings)

    class KitAMQP(AMQP):
        queues_cls = KitQueues

        def TaskConsumer(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802  # Celery's name
            with declaring():
                return super().TaskConsumer(*args, **kwargs)

    app.amqp_cls = KitAMQP
    send = app.send_task
    # whatever sends a task comes by here: tasks, canvases, retries
    app.send_task = lambda name, *args, **options: send(name, *args, **in_whole_seconds(app, options))
    app.events_cls = "celerykit.events:Events"
    app.control_cls = "celerykit.control:Control"
    app.conf.update(celery_settings(settings))
    signals.before_task_publish.connect(stamp_publish_time)


def celery_settings(settings: Settings) -> dict[str, Any]:
    """The profile in Celery's words."""
    fast = settings.profile == "fast"
    limit = settings.task_time_limit
    return {
        "broker_url": settings.broker_url,
        "broker_use_ssl": tls.for_kombu(settings.broker_url, settings.broker_ca_file),
        "result_backend": f"celerykit.backend:Backend+{settings.database_url}",
        # JSON only, both ways: a pickle is code of whoever can reach the broker
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "task_queues": [_consumed(name, settings) for name in settings.queues],
        "task_default_queue": settings.queues[0],
        "task_default_exchange": settings.queues[0],
        "task_default_exchange_type": "topic",
        "task_default_routing_key": settings.queues[0],
        "task_default_queue_type": "quorum",
        # nothing is lost: the broker confirms, a task is acknowledged once it is done
        "broker_transport_options": {"confirm_publish": True},
        "worker_consumer": "celerykit.consumer:Consumer",
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_deduplicate_successful_tasks": True,
        "worker_prefetch_multiplier": FAST_PREFETCH if fast else 1,
        "task_time_limit": min(limit, FAST_TIME_LIMIT) if fast else limit,
        "worker_max_tasks_per_child": settings.worker_max_tasks_per_child or None,
        "worker_max_memory_per_child": settings.worker_max_memory_per_child_kib or None,
        "worker_soft_shutdown_timeout": settings.soft_shutdown_seconds,
        "result_expires": settings.result_expires_seconds,
        "result_backend_thread_safe": True,  # or each thread, with gevent each task, gets one of its own
        "result_backend_always_retry": True,  # about five minutes of a database that is away
        "result_backend_max_retries": 600,
        "result_backend_base_sleep_between_retries_ms": 20,
        "result_backend_max_sleep_between_retries_ms": 1000,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,  # for ever
        "broker_heartbeat": 30,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_send_task_events": settings.task_events and not fast,
    }


def _consumed(name: str, settings: Settings) -> Queue:
    """The queue as a worker consumes it: with packing, the older the worker, the more it is preferred."""
    consumed = queue(name, settings)
    if settings.packing:
        consumed.consumer_arguments = {"x-priority": -int(time.time())}
    return consumed


def without_task_records() -> None:
    """Keep Celery from logging that a task was received and that it succeeded; failures are logged still."""
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)


def undelayed(routing_key: str) -> str:
    """The routing key that a message had before delayed delivery, which is its queue's name."""
    return DELAYED.sub("", routing_key)


def in_whole_seconds(app: Celery, options: dict[str, Any]) -> dict[str, Any]:
    """Round a delay up: delayed delivery knows whole seconds, and Celery fails on less than one."""
    countdown, eta = options.get("countdown"), options.get("eta")
    if countdown:
        return options | {"countdown": ceil(countdown)}
    if eta:
        due = maybe_make_aware(datetime.fromisoformat(eta) if isinstance(eta, str) else eta, app.timezone)
        soon = app.now() + timedelta(seconds=1)
        return options | {"eta": max(due, soon) if due > app.now() else due}
    return options


def without_past(headers: dict[str, Any]) -> dict[str, Any]:
    """The headers for a new start; with those of its past, the broker may take it for a cycle and drop it."""
    return {name: value for name, value in headers.items() if not name.startswith(PAST)}


def stamp_publish_time(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """Note when a message was published, from which the worker tells its queue wait."""
    if headers is not None:
        headers[PUBLISHED_AT] = time.time()  # a retry copies the headers of the run before
