"""Task events, which Flower shows, sent without the broker's confirm."""

from typing import Any

from celery.app.events import Events as CeleryEvents
from celery.events import EventDispatcher
from kombu import Connection


class Dispatcher(EventDispatcher):
    """Never waits for the broker.

    The worker's main loop sends events. If it waited for their confirms it would stand still while the broker
    blocks publishers, and for ever when the network has gone silent: nobody would be left to notice that the
    heartbeats are missing.
    """

    def __init__(self, connection: Connection | None = None, *args: Any, **kwargs: Any) -> None:
        if connection is not None:
            connection.connection.confirm_publish = False  # of the channels to come
        super().__init__(connection, *args, **{"buffer_limit": 200, **kwargs})


class Events(CeleryEvents):
    """What an app calls for its events."""

    dispatcher_cls = Dispatcher
