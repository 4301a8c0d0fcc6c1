"""Revocations that a worker could not hear of, since it was away: read from the database when it connects."""

import logging
from typing import Any

import pymysql
from celery import bootsteps
from celery.worker import state

from celerykit import timers
from celerykit.database import connect
from celerykit.waits import REVOKING

# Celery forgets what it has heard after three hours; a task may wait for longer
AGAIN_SECONDS = 3600
TIMEOUT = 5.0  # seconds; Celery's main loop stands still meanwhile

log = logging.getLogger(__name__)


class RevocationsStep(bootsteps.StartStopStep):
    """Comes after the step that hears of new revocations and before the first message: no gap between."""

    requires = ("celery.worker.consumer.control:Control",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        self._again: Any = None
        super().__init__(c, **kwargs)

    def start(self, c: Any) -> None:
        """The consumer has connected."""
        self._read(c)
        self._again = c.timer.call_repeatedly(AGAIN_SECONDS, self._read, (c,))

    def stop(self, c: Any) -> None:  # noqa: ARG002  # Celery's signature
        """The connection is gone."""
        timers.end(self._again)

    def _read(self, c: Any) -> None:
        try:
            with connect(c.app.celerykit.settings.database_url, timeout=TIMEOUT) as database:
                cursor = database.cursor()
                cursor.execute(
                    "SELECT task_id FROM celery_taskmeta WHERE date_done IS NULL AND status = %s", (REVOKING,)
                )
                state.revoked.update(task_id for (task_id,) in cursor.fetchall())
        except pymysql.MySQLError as error:
            log.warning("revocations could not be read, so that a revoked task may run: %r", error)
