"""`/v1/operations/{id}`: what became of an accepted task, whichever gateway took it; revoking it."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from celerykit.link import PUBLISH_SECONDS, Outcome, Unavailable
from gateway.handlers.base import Handler
from gateway.operations import Operation, database_errors
from gateway.outcomes import described, ended
from gateway.payload import parameter
from gateway.problems import BROKER_UNAVAILABLE, NOT_ALLOWED, UNKNOWN_OPERATION, Problem, retry_after

RETRY_SECONDS = "1"


class Operations(Handler):
    """With `?wait=N` the answer comes when the task ends, or after N seconds with the state of then."""

    route = "/v1/operations/{id}"

    async def get(self, id: str) -> None:  # noqa: A002  # the word of the route
        """200 with the operation, also of a task that failed; 404 if it is unknown or another's."""
        owner = self.owner()
        wait = parameter("wait", self.get_query_argument("wait", "0"), Annotated[int, Meta(ge=0)])
        wait = min(wait, self.gateway.settings.max_wait_seconds)
        operation, outcome = await self._find(id, owner)
        if wait and not ended(outcome):
            async with database_errors(self._patience + wait):
                outcome = await self.gateway.link.wait(id, wait) or outcome
        self._answer(id, operation, outcome)

    async def delete(self, id: str) -> None:  # noqa: A002
        """202 with the operation: no worker will start it now. 200 if it has ended already.

        A task that runs goes on and ends as it would have, unless `?terminate=true` is asked for and the
        catalogue allows it (else 403).
        """
        owner = self.owner()
        terminate = parameter("terminate", self.get_query_argument("terminate", "false"), bool)
        operation, outcome = await self._find(id, owner)
        task = self.gateway.catalogue.get(operation.task) if operation else None
        if terminate and not (task and task.terminable):
            raise Problem(NOT_ALLOWED, "The catalogue does not allow to end the task while it runs.")
        if not ended(outcome):
            try:
                async with database_errors(self._patience + PUBLISH_SECONDS):
                    await self.gateway.link.revoke(id, terminate=terminate)
            except Unavailable:
                detail = "Workers that are up could not be told. Retry; those that start later know."
                raise Problem(BROKER_UNAVAILABLE, detail, headers=retry_after(5)) from None
            outcome = await self._outcome(id)
        self._answer(id, operation, outcome, 200 if ended(outcome) else 202)

    @property
    def _patience(self) -> int:
        return self.gateway.settings.database_timeout_seconds

    async def _find(self, id: str, owner: str) -> tuple[Operation | None, Outcome | None]:  # noqa: A002
        unknown = Problem(UNKNOWN_OPERATION, "It never was, has expired, or is not yours.")
        if not _is_task_id(id):
            raise unknown
        operation = await self.gateway.operations.get(id)
        # what has no row belongs to nobody in particular: to everybody if there are no keys, else to none
        if owner != (operation.owner if operation else ""):
            raise unknown
        outcome = await self._outcome(id)
        if outcome is None and operation is None:
            raise unknown
        return operation, outcome

    async def _outcome(self, id: str) -> Outcome | None:  # noqa: A002
        async with database_errors(self._patience):
            return (await self.gateway.link.results.fetch([id])).get(id)

    def _answer(
        self,
        id: str,  # noqa: A002
        operation: Operation | None,
        outcome: Outcome | None,
        status: int = 200,
    ) -> None:
        if not ended(outcome):
            self.set_header("Retry-After", RETRY_SECONDS)
        tracebacks = self.gateway.settings.expose_tracebacks
        self.answer(described(id, operation, outcome, traceback=tracebacks), status)


def _is_task_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
