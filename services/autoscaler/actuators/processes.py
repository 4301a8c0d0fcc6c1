"""Workers as processes of this machine, which outlive the autoscaler.

Each has a record `<directory>/<name>.json`. What a record says is what shall be, and every tick tells the
worker so again until its answers show that it is. Records of ended workers move to `<directory>/removed/`,
and `<directory>/targets.json` lists the living for Prometheus.
"""

import asyncio
import fcntl
import json
import logging
import os
import secrets
import signal
import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from autoscaler.actuators import ActuationError
from autoscaler.actuators.workers import Workers
from autoscaler.config import Pool, Processes
from autoscaler.model import Answer, Decision, Fleet, Worker

TARGETS = "targets.json"
REMOVED_KEPT = 200  # a worker that crashes for days must not fill the disk

logger = logging.getLogger(__name__)


class Record(msgspec.Struct, kw_only=True, rename="camel"):
    """What is known of one process. It is ours while a process has its pid and its start time."""

    name: str
    pool: str
    pid: int
    started: float  # unix seconds, from the kernel
    booted: float  # when the machine booted, by the same clock
    port: int
    log: str
    state: Literal["running", "draining", "stopping"] = "running"
    draining_since: float | None = None  # unix seconds
    ended: Literal["stopped", "crashed"] | None = None
    ended_at: str | None = None
    exit_code: int | None = None


