"""When worker processes came, were ready and went, as one sees who looks often."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from tornado.httpclient import AsyncHTTPClient, HTTPError

from autoscaler.actuators.processes import TARGETS
from local.ports import HOST

LOOK_SECONDS = 0.1  # between two looks


@dataclass
class Stay:
    """One worker's process; times are unix seconds."""

    pid: int
    port: int
    created: float
    ready: float | None = None  # since it consumes
    told: float | None = None  # to end
    ended: float | None = None


@dataclass
class Watch:
    """Looks at the records, the processes and the ports of all workers of a folder."""

    directory: Path
    stays: dict[str, Stay] = field(default_factory=dict)

    def ready(self, name: str) -> float | None:
        """Since when a worker takes tasks."""
        return self.stays[name].ready if name in self.stays else None

    async def run(self) -> None:
        """Look until cancelled."""
        client = AsyncHTTPClient(force_instance=True, max_clients=100)
        try:
            while True:
                self._look()
                asked = [stay for stay in self.stays.values() if stay.ready is stay.ended is None]
                await asyncio.gather(*(_ask(client, stay) for stay in asked), asyncio.sleep(LOOK_SECONDS))
        finally:
            client.close()

    def living(self) -> Iterator[psutil.Process]:
        """The processes that have not ended."""
        for stay in self.stays.values():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(stay.pid)
                if abs(process.create_time() - stay.created) < 2:  # not another that got its id
                    yield process

    def _look(self) -> None:
        now = time.time()
        for path in self.directory.glob("*.json"):
            with suppress(FileNotFoundError):
                if path.name != TARGETS:
                    record, written = json.loads(path.read_bytes()), path.stat().st_mtime
                    # the record says when it was created to a second only, as the kernel does
                    new = Stay(record["pid"], record["port"], written)
                    stay = self.stays.setdefault(path.stem, new)
                    if record["state"] == "stopping" and stay.told is None:
                        stay.told = now
        for stay in self.stays.values():
            if stay.ended is None and not _lives(stay.pid):
                stay.ended = now


async def _ask(client: AsyncHTTPClient, stay: Stay) -> None:
    with suppress(HTTPError, OSError):  # it is not ready
        await client.fetch(f"http://{HOST}:{stay.port}/readyz", request_timeout=1)
        stay.ready = time.time()


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
