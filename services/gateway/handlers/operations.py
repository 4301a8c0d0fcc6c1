"""`GET /v1/operations/{id}`: what became of a task that was accepted, by whichever gateway."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from gateway.handlers.base import Handler
from gateway.operations import database_errors
from gateway.outcomes import described, ended
from gateway.payload import parameter
from gateway.problems import UNKNOWN_OPERATION, Problem

RETRY_SECONDS = "1"


class Operations(Handler):
    """With `?wait=N` the answer comes when the task ends, or after N seconds with the state of then."""

    route = "/v1/operations/{id}"

    async def get(self, id: str) -> None:  # noqa: A002  # the word of the route
        """200 with the operation, also of a task that failed; 404 if it is unknown or another's."""
        owner = self.owner()
        wait = parameter("wait", self.get_query_argument("wait", "0"), Annotated[int, Meta(ge=0)])
        wait = min(wait, self.gateway.settings.max_wait_seconds)
        unknown = Problem(UNKNOWN_OPERATION, "It never was, has expired, or is not yours.")
        if not _is_task_id(id):
            raise unknown
        operation = await self.gateway.operations.get(id)
        # what has no row belongs to nobody in particular: to everybody if there are no keys, else to none
        if owner != (operation.owner if operation else ""):
            raise unknown
        link, patience = self.gateway.link, self.gateway.settings.database_timeout_seconds
        async with database_errors(patience):
            outcome = (await link.results.fetch([id])).get(id)
        if outcome is None and operation is None:
            raise unknown
        if wait and not ended(outcome):
            async with database_errors(patience + wait):
                outcome = await link.wait(id, wait) or outcome
        if not ended(outcome):
            self.set_header("Retry-After", RETRY_SECONDS)
        self.answer(described(id, operation, outcome, traceback=self.gateway.settings.expose_tracebacks))


def _is_task_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
