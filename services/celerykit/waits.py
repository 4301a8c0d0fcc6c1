"""The callers that wait for a task's end, and the one clock that ends their waiting."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

ENDED = frozenset({"SUCCESS", "FAILURE", "REVOKED"})  # the states that a task does not leave
TICK = 0.05  # seconds: deadlines are kept to this
REVOKING = "REVOKING"  # a state of ours, not an end: whichever worker gets the task shall revoke it


class Outcome(msgspec.Struct, frozen=True):
    """How a task ended, as plain data; nothing of it is ever rebuilt into an exception.

    A failure's `result` is {"exc_type": …, "exc_message": …, "exc_module": …}.
    """

    task_id: str
    state: str
    result: Any
    traceback: str | None = None
    date_done: str | None = None


@dataclass(slots=True, eq=False)
class Wait:
    """One caller's wait for one task."""

    task_id: str
    future: "asyncio.Future[Outcome | None]"
    since: float  # the loop's time; the sweep looks after those who wait for long
    slot: int


class Waits:
    """All waits of a link. Deadlines lie in slots of one wheel: no timer each, and cheap to take back."""

    def __init__(self) -> None:
        self._by_task: dict[str, list[Wait]] = {}
        self._wheel: dict[int, set[Wait]] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, task_id: str, seconds: float, *, since: float | None = None) -> Wait:
        """Begin to wait; the future gives the outcome, or None after `seconds`."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        slot = int((now + max(seconds, 0)) / TICK) + 1
        wait = Wait(task_id, loop.create_future(), now if since is None else since, slot)
        self._by_task.setdefault(task_id, []).append(wait)
        self._wheel.setdefault(slot, set()).add(wait)
        self._count += 1
        if self._timer is None:
            self._timer = loop.call_later(TICK, self._turn, int(now / TICK))
        return wait

    def remove(self, wait: Wait) -> None:
        """End a wait, whether it got its outcome or not."""
        waits = self._by_task.get(wait.task_id)
        if waits is None or wait not in waits:
            return
        waits.remove(wait)
        if not waits:
            del self._by_task[wait.task_id]
        slot = self._wheel.get(wait.slot, set())
        slot.discard(wait)
        if not slot:
            self._wheel.pop(wait.slot, None)
        self._count -= 1

    def resolve(self, outcome: Outcome) -> None:
        """Give all who wait for the task its outcome; late and second ones find nobody."""
        for wait in self._by_task.get(outcome.task_id, ()):
            if not wait.future.done():
                wait.future.set_result(outcome)

    def expire(self) -> None:
        """End all waits, each with None."""
        for waits in self._by_task.values():
            for wait in waits:
                if not wait.future.done():
                    wait.future.set_result(None)

    def older_than(self, moment: float) -> Iterable[str]:
        """The tasks that somebody has waited for since before `moment` of the loop's time."""
        return [task for task, waits in self._by_task.items() if any(wait.since <= moment for wait in waits)]

    def _turn(self, last: int) -> None:
        loop = asyncio.get_running_loop()
        current = int(loop.time() / TICK)
        for slot in range(last, current + 1):
            for wait in self._wheel.pop(slot, ()):
                if not wait.future.done():
                    wait.future.set_result(None)
        self._timer = loop.call_later(TICK, self._turn, current) if self._count else None
