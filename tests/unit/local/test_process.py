"""Processes of a run: started, found again, ended by process id and nothing else."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from local.process import Processes, Record, StartError, same_process, write_atomically

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Processes of a folder of their own."""
    processes = Processes(tmp_path / "run")
    yield processes
    processes.sweep(grace=1)


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "not within 10 s"
        time.sleep(0.02)


def test_a_started_process_leads_a_session_of_its_own(processes: Processes) -> None:
    """So a Ctrl-C on the terminal does not reach it."""
    processes.start("sleeper", ["sleep", "600"], {})
    found = processes.find("sleeper")
    assert found
    assert os.getsid(found.pid) == found.pid


def test_stop_ends_the_process_and_its_children(processes: Processes) -> None:
    """Also children that nobody waits for."""
    processes.start("family", ["sh", "-c", "sleep 600 & sleep 600"], {})
    until(lambda: len(processes.strays()) == 3)
    processes.stop("family")
    assert processes.strays() == []
    assert processes.names() == []


def test_stop_kills_what_does_not_heed(processes: Processes) -> None:
    """After the time that it was given."""
    processes.start("stubborn", [sys.executable, "-c", STUBBORN], {})
    until(lambda: processes.tail("stubborn").endswith("deaf"))
    processes.stop("stubborn", grace=0.1)
    assert processes.strays() == []


def test_stop_spares_what_the_process_put_into_another_session(processes: Processes) -> None:
    """So workers outlive the autoscaler; a sweep ends them all the same."""
    processes.start("autoscaler", ["sh", "-c", "setsid sleep 600 & sleep 601"], {})
    until(lambda: ["sleep", "600"] in [process.cmdline() for process in processes.strays()])
    processes.stop("autoscaler")
    assert [process.cmdline() for process in processes.strays()] == [["sleep", "600"]]
    processes.sweep()
    assert processes.strays() == []


def test_what_outlives_its_starter_in_a_session_of_its_own_is_an_orphan(processes: Processes) -> None:
    """So are workers once the autoscaler has ended; what a recorded process stands behind is none."""
    processes.start("store", ["sh", "-c", "setsid sleep 599 & sleep 599"], {})
    processes.start("autoscaler", ["sh", "-c", "setsid sh -c 'sleep 601 & sleep 602' & sleep 603"], {})
    until(lambda: len(processes.strays()) == 8)
    assert processes.orphans() == []
    processes.stop("autoscaler")
    (orphan,) = processes.orphans()
    assert [child.name() for child in orphan.children()] == ["sleep", "sleep"]


def test_a_recorded_id_that_now_belongs_to_another_process_is_left_alone(
    processes: Processes, tmp_path: Path
) -> None:
    """The start time tells."""
    me = psutil.Process()
    stale = Record("gone", me.pid, me.create_time() - 60, psutil.boot_time())
    (processes.folder / "pids" / "gone.json").write_bytes(msgspec.json.encode(stale))
    assert processes.find("gone") is None
    processes.stop("gone")
    assert same_process(me.pid, me.create_time(), psutil.boot_time()) == me


def test_a_record_that_was_cut_short_is_no_process(processes: Processes) -> None:
    """A full disk must not keep the rest from being ended."""
    (processes.folder / "pids" / "half.json").write_bytes(b'{"name": "ha')
    assert processes.find("half") is None


def test_an_unrecorded_process_is_found_by_its_mark(processes: Processes) -> None:
    """Killed between a start and its record, a run still finds what it started."""
    processes.start("sleeper", ["sleep", "600"], {})
    (processes.folder / "pids" / "sleeper.json").unlink()
    assert [process.name() for process in processes.strays()] == ["sleep"]


def test_the_processes_of_another_run_are_not_ours(processes: Processes, tmp_path: Path) -> None:
    """Two runs side by side do not end each other's."""
    processes.start("sleeper", ["sleep", "600"], {})
    other = Processes(tmp_path / "other")
    assert other.strays() == []
    other.sweep()
    assert processes.find("sleeper")


def test_a_process_that_ends_while_it_is_awaited_is_an_error_with_its_last_words(
    processes: Processes,
) -> None:
    """One reads why without looking for the log."""
    processes.start("broken", ["sh", "-c", "echo cannot open the shop; exit 3"], {})
    with pytest.raises(StartError, match=r"(?s)broken ended by itself.*cannot open the shop"):
        processes.wait_ready("broken", lambda: False, seconds=10)


def test_a_process_that_takes_too_long_is_an_error(processes: Processes) -> None:
    """It says which, and how long."""
    processes.start("slow", ["sleep", "600"], {})
    with pytest.raises(StartError, match=r"slow was not ready after 0 s"):
        processes.wait_ready("slow", lambda: False, seconds=0.2)


def test_a_step_that_fails_is_an_error_with_its_code_and_last_words(processes: Processes) -> None:
    """As an installation of the database may."""
    with pytest.raises(StartError, match=r"(?s)step failed with exit code 4.*no space"):
        processes.run("step", ["sh", "-c", "echo no space; exit 4"], {})


def test_a_secret_file_is_never_readable_by_others(tmp_path: Path) -> None:
    """Not even when it replaces one that was."""
    path = tmp_path / "secret"
    path.write_text("old")
    write_atomically(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
