"""The routes of the article that started the kit: a slow query, and an answer that it must not hold up."""

from typing import Annotated

from msgspec import Meta

from celerykit.link import NotFinished
from gateway.handlers.base import Handler
from gateway.handlers.tasks import TaskHandler, message_options
from gateway.outcomes import problem_with
from gateway.payload import Options, parameter, plain
from gateway.problems import UNFINISHED, Problem

Flag = Annotated[int, Meta(ge=-(2**31), lt=2**31)]
Delay = Annotated[float, Meta(ge=0, le=30)]


class MysqlQuery(TaskHandler):
    """`GET /mysql_query/{flag}?delay=SECONDS`: rows that a worker reads from MySQL, slowly if asked to."""

    route = "/mysql_query/{flag}"

    async def get(self, flag: str) -> None:
        """200 with the rows, `[{"id", "name", "flag"}]`."""
        self.owner()
        name, settings = "task.query_users", self.gateway.settings
        task = self.task(name)
        arguments = {
            "flag": parameter("flag", flag, Flag),
            "delay": parameter("delay", self.get_query_argument("delay", "0"), Delay),
        }
        try:
            outcome = await self.call(
                name, (), arguments, wait=settings.max_wait_seconds, **message_options(task, Options())
            )
        except NotFinished as error:
            detail = f"It may still run; it did not end in {settings.max_wait_seconds} s."
            raise Problem(UNFINISHED, detail, id=error.task_id) from None
        if outcome.state != "SUCCESS":
            raise problem_with(outcome, traceback=settings.expose_tracebacks)
        self.answer(plain(outcome.result))


class IWantYouNow(Handler):
    """`GET /i_want_you_now`: answered at once, whatever else is under way."""

    route = "/i_want_you_now"

    async def get(self) -> None:
        """200."""
        self.owner()
        self.answer("I love you")
