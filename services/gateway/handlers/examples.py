"""The routes of the article that started the kit: a slow query in four styles, and what it must not stop."""

import asyncio
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from celerykit.link import Outcome
from gateway.handlers.base import Handler
from gateway.handlers.tasks import TaskHandler, message_options
from gateway.outcomes import problem_with
from gateway.payload import Options, parameter, plain
from gateway.queries import Queries

TASK = "task.query_users"

Flag = Annotated[int, Meta(ge=-(2**31), lt=2**31)]
Delay = Annotated[float, Meta(ge=0, le=25)]  # PyMySQL reads for 30 s at most


class Query(NamedTuple):
    """What a client asks for."""

    flag: int
    delay: float


def query_of(handler: Handler, flag: str) -> Query:
    """The query of a request; raises Problem (401, 422)."""
    handler.owner()
    delay = handler.get_query_argument("delay", "0")
    return Query(parameter("flag", flag, Flag), parameter("delay", delay, Delay))


class MysqlQuery(TaskHandler):
    """`GET /mysql_query/{flag}?delay=SECONDS`: rows that a worker reads from MySQL, slowly if asked to."""

    route = "/mysql_query/{flag}"

    async def get(self, flag: str) -> None:
        """200 with the rows, `[{"id", "name", "flag"}]`."""
        self.answer_rows(await self.call(TASK, **self.message(flag)))

    def message(self, flag: str) -> dict[str, Any]:
        """The task of the query, as the link takes it."""
        query = query_of(self, flag)
        options = message_options(self.task(TASK), Options())
        return {
            "args": (),
            "kwargs": query._asdict(),
            "wait": self.gateway.settings.max_wait_seconds,
            **options,
        }

    def answer_rows(self, outcome: Outcome) -> None:
        """Answer how the task ended; raises Problem if it failed."""
        if outcome.state != "SUCCESS":
            raise problem_with(outcome, traceback=self.gateway.settings.expose_tracebacks)
        self.answer(plain(outcome.result))


class IWantYouNow(Handler):
    """`GET /i_want_you_now`: answered at once, whatever else is under way, but for the blocking example."""

    route = "/i_want_you_now"

    async def get(self) -> None:
        """200."""
        self.owner()
        self.answer("I love you")


class CoroutineQuery(MysqlQuery):
    """The way to do it: the coroutine awaits the worker's answer, and the loop serves others meanwhile."""

    route = "/examples/coroutine/mysql_query/{flag}"


class CallbackQuery(MysqlQuery):
    """The article's own way, from before coroutines: a function that is called with the answer."""

    route = "/examples/callback/mysql_query/{flag}"

    def get(self, flag: str) -> None:  # type: ignore[override]  # it returns before there is an answer
        """200 with the rows."""
        message = self.message(flag)
        self._auto_finish = False
        self._task = self.gateway.link.apply_async(TASK, callback=self._ended, **message)

    def _ended(self, future: "asyncio.Future[Outcome]") -> None:
        if future.cancelled():  # the client has left
            return
        try:
            with self.counted_publish():
                outcome = future.result()
            self.count_accepted(TASK)
            self.answer_rows(outcome)
        except Exception as error:  # noqa: BLE001  # nobody is above to turn it into an answer
            self._handle_request_exception(error)


class QueryWithoutCelery(Handler):
    """A handler that has the queries."""

    @property
    def queries(self) -> Queries:
        """They are there if the examples are."""
        queries = self.gateway.queries
        assert queries is not None  # noqa: S101
        return queries


class BlockingQuery(QueryWithoutCelery):
    """What the article warns of. Never do this: the loop stands still, and with it every other client."""

    route = "/examples/blocking/mysql_query/{flag}"

    async def get(self, flag: str) -> None:
        """200 with the rows."""
        self.answer(self.queries.rows(*query_of(self, flag)))


class ExecutorQuery(QueryWithoutCelery):
    """For functions of one's own that block: a few threads, each taken for the whole of a query."""

    route = "/examples/executor/mysql_query/{flag}"

    async def get(self, flag: str) -> None:
        """200 with the rows; 503 at once if all threads are busy."""
        self.answer(await self.queries.rows_by_thread(*query_of(self, flag)))


EXAMPLES: tuple[type[Handler], ...] = (BlockingQuery, CoroutineQuery, CallbackQuery, ExecutorQuery)
