"""What a worker answers to `inspect` and to Flower, sent without waiting for the broker."""

import logging
from typing import Any

from celery.app.control import Control as CeleryControl
from kombu import pidbox
from kombu.serialization import dumps

from celerykit.reply import Publisher

log = logging.getLogger(__name__)


class Node(pidbox.Node):
    """Answers from the worker's main loop, which must not stand still.

    Celery would wait for the broker's confirm, and connect again and again when there is no broker. Here an
    answer that cannot be sent at once is lost: whoever asked asks again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._publisher = Publisher(self.state.app, tries=1)

    def reply(self, data: Any, exchange: str, routing_key: str, ticket: str, **_: Any) -> None:
        """Send an answer to the queue of whoever asked, which is there already."""
        mailbox = self.mailbox
        content_type, content_encoding, body = dumps(data, mailbox.serializer)
        try:
            self._publisher.publish(
                body,
                exchange=exchange,
                routing_key=routing_key,
                content_type=content_type,
                content_encoding=content_encoding,
                headers={"ticket": ticket, "clock": mailbox.clock.forward()},
                properties={"delivery_mode": 1},
            )
        except Exception as error:  # noqa: BLE001  # whatever it is, the worker goes on
            log.warning("a control command was not answered: %r", error)


class Mailbox(pidbox.Mailbox):
    """The mailbox of such nodes."""

    node_cls = Node


class Control(CeleryControl):
    """What an app calls for its control commands."""

    Mailbox = Mailbox
