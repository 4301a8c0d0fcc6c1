"""`python -m local`: kept running, ended, cut short; in every case nothing is left behind."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local.http import request
from local.kit import Kit
from local.ledger import read_rows
from local.ports import HOST, Ports
from local.run import Run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    """A kit on a folder and ports of its own, not started."""
    kit = Kit(Run(tmp_path, Ports.free()))
    yield kit
    kit.stop()


def start(kit: Kit, command: str) -> "subprocess.Popen[bytes]":
    """Start a command on the kit's folder; its output goes to a file."""
    home = kit.run.home
    arguments = [command, "--home", str(home), "--ports", str(kit.run.ports.gateway)]
    with (home / f"{command}.out").open("w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "local", *arguments], stdout=out, stderr=subprocess.STDOUT
        )


def finish(kit: Kit, command: str) -> tuple[int, str]:
    """Run a command to its end; return its exit code and output."""
    with start(kit, command) as program:
        code = program.wait(120)
    return code, (kit.run.home / f"{command}.out").read_text()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def ledger(kit: Kit, task: str) -> list[float | None]:
    """When each attempt at a task ended."""
    return [row.ended_at for row in read_rows(kit.stores.mysql.url, {task})]


def listening(kit: Kit) -> set[str]:
    """The addresses on which any process of the run listens."""
    return {
        connection.laddr[0]
        for process in kit.run.processes.strays()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def scraped(kit: Kit) -> dict[str, str]:
    """Prometheus' jobs, and whether their targets answer."""
    _, body = request("GET", f"{kit.stores.prometheus.url}/api/v1/targets?state=active")
    return {target["labels"]["job"]: target["health"] for target in json.loads(body)["data"]["activeTargets"]}


def test_up_keeps_it_running_and_down_lets_the_running_task_end(kit: Kit) -> None:
    """Up again says that it runs, a demo beside it is refused, and down leaves no process."""
    code, said = finish(kit, "up")
    assert code == 0, said
    assert "/mysql_query/1" in said
    before = {process.pid for process in kit.run.processes.strays()}
    assert listening(kit) <= {HOST, "::1"}
    parts = ("rabbitmq", "rabbitmq-node", "gateway", "worker", "autoscaler", "flower")
    jobs = [f"kit-{part}" for part in parts]
    until(lambda: scraped(kit) == dict.fromkeys(jobs, "up"))

    code, said = finish(kit, "up")
    assert (code, "running already" in said) == (0, True)
    assert {process.pid for process in kit.run.processes.strays()} >= before
    code, said = finish(kit, "demo")
    assert (code, "make down" in said) == (2, True)

    url = f"{kit.url(kit.run.ports.gateway)}/v1/tasks/task.sleep"
    status, body = request("POST", url, b'{"kwargs": {"seconds": 4}}')
    assert status == 202
    task = json.loads(body)["id"]
    until(lambda: ledger(kit, task) == [None])
    code, said = finish(kit, "down")
    assert (code, "nothing is left running" in said) == (0, True)
    assert kit.run.processes.strays() == []
    kit.stores.mysql.start()
    assert all(ledger(kit, task)), "the task was cut short"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_ends_everything(kit: Kit, number: signal.Signals) -> None:
    """At a moment when some of it runs and some does not."""
    with start(kit, "demo") as program:
        until(lambda: kit.run.processes.find("mysql"))
        program.send_signal(number)
        assert program.wait(90) == 128 + number
    assert kit.run.processes.strays() == []
    assert "nothing is left running" in (kit.run.home / "demo.out").read_text()


def test_what_a_killed_run_left_behind_is_ended_by_the_next(kit: Kit) -> None:
    """Found by its records, ended by process id."""
    with start(kit, "demo") as program:
        until(lambda: kit.run.processes.find("rabbitmq"))
        program.kill()
    assert kit.run.processes.strays()
    code, _ = finish(kit, "down")
    assert code == 0
    assert kit.run.processes.strays() == []
    assert kit.run.processes.names() == []
