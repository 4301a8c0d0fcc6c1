"""One run of the kit on this machine: its folder, ports, secrets and processes."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from local.ports import Ports
from local.process import Processes, write_atomically

ROOT = Path(__file__).resolve().parent.parent


class BusyError(Exception):
    """Another `python -m local` works on the same folder."""


def _random() -> str:
    return secrets.token_urlsafe(18)


class Secrets(msgspec.Struct, frozen=True):
    """What is made once per folder, at random, of characters that need no encoding in URLs."""

    rabbitmq: str = msgspec.field(default_factory=_random)
    mysql: str = msgspec.field(default_factory=_random)
    flower: str = msgspec.field(default_factory=_random)
    drain_token: str = msgspec.field(default_factory=_random)


@dataclass
class Run:
    """Where everything of a run lies."""

    home: Path
    ports: Ports = field(default_factory=Ports)

    def __post_init__(self) -> None:
        self.home = self.home.resolve()
        self.processes = Processes(self.home)
        self.secrets = self._secrets()

    def folder(self, *names: str) -> Path:
        """Return a folder of the run, made if it is not there."""
        path = self.home.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other programs off the folder; the lock ends with this process, however it ends."""
        descriptor = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 20).decode().strip()
                raise BusyError(
                    f"{self.home} is in use by another run, pid {holder}: wait or end it"
                ) from None
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(descriptor)

    def _secrets(self) -> Secrets:
        path = self.home / "secrets.json"
        if not path.exists():
            write_atomically(path, msgspec.json.encode(Secrets()), mode=0o600)
        return msgspec.json.decode(path.read_bytes(), type=Secrets)
