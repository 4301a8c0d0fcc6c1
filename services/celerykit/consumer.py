"""The worker's consumer: Celery's, but for messages that nobody can read."""

import logging
from typing import Any

from celery.worker.consumer import Consumer as CeleryConsumer

log = logging.getLogger(__name__)


class Consumer(CeleryConsumer):
    """Gives up what cannot be decoded to the dead letters; Celery would throw it away."""

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Reject a message that is no JSON, or is of a kind that is not accepted."""
        log.error("a message of %s cannot be read: %s", message.delivery_info.get("routing_key"), exc)
        message.reject_log_error(log, self.connection_errors)
