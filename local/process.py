"""Processes of a run: each in a session of its own, recorded on disk, ended by process id."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

# Every process of a run carries the run's folder in its environment: it finds what was started a moment
# before its record was written, and what was started by one of ours.
MARK = "CELERYKIT_RUN"


class StartError(Exception):
    """A program did not start or did not become ready; the message holds the last lines of its log."""


class Record(msgspec.Struct, frozen=True):
    """One process: `started` is its start time and `booted` the machine's, in the kernel's unix seconds."""

    name: str
    pid: int
    started: float
    booted: float


class Processes:
    """The processes of one run, in this and in later programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.logs = self.folder / "log"
        self._records = self.folder / "pids"
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        for path in (self.logs, self._records):
            path.mkdir(parents=True, exist_ok=True)

    def start(
        self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        """Start a program with this environment added to ours; its output goes to its log."""
        with self._log(name).open("wb") as log:
            child = subprocess.Popen(
                command,
                env={**os.environ, **env, MARK: str(self.folder)},
                cwd=cwd or self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[name] = child
        record = Record(name, child.pid, psutil.Process(child.pid).create_time(), psutil.boot_time())
        write_atomically(self._record(name), msgspec.json.encode(record))

    def run(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Run a program to its end. Raises StartError if it fails."""
        self.start(name, command, env)
        code = self._children[name].wait()
        self.stop(name)
        if code:
            raise StartError(f"{name} failed with exit code {code}\n{self.tail(name)}")

    def find(self, name: str) -> psutil.Process | None:
        """Return the recorded process if it still runs."""
        try:
            record = msgspec.json.decode(self._record(name).read_bytes(), type=Record)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return same_process(record.pid, record.started, record.booted)

    def stop(self, name: str, grace: float = 30) -> None:
        """End a recorded process and what it started; nothing happens when it has ended already."""
        if process := self.find(name):
            end([process], grace)
        if child := self._children.pop(name, None):
            child.wait()
        self._record(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """All that is recorded, running or not."""
        return sorted(path.stem for path in self._records.glob("*.json"))

    def strays(self) -> list[psutil.Process]:
        """Every running process that was started by this run, recorded or not."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def orphans(self) -> list[psutil.Process]:
        """Return the sessions' leaders that no recorded process stands behind: workers, when it is gone."""
        known: set[psutil.Process] = set()
        for name in self.names():
            if process := self.find(name):
                with suppress(psutil.NoSuchProcess):
                    known.update([process, *process.children(recursive=True)])
        return [process for process in self.strays() if process not in known and _leads(process)]

    def sweep(self, grace: float = 10) -> None:
        """End whatever this run started and is still there."""
        end(self.strays(), grace)
        for name in {*self.names(), *self._children}:
            self.stop(name)

    def wait_ready(self, name: str, ready: Callable[[], bool], seconds: float, what: str = "") -> None:
        """Wait until a started program, or `what` it brings, is ready, telling the user.

        Raises StartError if the program ends, or if it takes longer than `seconds`.
        """
        what = what or name
        began = time.monotonic()
        say(f"{what:<10} ", end="")
        ticks = 0
        while not ready():
            waited = time.monotonic() - began
            if self.find(name) is None:
                say(" ended")
                raise StartError(f"{name} ended by itself\n{self.tail(name)}")
            if waited > seconds:
                say(" not ready")
                raise StartError(f"{what} was not ready after {seconds:.0f} s\n{self.tail(name)}")
            if waited > ticks:
                say(".", end="")
                ticks += 1
            time.sleep(0.1)
        say(f" ready after {time.monotonic() - began:.1f} s")

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the last lines that a program wrote."""
        log = self._log(name)
        text = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join([f"the last lines of {log}:", *(f"  {line}" for line in text[-lines:])])

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.pid != os.getpid() and process.environ().get(MARK) == str(self.folder)
        except (psutil.Error, OSError):  # ended meanwhile, or of another user
            return False

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _record(self, name: str) -> Path:
        return self._records / f"{name}.json"


def same_process(pid: int, started: float, booted: float) -> psutil.Process | None:
    """Return the process with this id if it is the one that started then, and still runs."""
    try:
        process = psutil.Process(pid)
        # Seconds after boot stay when the clock is set; the kernel rounds the boot time to whole seconds.
        drift = (process.create_time() - psutil.boot_time()) - (started - booted)
        return process if abs(drift) < 2 and runs(process) else None
    except psutil.NoSuchProcess:
        return None


def runs(process: psutil.Process) -> bool:
    """Tell whether a process has not ended; one that only waits to be noticed by its parent has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(processes: Iterable[psutil.Process], grace: float) -> None:
    """Ask processes to end; after `grace` seconds kill them, and in any case what they left in their session.

    What one of them put into another session goes on: so do the workers when the autoscaler ends.
    """
    leaders = list(processes)
    family = set(leaders)
    for leader in leaders:
        with suppress(psutil.NoSuchProcess):
            family.update(_session(leader))
            leader.terminate()
    _wait(leaders, grace)
    alive = _wait(family, 1)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _wait(alive, 10)


def _wait(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until all have ended; return those that have not. psutil's own would wait for zombies, too."""
    deadline = time.monotonic() + seconds
    while alive := [process for process in processes if runs(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return alive


def _leads(process: psutil.Process) -> bool:
    """Tell whether a process leads a session."""
    with suppress(ProcessLookupError):
        return os.getsid(process.pid) == process.pid
    return False


def _session(leader: psutil.Process) -> list[psutil.Process]:
    """Return the descendants of a process that are in its session."""
    found = []
    for child in leader.children(recursive=True):
        with suppress(ProcessLookupError):
            if os.getsid(child.pid) == os.getsid(leader.pid):
                found.append(child)
    return found


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    new.touch(mode=mode)
    new.write_bytes(data)
    new.replace(path)


def say(text: str = "", end: str = "\n") -> None:
    """Tell the user, at once; a user who is gone must not keep us from ending what we started."""
    with suppress(OSError):
        sys.stdout.write(text + end)
        sys.stdout.flush()
