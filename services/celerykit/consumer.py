"""The worker's consumer: Celery's, but for unreadable messages, task events, and what no slot has begun."""

import logging
from typing import Any

from celery.worker import state
from celery.worker.consumer import Consumer as CeleryConsumer

EVENTS_EVERY = 0.25  # seconds for which task events are gathered

log = logging.getLogger(__name__)


class Consumer(CeleryConsumer):
    """Gives up what cannot be decoded to the dead letters; Celery would throw it away."""

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Reject a message that is no JSON, or is of a kind that is not accepted."""
        log.error("a message of %s cannot be read: %s", message.delivery_info.get("routing_key"), exc)
        message.reject_log_error(log, self.connection_errors)

    def register_with_event_loop(self, hub: Any) -> None:
        """Send task events together: a message for each costs more than the rest of a short task."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(EVENTS_EVERY, self._flush_events)

    def on_send_event_buffered(self) -> None:
        """Leave them to the timer; Celery sends them with the next turn of the loop."""

    def give_back(self) -> None:
        """Return to their queues the messages that no slot has begun with; the loop's thread calls it."""
        if self.controller.semaphore is not None:  # where they wait for a child of prefork
            self.controller.semaphore._waiting.clear()  # noqa: SLF001  # there is no public way
        # copied in one step: a weak set that another thread changes cannot be iterated
        for reference in (*state.reserved_requests.data,):
            if (request := reference()) is not None:
                request.give_back()

    def shutdown(self) -> None:
        """Tell of the last tasks, too."""
        self._flush_events()
        super().shutdown()