class ProcessActuator:
    """The workers of one directory. Raises ActuationError if another autoscaler has it."""

    leading = True  # whoever has the directory
    leader = ""

    def __init__(self, config: Processes, token: str) -> None:
        self._config = config
        self._directory = Path(config.directory)
        self._removed = self._directory / "removed"
        self._removed.mkdir(parents=True, exist_ok=True)
        Path(config.log_directory).mkdir(parents=True, exist_ok=True)
        self._lock = (self._directory / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise ActuationError(f"{self._directory}: another autoscaler runs its workers here") from error
        self._workers = Workers(token)
        self._records: dict[str, Record] = {}
        self._answers: dict[str, Answer] = {}
        self._young: set[str] = set()  # started by us and not ready yet
        self._failed_starts: Counter[str] = Counter()  # by pool, since a young worker was last ready
        self._no_start_before: dict[str, float] = {}
        self._targets = ""
        self._adopt()

    def close(self) -> None:
        """Leave the workers running."""
        self._workers.close()
        self._lock.close()

    async def run(self) -> None:
        """Nothing goes on between ticks."""
        await asyncio.Event().wait()

    def tell(self, name: str, decision: Decision, problem: str | None) -> None:
        """The log has it; nobody else listens."""

    async def fleets(self) -> Mapping[str, Fleet]:
        """Look which processes live and ask each how it is."""
        for record in list(self._records.values()):
            if _ended(record):
                self._bury(record)
        self._publish()
        records = list(self._records.values())
        answers = await asyncio.gather(
            *(self._workers.state(record.name, self._config.host, record.port) for record in records)
        )
        self._answers = {
            record.name: answer for record, answer in zip(records, answers, strict=True) if answer
        }
        workers: dict[str, list[Worker]] = {}
        for record in records:
            answer = self._answers.get(record.name, Answer())
            if answer.ready and record.name in self._young:
                self._young.remove(record.name)
                self._failed_starts.pop(record.pool, None)
            if record.state != "stopping":
                workers.setdefault(record.pool, []).append(_worker(record, answer))
        return {pool: Fleet(tuple(found)) for pool, found in workers.items()}

    async def act(self, name: str, pool: Pool | None, decision: Decision) -> None:
        """Start, recall and drain, and end those that are empty.

        Raises ActuationError if a part could not be done.
        """
        for worker in decision.recall:
            self._mark(self._records[worker], "running", None)
        for worker in decision.drain:
            self._mark(self._records[worker], "draining", time.time())
        problems = [self._start(name, pool) for _ in range(decision.start) if pool]
        told = []
        for record in self._records.values():
            if record.pool != name:
                continue
            answer = self._answers.get(record.name)
            if record.state == "draining":
                told.append(self._drain(record))
            elif record.state == "running" and (
                record.name in decision.recall or (answer and answer.draining)
            ):
                told.append(self._undrain(record))
        problems += await asyncio.gather(*told)
        self._publish()
        if lines := [problem for problem in problems if problem]:
            raise ActuationError("; ".join(dict.fromkeys(lines)))

    async def _drain(self, record: Record) -> str | None:
        before = self._answers.get(record.name)
        answer = await self._workers.tell(record.name, self._config.host, record.port, "/drain")
        if answer is None:
            return f"{record.name} does not answer to /drain"
        # Told at an earlier tick and empty at this one: a task that was on its way when it stopped consuming
        # shows by then.
        if answer.drained and before and before.drained and not _ended(record):
            self._mark(record, "stopping", record.draining_since)
            _terminate(record)
        return None

    async def _undrain(self, record: Record) -> str | None:
        if await self._workers.tell(record.name, self._config.host, record.port, "/undrain") is None:
            return f"{record.name} does not answer to /undrain"
        return None

    def _start(self, pool_name: str, pool: Pool) -> str | None:
        """Start one worker; a text says why it could not be."""
        wait = self._no_start_before.get(pool_name, 0.0) - time.monotonic()
        if wait > 0:
            failed = self._failed_starts[pool_name]
            return f"{failed} workers ended before they were ready; the next start is in {wait:.0f} s"
        port = self._free_port()
        if port is None:
            ports = self._config.ports
            return f"no free port from {ports.first} to {ports.last} on {self._config.host}"
        name = f"{pool_name}-{secrets.token_hex(4)}"
        log = str(Path(self._config.log_directory) / f"{name}.log")
        environment = os.environ | {
            "CELERYKIT_POOL": pool_name,
            "CELERYKIT_QUEUES": ",".join(pool.queues),
            "CELERYKIT_WORKER_HOST": self._config.host,
            "CELERYKIT_WORKER_PORT": str(port),
            "CELERYKIT_WORKER_NAME": f"{name}@{socket.gethostname()}",
            "CELERYKIT_WORKER_CONCURRENCY": str(pool.concurrency),
            "CELERYKIT_WORKER_POOL_TYPE": pool.pool_type,
            "CELERYKIT_PACKING": str(pool.packing).lower(),
        }
        command = self._config.command
        try:
            # Unlike subprocess, this keeps nothing that would have to be waited for: the worker outlives us.
            pid = os.posix_spawnp(
                command[0],
                command,
                environment,
                setsid=True,
                setsigdef=(signal.SIGPIPE,),
                file_actions=(
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ),
            )
        except OSError as error:
            return f"cannot start {command[0]}: {error}"
        record = Record(
            name=name,
            pool=pool_name,
            pid=pid,
            started=psutil.Process(pid).create_time(),
            booted=psutil.boot_time(),
            port=port,
            log=log,
        )
        self._records[name] = record
        self._young.add(name)
        self._save(record)
        logger.info("started", extra={"worker": name, "pid": pid, "port": port, "log": log})
        return None

    def _free_port(self) -> int | None:
        taken = {record.port for record in self._records.values()}
        for port in range(self._config.ports.first, self._config.ports.last + 1):
            if port in taken:
                continue
            with socket.socket() as probe, suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self._config.host, port))
                return port
        return None

    def _adopt(self) -> None:
        """Take over the workers of an earlier autoscaler."""
        for path in self._directory.glob("*.json"):
            if path.name == TARGETS:
                continue
            try:
                record = msgspec.json.decode(path.read_bytes(), type=Record)
            except msgspec.DecodeError as error:
                logger.error("%s is no record of a worker and is left alone: %s", path, error)
                continue
            self._records[record.name] = record
            if record.state == "stopping" and not _ended(record):
                _terminate(record)  # the signal may never have been sent; an empty worker may get it twice

    def _mark(
        self, record: Record, state: Literal["running", "draining", "stopping"], since: float | None
    ) -> None:
        record.state, record.draining_since = state, since
        self._save(record)
        logger.info(state, extra={"worker": record.name, "pid": record.pid})

    def _save(self, record: Record) -> None:
        _write(self._directory / f"{record.name}.json", msgspec.json.encode(record))

    def _bury(self, record: Record) -> None:
        """Move the record of a process that is gone and note how it ended."""
        record.ended = "stopped" if record.state == "stopping" or record.exit_code == 0 else "crashed"
        record.ended_at = datetime.now(UTC).isoformat(timespec="seconds")
        if record.ended == "crashed" and record.name in self._young:
            self._failed_starts[record.pool] += 1
            pause = 2.0 ** min(self._failed_starts[record.pool], 6)
            self._no_start_before[record.pool] = time.monotonic() + pause
        self._young.discard(record.name)
        _write(self._removed / f"{record.name}.json", msgspec.json.encode(record))
        (self._directory / f"{record.name}.json").unlink(missing_ok=True)
        del self._records[record.name]
        logger.log(
            logging.INFO if record.ended == "stopped" else logging.ERROR,
            record.ended,
            extra={"worker": record.name, "pid": record.pid, "exitCode": record.exit_code, "log": record.log},
        )
        oldest_first = sorted(self._removed.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in oldest_first[:-REMOVED_KEPT]:
            path.unlink(missing_ok=True)
            (Path(self._config.log_directory) / f"{path.stem}.log").unlink(missing_ok=True)

    def _publish(self) -> None:
        """Tell Prometheus which workers there are."""
        pools: dict[str, list[str]] = {}
        for record in self._records.values():
            pools.setdefault(record.pool, []).append(f"{self._config.host}:{record.port}")
        groups = [{"targets": sorted(targets), "labels": {"pool": pool}} for pool, targets in pools.items()]
        text = json.dumps(groups)
        if text != self._targets:
            _write(self._directory / TARGETS, text.encode())
            self._targets = text


def _worker(record: Record, answer: Answer) -> Worker:
    since = record.draining_since
    return Worker(
        record.name,
        record.started,
        ready=answer.ready,
        active=answer.active,
        reserved=answer.reserved,
        draining_seconds=None if record.state == "running" else max(0.0, time.time() - (since or 0.0)),
        slots=answer.slots,
    )


def _ended(record: Record) -> bool:
    """Tell whether the recorded process is gone; another one that got its pid is not it."""
    # A dead child of an earlier autoscaler is not ours to wait for.
    with suppress(psutil.NoSuchProcess, ChildProcessError):
        process = psutil.Process(record.pid)
        # Seconds after boot stay when the clock is set; the kernel rounds the boot time to whole seconds.
        drift = (process.create_time() - psutil.boot_time()) - (record.started - record.booted)
        if abs(drift) < 2:
            if process.status() != psutil.STATUS_ZOMBIE:
                return False
            pid, status = os.waitpid(record.pid, os.WNOHANG)
            if pid == 0:
                return False  # threads of it are still ending
            record.exit_code = os.waitstatus_to_exitcode(status)
    return True


def _terminate(record: Record) -> None:
    with suppress(psutil.NoSuchProcess):
        psutil.Process(record.pid).terminate()


def _write(path: Path, content: bytes) -> None:
    """Write a file that is whole at every moment."""
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_bytes(content)
    draft.replace(path)
