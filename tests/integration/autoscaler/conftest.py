"""Real processes that play workers, in a folder and on ports of the test, all ended after it."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from tornado.httpclient import AsyncHTTPClient

from autoscaler.actuators.processes import ProcessActuator
from autoscaler.config import Pool, PortRange, Processes
from autoscaler.model import Action, Decision, Fleet, Reason
from local.ports import Ports
from local.run import Run
from tests.unit.autoscaler.fake_prometheus import FakePrometheus, serving

TOKEN = "s3cret"
POOL = Pool(queues=("default", "slow"), concurrency=3, pool_type="threads")


class Place:
    """A folder of workers, and the autoscalers that come and go over it."""

    def __init__(self, folder: Path, ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.ports = folder, ports
        self.directory = folder / "workers"
        self.ends = folder / "ends"
        self.ends.mkdir()
        monkeypatch.setenv("CELERYKIT_DRAIN_TOKEN", TOKEN)
        monkeypatch.setenv("FAKE_ENDS", str(self.ends))
        first, _ = ports.workers
        self.config = Processes(
            directory=str(self.directory),
            log_directory=str(folder / "log"),
            command=(sys.executable, "-S", str(Path(__file__).with_name("fake_worker.py"))),
            ports=PortRange(first=first, last=first + 5),
        )
        self.open: list[ProcessActuator] = []

    def actuator(self, **changes: Any) -> ProcessActuator:
        actuator = ProcessActuator(msgspec.structs.replace(self.config, **changes), TOKEN)
        self.open.append(actuator)
        return actuator

    def close(self) -> None:
        for actuator in self.open:
            actuator.close()
        self.open.clear()

    def records(self, folder: str = "") -> dict[str, dict[str, Any]]:
        paths = (self.directory / folder).glob("*.json")
        return {p.stem: json.loads(p.read_bytes()) for p in paths if p.name != "targets.json"}

    def targets(self) -> list[Any]:
        found: list[Any] = json.loads((self.directory / "targets.json").read_bytes())
        return found

    def ended(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.ends.iterdir() if path.suffix != ".env"}

    def log(self, name: str) -> str:
        return Path(self.records()[name]["log"]).read_text()

    def environment(self, name: str) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.ends / f"{name}.env").read_text())
        return found

    async def post(self, name: str, path: str, body: str = "") -> None:
        client = AsyncHTTPClient(force_instance=True)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        port = self.records()[name]["port"]
        await client.fetch(f"http://127.0.0.1:{port}{path}", method="POST", body=body, headers=headers)
        client.close()

    def kill_all(self) -> None:
        """End what a test left, known by its environment."""
        for record in (self.records() | self.records("removed")).values():
            with suppress(psutil.Error, ChildProcessError):
                process = psutil.Process(record["pid"])
                if process.environ().get("FAKE_ENDS") == str(self.ends):
                    process.kill()
                    os.waitpid(process.pid, 0)


@pytest.fixture
def place(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place = Place(tmp_path, run.ports, monkeypatch)
    yield place
    place.close()
    place.kill_all()


def told(start: int = 0, recall: tuple[str, ...] = (), drain: tuple[str, ...] = ()) -> Decision:
    """A decision of which only what it does matters."""
    return Decision(0, Action.HOLD, Reason.DEADBAND, "", start=start, recall=recall, drain=drain)


async def tick(actuator: ProcessActuator, decision: Decision | None = None) -> Fleet:
    """Look and act once, as the loop does."""
    fleets: Mapping[str, Fleet] = await actuator.fleets()
    await actuator.act("default", POOL, decision or told())
    return fleets.get("default", Fleet())


async def until(
    actuator: ProcessActuator, good: Callable[[Fleet], bool], decision: Decision | None = None
) -> Fleet:
    """Tick until the fleet is as it should be."""
    deadline = time.monotonic() + 15
    while True:
        fleet = await tick(actuator, decision)
        if good(fleet):
            return fleet
        assert time.monotonic() < deadline, fleet
        await asyncio.sleep(0.05)


async def started(actuator: ProcessActuator, count: int) -> Fleet:
    """Start so many workers and await that they are ready."""
    await tick(actuator, told(start=count))
    return await until(actuator, lambda fleet: fleet.ready == count)


@pytest.fixture
async def fake() -> AsyncIterator[FakePrometheus]:
    async with serving() as fake:
        yield fake
