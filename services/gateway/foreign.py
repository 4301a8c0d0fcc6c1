"""Foreign tasks that were accepted: their workers write no row, so the gateway that sent one does."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from celerykit.link import Link, Outcome
from gateway.catalogue import Task
from gateway.operations import DatabaseUnavailable, database_errors
from gateway.settings import GatewaySettings

PAUSES = tuple(2.0**n for n in range(9))  # seconds between the tries to write a row: over eight minutes

log = logging.getLogger(__name__)


class Foreign:
    """Expects answers beyond the request. What comes after this process has ended, nobody keeps."""

    def __init__(self, link: Link, settings: GatewaySettings) -> None:
        self._link = link
        self._settings = settings
        self._kept: dict[asyncio.Future[Outcome | None], asyncio.Task[None]] = {}

    @contextmanager
    def expect(self, task: Task, task_id: str, delay: float = 0) -> Iterator[Callable[[], None]]:
        """Expect the answer of a task if it is foreign, from before it is sent; raises Saturated.

        What is given is to be called once the task was accepted: its answer will then become its row.
        """
        if not task.foreign:
            yield lambda: None
            return
        answer = self._link.expect(task_id, delay + self._settings.foreign_wait_seconds)
        try:
            yield lambda: self._keep(task_id, answer)
        finally:
            if answer not in self._kept:
                answer.cancel()

    async def close(self) -> None:
        """Expect nothing any more."""
        if self._kept:
            log.warning("%d accepted foreign tasks have not ended: their results get lost", len(self._kept))
        keepers = list(self._kept.values())
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)

    def _keep(self, task_id: str, answer: "asyncio.Future[Outcome | None]") -> None:
        self._kept[answer] = keeper = asyncio.create_task(self._store(task_id, answer))
        keeper.add_done_callback(lambda _: self._kept.pop(answer))

    async def _store(self, task_id: str, answer: "asyncio.Future[Outcome | None]") -> None:
        outcome = await answer
        if outcome is None:
            log.warning("foreign task %s has not ended in time: its result gets lost", task_id)
            return
        for pause in PAUSES:
            with suppress(DatabaseUnavailable):  # which has been logged
                async with database_errors(self._settings.database_timeout_seconds):
                    await self._link.results.store(outcome)
                return
            await asyncio.sleep(pause)
        log.error("the result of foreign task %s could not be written and is lost", task_id)
