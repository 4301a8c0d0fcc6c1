"""A Prometheus that answers what a test tells it to."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

NOW = 1_800_000_000


def series(name: str, value: object, at: float = NOW, **labels: str) -> dict[str, Any]:
    """One series of an answer, of one sample."""
    return {"metric": {"__name__": name, **labels}, "values": [[at, str(value)]]}


def matrix(*series: dict[str, Any]) -> bytes:
    """An answer to a range selector."""
    data = {"resultType": "matrix", "result": series}
    return json.dumps({"status": "success", "data": data}).encode()


def vector(*numbers: tuple[dict[str, str], float | str], **more: Any) -> bytes:
    """An answer to any other query: labels, and a number."""
    result = [{"metric": labels, "value": [NOW, str(number)]} for labels, number in numbers]
    data = {"resultType": "vector", "result": result}
    return json.dumps({"status": "success", "data": data} | more).encode()


class FakePrometheus:
    """Answers every request with `status`, `body` and `date`; `body` None is no answer at all.

    When asked what workers count, it answers with `workers` instead of `body`; with one of `others`, by
    words of the query, before all.
    """

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes | None = b""
        self.workers = vector()
        self.others: dict[str, bytes | None] = {}
        self.asked: list[dict[str, str]] = []  # all arguments
        self.date: str | None = formatdate(NOW, usegmt=True)
        self.queries: list[str] = []
        self.url = ""
        self.elsewhere = ""  # where a redirect leads

    def answers(self, *series: tuple[str, str, str, list[tuple[float, str]]], **more: Any) -> None:
        """Answer with series: the last word of its name, its vhost, its queue, its samples."""
        result = [
            {
                "metric": {
                    "__name__": f"rabbitmq_detailed_queue_messages_{name}",
                    "vhost": vhost,
                    "queue": queue,
                },
                "values": samples,
            }
            for name, vhost, queue, samples in series
        ]
        answer = {"status": "success", "data": {"resultType": "matrix", "result": result}} | more
        self.status, self.body = 200, json.dumps(answer).encode()

    def backlog(self, ready: int, unacked: int = 0, queue: str = "default", age: float = 1) -> None:
        """Answer with one good sample of each series of one queue."""
        self.answers(
            ("ready", "/", queue, [(NOW - age, str(ready))]),
            ("unacked", "/", queue, [(NOW - age, str(unacked))]),
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        arguments = parse_qs((await reader.readexactly(length)).decode())
        self.asked.append({name: values[0] for name, values in arguments.items()})
        query = self.asked[-1]["query"]
        self.queries.append(query)
        body = self.workers if "worker_task_finished_total" in query else self.body
        body = next((other for words, other in self.others.items() if words in query), body)
        if body is None:
            await reader.read()  # until the client gives up
        else:
            headers = f"Date: {self.date}\r\n" if self.date is not None else ""
            headers += f"Location: {self.elsewhere}\r\n" if self.elsewhere else ""
            writer.write(f"HTTP/1.1 {self.status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode())
            writer.write(body)
        writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[FakePrometheus]:
    """Serve on a free port."""
    fake = FakePrometheus()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield fake
    server.close()
    await server.wait_closed()
