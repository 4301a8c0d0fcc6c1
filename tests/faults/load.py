"""Requests at a steady rate while something breaks, each with its answer."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError

WAIT = 5  # seconds, of each second request
# a wait, or a publish in its stead, then a row; or a row, a publish and the row's deletion: 5 s each, see
# celerykit.link.PUBLISH_SECONDS and CELERYKIT_GATEWAY_DATABASE_TIMEOUT_SECONDS
DEADLINE = 16.0
MOST = 2000
CUT = -1  # in place of a status: the connection was refused or broke


@dataclass(frozen=True)
class Answer:
    """One request; times in seconds of time.monotonic, status 0 if none came before the deadline."""

    began: float
    ended: float
    status: int
    task_id: str
    problem: str
    retry_after: bool


@dataclass
class Load:
    """Posts `fault.work` in a thread, each second request with `Prefer: wait`, until it is left."""

    url: str
    rate: float = 20
    seconds: float = 0.3  # that a task takes
    size: int = 0  # of its result, in bytes
    paused: bool = False
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def accepted(self) -> dict[str, float]:
        """The tasks that were answered 200 or 202, and when."""
        return {a.task_id: a.ended for a in list(self.answers) if a.status in (200, 202)}

    def seen(self, wanted: Callable[[Answer], bool], *, since: float) -> float | None:
        """When the first such answer came after a moment, in seconds from it."""
        times = [a.ended - since for a in list(self.answers) if a.ended > since and wanted(a)]
        return min(times, default=None)

    def statuses(self) -> Counter[int]:
        """How many answers there were of each status."""
        return Counter(answer.status for answer in list(self.answers))

    async def _run(self) -> None:
        client = AsyncHTTPClient(force_instance=True, max_clients=MOST)
        loop = asyncio.get_running_loop()
        due = loop.time()
        posts: list[asyncio.Task[None]] = []
        while not self._stop.is_set() and len(posts) < MOST:
            if self.paused:
                due = loop.time()
            else:
                posts.append(asyncio.create_task(self._post(client, wait=len(posts) % 2 == 0)))
            due += 1 / self.rate
            await asyncio.sleep(due - loop.time())
        await asyncio.gather(*posts)
        client.close()

    async def _post(self, client: AsyncHTTPClient, *, wait: bool) -> None:
        request = HTTPRequest(
            f"{self.url}/v1/tasks/fault.work",
            method="POST",
            headers={
                "Content-Type": "application/json",
                "Prefer": f"wait={WAIT}" if wait else "respond-async",
            },
            body=json.dumps({"args": [self.seconds, self.size]}),
            request_timeout=DEADLINE,
            connect_timeout=DEADLINE,
        )
        began = time.monotonic()
        try:
            response: HTTPResponse | None = await client.fetch(request, raise_error=False)
        except HTTPTimeoutError:
            response = None
        except (OSError, HTTPStreamClosedError):  # nobody was there, or is any more
            self.answers.append(Answer(began, time.monotonic(), CUT, "", "", retry_after=False))
            return
        if response is None or response.code == 599:
            self.answers.append(Answer(began, time.monotonic(), 0, "", "", retry_after=False))
            return
        body = json.loads(response.body)
        self.answers.append(
            Answer(
                began,
                time.monotonic(),
                response.code,
                body.get("id", ""),
                body.get("type", "").rpartition("/")[2],
                "Retry-After" in response.headers,
            )
        )
