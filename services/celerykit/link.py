"""The link: send a Celery task from an asyncio program and await its answer, which the worker pushes.

No thread waits and nothing polls. A sweep of the database finds the results whose push was lost or never
came (a broker that restarted, a task that succeeded before and is not run again).
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from celery.canvas import Signature

from celerykit.envelope import Envelopes, Message
from celerykit.reply import PREFIX
from celerykit.results import Database, ResultStore, decode
from celerykit.settings import Settings
from celerykit.transport import LinkError, NoQueue, Transport, Unavailable, Unsendable
from celerykit.waits import ENDED, Outcome, Wait, Waits

__all__ = [
    "Link",
    "LinkError",
    "NoQueue",
    "NotFinished",
    "Outcome",
    "Saturated",
    "Unavailable",
    "Unsendable",
]

PUBLISH_SECONDS = 5.0  # for the broker to take a message, a reconnect included
SWEEP_SECONDS = 1.0
SWEEP_AGE = 3.0  # seconds that a wait is left to its reply alone

log = logging.getLogger(__name__)


class Saturated(LinkError):
    """As many waits as allowed are under way."""


class NotFinished(LinkError):
    """The broker has the task, and it did not end in the time that was given; `task_ids` name the results."""

    def __init__(self, *task_ids: str) -> None:
        super().__init__(f"{', '.join(task_ids)}: not ended yet")
        self.task_ids = list(task_ids)

    @property
    def task_id(self) -> str:
        """The id, of a call of one task."""
        return self.task_ids[0]


class Link:
    """One per process and event loop.

    `queues` maps a task's name to its queue. `foreign` names those queues of which the workers are not ours:
    plain Celery workers with the result backend `rpc://` answer there as well.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        service: str = "gateway",
        queues: Mapping[str, str],
        foreign: Collection[str] = (),
        max_in_flight: int = 1000,
        database: Database | None = None,
    ) -> None:
        self._queues = queues
        self._max_in_flight = max_in_flight
        self._envelopes = Envelopes(settings, lambda: self._transport.reply_queue, foreign)
        self._waits = Waits()
        self._expected = Waits()  # the sweep would find nothing of these
        self._calls: set[asyncio.Future[Outcome]] = set()
        self._transport = Transport(settings, f"{PREFIX}reply.{service}", self._on_reply, self._on_connect)
        self.database = database or Database(settings.database_url)
        self.results = ResultStore(self.database)
        self._sweeper: asyncio.Task[None] | None = None
        self._reconnected = False

    @property
    def connected(self) -> bool:
        """Whether tasks can be sent and replies received."""
        return self._transport.connected

    @property
    def in_flight(self) -> int:
        """Waits now."""
        return len(self._waits)

    async def start(self) -> None:
        """Connect in the background; returns at once, also while the broker is away."""
        self._transport.start()
        self._sweeper = asyncio.create_task(self._sweep_forever(), name="celerykit-sweep")

    def end_waits(self) -> None:
        """End all waits as if their time was up, as a program does that is about to stop."""
        self._waits.expire()

    async def close(self) -> None:
        """Leave the broker and the database; whoever waits still, waits until its deadline."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._transport.close()
        await self.database.close()

    async def send(
        self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> str:
        """Send a task and return its id once the broker has confirmed it.

        Options: task_id, store (False: no row in the database), countdown and expires in seconds, eta,
        priority, time_limit and soft_time_limit in seconds, headers. Raises Unavailable, NoQueue, or
        Unsendable if AMQP cannot carry it.
        """
        (task_id,), messages = self._build(name, args, kwargs, options)
        await self._publish(messages)
        return task_id

    async def call(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        wait: float,
        **options: Any,
    ) -> Outcome:
        """Send a task and await its end for `wait` seconds; options as in `send`.

        Raises NotFinished when the broker has the task and it has not ended, Saturated before anything is
        sent, and as `send` does when the broker did not take it. What is cancelled before it is written is
        not sent.
        """
        (outcome,) = await self._run(*self._build(name, args, kwargs, options), wait)
        return outcome

    def apply_async(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        callback: Callable[["asyncio.Future[Outcome]"], object],
        wait: float,
        **options: Any,
    ) -> "asyncio.Future[Outcome]":
        """Do as `call` does, in callback style: returns at once.

        `callback` gets the future when all is over: its `result()` is the outcome, or raises what `call`
        raises.
        """
        future = asyncio.ensure_future(self.call(name, args, kwargs, wait=wait, **options))
        self._calls.add(future)  # or nobody would hold it
        future.add_done_callback(self._calls.discard)
        future.add_done_callback(callback)
        return future

    def signature(
        self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Signature:
        """A task as a part of a chain, group or chord for `call_canvas`; options are Celery's."""
        return self._envelopes.signature(name, args, kwargs or {}, queue=self._queues[name], **options)

    async def call_canvas(self, canvas: Signature, *, wait: float, **options: Any) -> list[Outcome]:
        """Send a chain, group or chord of signatures and await its end; raises as `call` does.

        A group gives an outcome for each member, in their order; a chain its last task's alone, a chord its
        body's. A chain or chord that fails ends with the failure.
        """
        return await self._run(*self._envelopes.canvas(canvas, **options), wait)

    def _run(
        self, task_ids: list[str], messages: list[Message], wait: float
    ) -> Coroutine[Any, Any, list[Outcome]]:
        """Begin to wait and publish; what is returned awaits the end, and keeps no message meanwhile."""
        self._admit(len(task_ids))
        slots = [self._waits.add(task_id, wait) for task_id in task_ids]
        # an answer is as good as a confirm, so nobody waits for that first
        publishing = self._publish(messages)
        publishing.add_done_callback(partial(_end_if_failed, slots))
        return self._ended(slots, publishing)

    async def _ended(self, slots: list[Wait], publishing: "asyncio.Future[None]") -> list[Outcome]:
        outcomes = []
        try:
            for slot in slots:
                if outcome := await slot.future:
                    outcomes.append(outcome)  # noqa: PERF401  # the waits end in the `finally` all the same
        except asyncio.CancelledError:
            if not isinstance(publishing, asyncio.Task):  # a canvas goes whole
                publishing.cancel()
            raise
        finally:
            for slot in slots:
                self._waits.remove(slot)
        if len(outcomes) < len(slots):
            await publishing
            raise NotFinished(*(slot.task_id for slot in slots))
        return outcomes

    async def wait(self, task_id: str, wait: float) -> Outcome | None:
        """Await the end of any task, whoever sent it; None when `wait` seconds were not enough.

        Raises Saturated, and pymysql.MySQLError or OSError when the database cannot be asked.
        """
        outcome = (await self.results.fetch([task_id])).get(task_id)
        if outcome is not None and outcome.state in ENDED:
            return outcome
        if wait <= 0:
            return None
        self._admit()
        # the reply goes to whom sent it, so this wait is the sweep's from the start
        slot = self._waits.add(task_id, wait, since=0)
        try:
            return await slot.future
        finally:
            self._waits.remove(slot)

    def expect(self, task_id: str, seconds: float) -> "asyncio.Future[Outcome | None]":
        """Be told how a foreign task ended, of which its reply is all there is; None after `seconds`.

        Call it before the task is sent, and cancel the future if it is not needed. Raises Saturated: there
        may be as many of these as of waits.
        """
        if len(self._expected) >= self._max_in_flight:
            raise Saturated(f"{len(self._expected)} answers are expected, as many as allowed")
        slot = self._expected.add(task_id, seconds)
        slot.future.add_done_callback(lambda _: self._expected.remove(slot))
        return slot.future

    async def revoke(self, task_id: str, *, terminate: bool = False) -> None:
        """Have no worker start a task; with `terminate` also end it where it runs, in a prefork pool.

        It is noted in the database first, for workers that start later. What runs and is not terminated
        goes on, and its end counts. Raises Unavailable if the workers that run could not be told, and
        pymysql.MySQLError or OSError, with nothing done, when the database cannot be asked.
        """
        await self.results.revoke(task_id)
        with suppress(NoQueue):  # no worker is up
            await self._publish([self._envelopes.revocation(task_id, terminate=terminate)])

    def _admit(self, more: int = 1) -> None:
        if len(self._waits) + more > self._max_in_flight:
            raise Saturated(f"{len(self._waits)} waits are under way, as many as allowed")

    def _build(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None, options: dict[str, Any]
    ) -> tuple[list[str], list[Message]]:
        return self._envelopes.build(name, args, kwargs or {}, queue=self._queues[name], **options)

    def _publish(self, messages: list[Message]) -> "asyncio.Future[None]":
        if len(messages) == 1:
            return self._transport.publish(messages[0], PUBLISH_SECONDS)
        return asyncio.ensure_future(self._publish_in_order(messages))

    async def _publish_in_order(self, messages: list[Message]) -> None:
        for message in messages:
            await self._transport.publish(message, PUBLISH_SECONDS)

    def _on_connect(self) -> None:
        self._reconnected = True

    def _on_reply(self, task_id: str, body: bytes) -> None:
        meta = decode(body)
        # the first reply may be a retry's or a start's: only an end ends a wait
        state = meta.get("status") if isinstance(meta, dict) else None
        if isinstance(state, str) and state in ENDED:
            outcome = Outcome(
                task_id, state, meta.get("result"), meta.get("traceback"), meta.get("date_done")
            )
            self._waits.resolve(outcome)
            self._expected.resolve(outcome)

    async def _sweep_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            # replies may have been lost while the link was down: look after everybody once
            age, self._reconnected = (0.0 if self._reconnected else SWEEP_AGE), False
            overdue = self._waits.older_than(loop.time() - age)
            if not overdue:
                continue
            try:
                outcomes = await self.results.fetch(list(overdue))
            except Exception as error:  # noqa: BLE001  # whatever it is, the next round is due in a second
                log.warning("the sweep could not ask the database: %r", error)
                continue
            for outcome in outcomes.values():
                if outcome.state in ENDED:
                    self._waits.resolve(outcome)


def _end_if_failed(slots: list[Wait], publishing: "asyncio.Future[None]") -> None:
    """End the waits for tasks that the broker did not take; who waits asks the publish why."""
    if publishing.cancelled() or publishing.exception() is None:
        return
    for slot in slots:
        if not slot.future.done():
            slot.future.set_result(None)
