"""A run's folder, ports and the commands' refusals; nothing here starts a store."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from local.kit import Kit
from local.ports import HOST, Ports, PortTakenError, require_free, taken
from local.run import BusyError, Run


@pytest.fixture
def listener() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m local` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "local", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_taken_port_is_named_with_its_owner(listener: int) -> None:
    """One knows whom to ask."""
    with pytest.raises(
        PortTakenError, match=rf"port {listener}, which gateway needs, .* pid {os.getpid()}: "
    ):
        require_free("gateway", listener)


def test_a_free_block_holds_no_taken_port() -> None:
    """Every port of it can be had, and they differ."""
    ports = Ports.free()
    assert len(set(ports.fixed.values())) == len(ports.fixed) == 10
    assert not any(taken(port) for port in [*ports.fixed.values(), *ports.workers])


def test_a_free_block_is_passed_over_by_all_who_search_after() -> None:
    """Also before the first of its ports is used."""
    blocks = {Ports.free().gateway for _ in range(3)}
    assert len(blocks) == 3


def test_secrets_are_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    """The next run finds the same."""
    first, second = Run(tmp_path), Run(tmp_path)
    assert first.secrets == second.secrets
    assert len(set(msgspec.structs.astuple(first.secrets))) == 4
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_a_folder_in_use_is_refused_with_the_users_id(tmp_path: Path) -> None:
    """And free again afterwards."""
    run = Run(tmp_path)
    with run.locked(), pytest.raises(BusyError, match=rf"in use by another run, pid {os.getpid()}:"):
        run.locked().__enter__()
    with run.locked():
        pass


def test_the_stopped_workers_are_those_that_did_not_crash(tmp_path: Path) -> None:
    """By the autoscaler's records."""
    folder = tmp_path / "workers" / "removed"
    folder.mkdir(parents=True)
    for name, ended in (("default-a", "stopped"), ("default-b", "crashed")):
        record = {"name": name, "pid": 1, "started": 1.0, "ended": ended, "port": 17100}
        (folder / f"{name}.json").write_bytes(msgspec.json.encode(record))
    assert Kit(Run(tmp_path)).stopped_workers() == {"default-a"}


def test_up_on_a_taken_port_ends_with_2_and_starts_nothing(listener: int, tmp_path: Path) -> None:
    """The gateway's port is the first of the block."""
    done = command("up", "--home", str(tmp_path), "--ports", str(listener))
    assert done.returncode == 2
    assert f"port {listener}, which gateway needs, is taken by pid {os.getpid()}" in done.stderr
    assert not list((tmp_path / "pids").iterdir())


def test_a_second_run_on_one_folder_ends_with_2(tmp_path: Path) -> None:
    """It says who is there."""
    with Run(tmp_path).locked():
        done = command("demo", "--home", str(tmp_path))
    assert done.returncode == 2
    assert f"in use by another run, pid {os.getpid()}" in done.stderr


def test_down_where_nothing_runs_is_no_error(tmp_path: Path) -> None:
    """What is wanted is so already."""
    done = command("down", "--home", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
