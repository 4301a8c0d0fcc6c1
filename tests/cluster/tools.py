"""What the other modules do their work with: programs, packages, digests, a lock."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from local.process import say

ROOT = Path(__file__).resolve().parents[2]
HOME = Path.home() / ".cache" / "celery-kit" / "cluster"
OLDEST_GO = (1, 25)


class ClusterError(Exception):
    """Something is missing or went wrong; the message says what, and what to do."""


def run(*command: str | Path, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it wrote. Raises ClusterError with its last words."""
    line = [str(part) for part in command]
    try:
        done = subprocess.run(
            line, input=stdin, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ClusterError(f"{line[0]} is not installed, or not on PATH") from None
    if done.returncode:
        words = (done.stdout + done.stderr).strip().splitlines()[-20:]
        raise ClusterError("\n  ".join([f"`{' '.join(line)[:200]}` ended with {done.returncode}:", *words]))
    return done.stdout


def wait_for(what: str, ready: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so. Raises ClusterError if it takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not so after {seconds:.0f} s")
        time.sleep(0.1)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Tell the user what is being done, and how long it took."""
    say(f"{what} ", end="")
    began = time.monotonic()
    try:
        yield
    except BaseException:
        say("failed")
        raise
    say(f"{time.monotonic() - began:.1f} s")


def require_root() -> None:
    """Raise ClusterError if we may not make network interfaces, mounts and control groups."""
    if os.geteuid():
        raise ClusterError("a node needs root: run this as root, or set E2E_CONTEXT to a cluster of yours")


def require_go() -> None:
    """Raise ClusterError if there is no Go that can compile Kubernetes."""
    wanted = ".".join(map(str, OLDEST_GO))
    if not shutil.which("go"):
        raise ClusterError(f"Go is missing: install Go {wanted} or newer and put `go` on PATH")
    found = re.search(r"go(\d+)\.(\d+)", run("go", "env", "GOVERSION"))
    if not found or tuple(map(int, found.groups())) < OLDEST_GO:
        version = found.group() if found else "an unknown version"
        raise ClusterError(f"Go is too old: {version} is on PATH, {wanted} or newer is needed")


def packages(*names: str) -> None:
    """Install the Debian packages that are missing."""
    run(ROOT / "local" / "packages", *names)


def digest(*parts: Path | str) -> str:
    """Return 16 hex digits that stand for these words and the contents of these files and folders."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            total.update(part.encode() + b"\0")
            continue
        for file in sorted(part.rglob("*")) if part.is_dir() else [part]:
            if file.is_file() and "__pycache__" not in file.parts:
                mode = "x" if os.access(file, os.X_OK) else "-"
                total.update(f"{file.relative_to(ROOT)} {mode}\0".encode() + file.read_bytes() + b"\0")
    return total.hexdigest()[:16]


@contextmanager
def locked(doing: str) -> Iterator[None]:
    """Work alone: wait for whoever works on the cluster now, saying who it is."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            say(f"waiting for {file.read().strip() or 'another run'}")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"pid {os.getpid()}: {doing}")
        file.flush()
        yield  # closing the file frees the lock, and so does our end, however it comes
