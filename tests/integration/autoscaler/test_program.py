"""The whole program against a played Prometheus and played workers: what it starts, leaves and refuses."""

import asyncio
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from tornado.httpclient import AsyncHTTPClient

from tests.integration.autoscaler.conftest import Place
from tests.unit.autoscaler.fake_prometheus import FakePrometheus

SERVICES = Path(__file__).parents[3] / "services"


class Program:
    """One `python -m autoscaler` after the other, over the same folder."""

    def __init__(self, place: Place, fake: FakePrometheus) -> None:
        self.place = place
        self.path = place.folder / "autoscaler.yaml"
        self.log = place.folder / "autoscaler.log"
        self.port = place.ports.autoscaler
        self.running: list[Process] = []
        actuator = msgspec.to_builtins(place.config)
        self.config: dict[str, Any] = {
            "prometheusUrl": fake.url,
            "host": "127.0.0.1",
            "port": self.port,
            "tickSeconds": 0.1,
            "worker": {
                "pools": {
                    "default": {
                        "queues": ["default"],
                        "autoscale": {
                            "policy": "threshold",
                            "downWindowSeconds": 0.5,
                            "cooldownSeconds": 0.2,
                            "maxWorkers": 4,
                        },
                    }
                }
            },
            "actuator": actuator,
        }

    async def start(self) -> Process:
        self.path.write_bytes(msgspec.yaml.encode(self.config))
        with self.log.open("ab") as log:
            program = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "autoscaler", "--config", str(self.path)),
                env=os.environ | {"PYTHONPATH": str(SERVICES)},
                stderr=log,
            )
        self.running.append(program)
        return program

    async def explained(self) -> dict[str, Any]:
        client = AsyncHTTPClient(force_instance=True)
        try:
            answer = await client.fetch(f"http://127.0.0.1:{self.port}/explain")
        finally:
            client.close()
        pool: dict[str, Any] = msgspec.json.decode(answer.body)["pools"]["default"]
        return pool

    async def until(self, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        pool: dict[str, Any] = {}
        while time.monotonic() < deadline:
            with suppress(OSError, KeyError):
                pool = await self.explained()
                if good(pool):
                    return pool
            await asyncio.sleep(0.05)
        raise AssertionError(pool, self.log.read_text())


@pytest.fixture
async def program(place: Place, fake: FakePrometheus) -> AsyncIterator[Program]:
    program = Program(place, fake)
    yield program
    for process in program.running:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ended(process: Process) -> int:
    return await asyncio.wait_for(process.wait(), 10)


async def test_workers_follow_the_backlog_up_and_down_and_none_is_ended_busy(
    program: Program, place: Place, fake: FakePrometheus
) -> None:
    fake.answers()  # no worker has declared the queue yet
    await program.start()
    await program.until(lambda pool: pool["ready"] == 1)
    fake.backlog(25)
    pool = await program.until(lambda pool: pool["ready"] == 3)
    for worker in pool["workers"]:
        await place.post(worker["name"], "/busy", "1")
    fake.backlog(3)
    await program.until(lambda pool: (pool["wanted"], pool["draining"]) == (1, 2))
    assert place.ended() == {}
    for worker in pool["workers"]:
        await place.post(worker["name"], "/busy", "0")
    await program.until(lambda pool: pool["current"] == 1)
    assert set(place.ended().values()) == {"empty"}


async def test_the_end_of_prometheus_changes_nothing(program: Program, fake: FakePrometheus) -> None:
    fake.backlog(30)
    await program.start()
    await program.until(lambda pool: pool["ready"] == 3)
    fake.status = 503
    pool = await program.until(lambda pool: pool["last"]["reason"] == "QueryError")
    await asyncio.sleep(1)  # two down windows
    pool = await program.explained()
    assert (pool["last"]["reason"], pool["wanted"], pool["ready"]) == ("QueryError", 3, 3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.behaviour("F9")
async def test_workers_outlive_the_autoscaler_and_the_next_one_has_them(
    program: Program, place: Place, fake: FakePrometheus, number: signal.Signals
) -> None:
    fake.backlog(20)
    first = await program.start()
    await program.until(lambda pool: pool["ready"] == 2)
    first.send_signal(number)
    assert await ended(first) == (-number if number is signal.SIGKILL else 0)
    before = place.records()
    await program.start()
    pool = await program.until(lambda pool: pool["ready"] == 2)
    assert {worker["name"] for worker in pool["workers"]} == set(before)
    assert place.ended() == {}


async def test_a_worker_that_is_drained_when_the_autoscaler_dies_is_drained_no_longer_than_needed(
    program: Program, place: Place, fake: FakePrometheus
) -> None:
    fake.backlog(20)
    first = await program.start()
    pool = await program.until(lambda pool: pool["ready"] == 2)
    for worker in pool["workers"]:
        await place.post(worker["name"], "/busy", "1")
    fake.backlog(1)
    await program.until(lambda pool: pool["draining"] == 1)
    first.kill()
    await ended(first)
    fake.backlog(20)
    await program.start()
    pool = await program.until(lambda pool: pool["ready"] == 2)
    assert "Recalled" in {decision["reason"] for decision in pool["decisions"]}
    assert place.ended() == {}


async def test_a_drain_that_lasts_too_long_is_recalled(
    program: Program, place: Place, fake: FakePrometheus
) -> None:
    scale = program.config["worker"]["pools"]["default"]["autoscale"]
    scale |= {"drainTimeoutSeconds": 0.3, "cooldownSeconds": 60}
    fake.backlog(20)
    await program.start()
    pool = await program.until(lambda pool: pool["ready"] == 2)
    for worker in pool["workers"]:
        await place.post(worker["name"], "/busy", "1")
    fake.backlog(1)
    pool = await program.until(lambda pool: "Recalled" in {d["reason"] for d in pool["decisions"]})
    await program.until(lambda pool: pool["ready"] == 2)
    assert place.ended() == {}


async def test_it_stays_under_64_mib(program: Program, fake: FakePrometheus) -> None:
    fake.backlog(0)
    process = await program.start()
    await program.until(lambda pool: pool["ready"] == 1)
    assert psutil.Process(process.pid).memory_info().rss < 64 * 2**20


async def refused(program: Program) -> str:
    process = await program.start()
    assert await ended(process) == 2
    return program.log.read_text()


async def test_a_taken_port_is_one_line_that_names_it(program: Program) -> None:
    with socket.create_server(("127.0.0.1", program.port)):
        assert await refused(program) == f"port: {program.port} on 127.0.0.1 is taken; choose a free one\n"


async def test_a_bad_file_is_one_line_that_names_the_key(program: Program) -> None:
    program.config["tickSeconds"] = "often"
    assert await refused(program) == f"{program.path}: tickSeconds: Expected `float`, got `str`\n"


async def test_a_folder_that_cannot_be_made_is_one_line_that_names_the_key(program: Program) -> None:
    program.config["actuator"]["directory"] = "/proc/no/such/folder"
    line = await refused(program)
    assert line.startswith("actuator.directory and actuator.logDirectory must be folders")
    assert line.count("\n") == 1


async def test_a_host_that_is_none_is_one_line_that_names_the_key(program: Program) -> None:
    program.config["host"] = "no.such.host.invalid"
    line = await refused(program)
    assert line.startswith("host, port: cannot listen on no.such.host.invalid")
    assert line.count("\n") == 1


async def test_a_missing_token_is_one_line_that_names_it(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CELERYKIT_DRAIN_TOKEN")
    assert (await refused(program)).startswith("CELERYKIT_DRAIN_TOKEN: is required")


async def test_a_token_with_a_line_break_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERYKIT_DRAIN_TOKEN", "token\n")
    assert (await refused(program)).startswith("CELERYKIT_DRAIN_TOKEN: must be printable ASCII")


async def test_a_second_autoscaler_over_the_same_workers_is_refused(
    program: Program, place: Place, fake: FakePrometheus
) -> None:
    fake.backlog(0)
    await program.start()
    await program.until(lambda pool: pool["ready"] == 1)
    program.config["port"] = place.ports.gateway
    process = await program.start()
    assert await ended(process) == 2
    assert "another autoscaler" in program.log.read_text()
