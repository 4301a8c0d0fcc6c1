"""`POST /v1/tasks/{name}`: run a task and wait for it, or accept it for later."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from celerykit.link import LinkError, NoQueue, NotFinished, Outcome, Unavailable, Unsendable
from gateway import prefer
from gateway.catalogue import Task
from gateway.handlers.base import Handler
from gateway.operations import DatabaseUnavailable, Operation
from gateway.outcomes import described, problem_with
from gateway.payload import Options, invalid, plain, task_request
from gateway.problems import DATABASE_UNAVAILABLE, NOT_ALLOWED, TOO_LARGE, UNKNOWN_TASK, Problem


class TaskHandler(Handler):
    """A handler that runs tasks of the catalogue."""

    takes_tasks = True

    def task(self, name: str) -> Task:
        """What the catalogue knows of a task; raises Problem (403, 404)."""
        task = self.gateway.catalogue.get(name)
        if task is None:
            raise Problem(UNKNOWN_TASK, f"The catalogue has no task {name!r}.")
        if not task.allowed:
            raise Problem(NOT_ALLOWED, f"The catalogue does not allow {name!r} to be called.")
        return task

    async def call(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, wait: float, **options: Any
    ) -> Outcome:
        """Await a task; raises NotFinished when the broker has it and it takes longer, Problem as `send`."""
        with unsendable_told(args, kwargs, options), self.counted_publish():
            outcome = await self.gateway.link.call(name, args, kwargs, wait=wait, **options)
        self.count_accepted(name)
        return outcome

    async def send(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any) -> None:
        """Send a task and await the broker's confirm; raises Problem (422) for what no message can carry."""
        seconds = self.gateway.metrics.publish_seconds
        with unsendable_told(args, kwargs, options), self.counted_publish(), seconds.time():
            await self.gateway.link.send(name, args, kwargs, **options)

    def count_accepted(self, name: str) -> None:
        """Count a task that the broker has and that the client is told of."""
        self.gateway.metrics.accepted.labels(self.gateway.catalogue[name].queue, name).inc()

    @contextmanager
    def counted_publish(self) -> Iterator[None]:
        """Count what the broker said to what is done within."""
        publish = self.gateway.metrics.publish
        try:
            yield
        except NotFinished:
            publish.labels("confirmed").inc()
            raise
        except Unavailable as error:
            publish.labels("returned" if isinstance(error, NoQueue) else "error").inc()
            raise
        publish.labels("confirmed").inc()


class Tasks(TaskHandler):
    """`{"args": [], "kwargs": {}, "options": {"countdown", "expires", "priority"}}`, all optional.

    `Prefer: wait=N` answers 200 with the result if the task ends in N seconds. Else, with
    `Prefer: respond-async` and without any preference the answer is 202 and names the operation.
    """

    route = "/v1/tasks/{name}"

    async def post(self, name: str) -> None:
        """200 with `{"id", "state", "result"}`, or 202 with the operation and its `Location`."""
        owner = self.owner()
        task = self.task(name)
        request = task_request(self.json_body())
        preferences = prefer.parse(
            self.request.headers.get_list("Prefer"), longest=self.gateway.settings.max_wait_seconds
        )
        now = time.time()
        delay = math.ceil(request.options.countdown or 0)
        lasts = delay + self.gateway.settings.operation_ttl_seconds
        operation = Operation(str(uuid4()), name, task.queue, owner, now, now + lasts)
        message: dict[str, Any] = {"args": request.args, "kwargs": request.kwargs, "task_id": operation.id}
        message |= message_options(task, request.options)
        with self.gateway.foreign.expect(task, operation.id, delay) as keep:
            if preferences.wait:
                try:
                    outcome = await self.call(name, wait=preferences.wait, **message)
                except NotFinished:
                    await self._remember(operation)
                else:
                    self._answer_outcome(outcome, preferences)
                    return
            else:
                await self._accept(operation, message)
            keep()
        self.count_accepted(name)
        if applied := preferences.applied():
            self.set_header("Preference-Applied", applied)
        self.set_header("Location", f"/v1/operations/{operation.id}")
        self.set_header("Retry-After", str(max(1, delay)))
        self.answer(described(operation.id, operation, None), 202)

    async def _accept(self, operation: Operation, message: dict[str, Any]) -> None:
        """Write the row, then publish: a database that is away keeps the task from running unseen."""
        await self.gateway.operations.insert(operation)
        try:
            await self.send(operation.task, **message)
        except (LinkError, Problem):
            with suppress(DatabaseUnavailable):
                await self.gateway.operations.delete(operation.id)
            raise

    async def _remember(self, operation: Operation) -> None:
        """Write the row of a task that the broker has already."""
        try:
            await self.gateway.operations.insert(operation)
        except DatabaseUnavailable:
            detail = "The broker has the task, which may run; the database could not take note of it."
            raise Problem(
                DATABASE_UNAVAILABLE, detail, headers={"Retry-After": "5"}, id=operation.id
            ) from None

    def _answer_outcome(self, outcome: Outcome, preferences: prefer.Preferences) -> None:
        applied = preferences._replace(respond_async=False).applied()
        if outcome.state != "SUCCESS":
            raise problem_with(
                outcome,
                headers={"Preference-Applied": applied},
                traceback=self.gateway.settings.expose_tracebacks,
            )
        self.set_header("Preference-Applied", applied)
        self.answer({"id": outcome.task_id, "state": outcome.state, "result": plain(outcome.result)})


def message_options(task: Task, options: Options) -> dict[str, Any]:
    """The options of a message: the client's, within the limits of the catalogue.

    Raises Problem (422) for a task that would expire before it is due.
    """
    expires = [seconds for seconds in (options.expires, task.expires_seconds) if seconds is not None]
    expiry = min(expires, default=None)
    if expiry is not None and (options.countdown or 0) >= expiry:
        raise invalid(f"Must be below {expiry:g} seconds, when the task expires - at `$.options.countdown`")
    given = {
        "countdown": options.countdown,
        "priority": options.priority,
        "expires": expiry,
        **task.limits(),
    }
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def unsendable_told(
    args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
) -> Iterator[None]:
    """Raise Problem (422 with the field, or 413) for what of a client's request no message can carry.

    What the client has no part in is raised as it is.
    """
    try:
        yield
    except Unsendable as error:
        match error.part:
            case "body":
                raise Problem(TOO_LARGE, "As a message it is more than the broker takes.") from error
            case "headers":  # they show the arguments, each cut to about 4 KB: more than some brokers take
                field = "args" if len(repr(args)) >= len(repr(kwargs)) else "kwargs"
                why = "Of this, what goes into the message's headers is more than the broker takes"
            case "routing_key" if options.get("countdown"):
                field, why = "options.countdown", "The name of the task's queue is too long for a delay"
            case "priority" if options.get("priority") is not None:
                field, why = "options.priority", "AMQP has no such priority"
            case _:
                raise
        raise invalid(f"{why} - at `$.{field}`") from error
