"""The whole program over a played cluster: it scales, stays small, and leaves the lease to the next one."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.testing import bind_unused_port

from tests.unit.autoscaler.fake_kubernetes import DEPLOYMENT, DRAIN_TOKEN, FakeKubernetes, playing
from tests.unit.autoscaler.fake_prometheus import FakePrometheus

SERVICES = Path(__file__).parents[3] / "services"


class Program:
    """`python -m autoscaler`, once or several times."""

    def __init__(self, folder: Path, cluster: FakeKubernetes, prometheus: FakePrometheus) -> None:
        self.folder = folder
        self.running: list[Process] = []
        self.config: dict[str, Any] = {
            "prometheusUrl": prometheus.url,
            "host": "127.0.0.1",
            "tickSeconds": 0.2,
            "worker": {
                "pools": {
                    "default": {
                        "queues": ["default"],
                        "autoscale": {"policy": "threshold", "downWindowSeconds": 1, "cooldownSeconds": 0},
                    }
                }
            },
            "actuator": {
                "kind": "kubernetes",
                "namespace": "n",
                "lease": "lease",
                "workerPort": cluster.port,
                "deployments": {"default": DEPLOYMENT},
            },
        }

    async def start(self, name: str, **environment: str) -> tuple[Process, int]:
        socket, port = bind_unused_port()
        socket.close()
        path = self.folder / f"{name}.yaml"
        path.write_bytes(msgspec.yaml.encode(self.config | {"port": port}))
        set_here = {
            "PYTHONPATH": str(SERVICES),
            "CELERYKIT_DRAIN_TOKEN": DRAIN_TOKEN,
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "POD_NAME": name,
        }
        program = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "autoscaler", "--config", str(path)),
            env=os.environ | set_here | environment,
            stderr=PIPE,
        )
        self.running.append(program)
        return program, port

    async def until(self, port: int, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for the explanation until it is as it should be."""
        client = AsyncHTTPClient(force_instance=True)
        explained: dict[str, Any] = {}
        try:
            async with asyncio.timeout(30):
                while True:
                    with suppress(OSError, KeyError):
                        answer = await client.fetch(f"http://127.0.0.1:{port}/explain")
                        explained = msgspec.json.decode(answer.body)
                        if good(explained):
                            return explained
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(explained) from None
        finally:
            client.close()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[FakeKubernetes]:
    async with playing(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def program(tmp_path: Path, cluster: FakeKubernetes, fake: FakePrometheus) -> AsyncIterator[Program]:
    program = Program(tmp_path, cluster, fake)
    yield program
    for process in program.running:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_replicas_follow_the_backlog_and_the_program_stays_under_64_mib(
    program: Program, cluster: FakeKubernetes, fake: FakePrometheus
) -> None:
    fake.backlog(40)
    await cluster.settle()
    process, port = await program.start("pod-a")
    await program.until(port, lambda seen: seen["pools"]["default"]["ready"] == 4)
    assert cluster.replicas == 4
    before = set(cluster.pods)
    fake.backlog(0)

    def shrunk(seen: dict[str, Any]) -> bool:
        cluster.readiness()
        return bool(seen["pools"]["default"]["current"] == 1)

    await program.until(port, shrunk)
    assert {pod.name for pod in cluster.removed} == before - set(cluster.pods)
    assert all(pod.worker["draining"] for pod in cluster.removed)
    event = await cluster.events.get()
    while event["reason"] == "Held":  # on a slow machine, before all pods have answered
        event = await cluster.events.get()
    assert (event["reason"], event["involvedObject"]["name"]) == ("ScaledUp", DEPLOYMENT)
    assert psutil.Process(process.pid).memory_info().rss < 64 * 2**20


async def test_a_program_that_is_told_to_end_leaves_the_lease_to_the_next(
    program: Program, cluster: FakeKubernetes, fake: FakePrometheus
) -> None:
    fake.backlog(0)
    await cluster.settle()
    first, first_port = await program.start("pod-a")
    await program.until(first_port, lambda seen: seen["leading"] and seen["pools"])
    _, port = await program.start("pod-b")
    explained = await program.until(port, lambda seen: seen["leader"])
    assert (explained["leading"], explained["leader"], explained["pools"]) == (False, "pod-a", {})
    first.terminate()
    assert await asyncio.wait_for(first.wait(), 10) == 0
    await program.until(port, lambda seen: seen["leading"] and seen["pools"])
    assert cluster.leases["lease"]["spec"]["holderIdentity"] == "pod-b"


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"POD_NAME": ""}, "POD_NAME: is required with actuator.kind kubernetes"),
        (
            {"KUBECONFIG": "/no/such/file"},
            "actuator.kind: kubernetes needs the service account of a pod, or KUBECONFIG: ",
        ),
    ],
)
async def test_what_is_missing_is_one_line_that_names_it(
    program: Program, environment: dict[str, str], line: str
) -> None:
    process, _ = await program.start("pod-a", **environment)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert errors.decode().startswith(line)
    assert errors.count(b"\n") == 1
