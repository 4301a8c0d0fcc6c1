"""`python -m worker`: becomes Celery's own worker, with the options that the settings give."""

import os
import signal
import socket
import sys
import uuid
from importlib.util import find_spec

from celerykit.settings import PREFIX as COMMON
from celerykit.settings import Settings, exit_with, load_or_exit
from worker.settings import PREFIX, WorkerSettings


def command(settings: WorkerSettings, pool: str) -> list[str]:
    """Celery's command line."""
    # unique for each start: the control queue of a dead namesake would refuse us (RESOURCE_LOCKED)
    name = settings.name or f"{pool}-{uuid.uuid4().hex[:8]}"
    return [
        sys.executable,
        "-m",
        "celery",
        "--app=worker.celery",
        "worker",
        f"--hostname={name if '@' in name else f'{name}@{socket.gethostname()}'}",
        f"--concurrency={settings.concurrency}",
        f"--pool={settings.pool_type}",
        f"--loglevel={settings.log_level}",
        # workers need not know each other: fewer messages, a faster start
        "--without-gossip",
        "--without-mingle",
    ]


def check(worker: WorkerSettings, settings: Settings) -> None:
    """End the program if settings do not go together: what cannot be done is not left out in silence."""
    if worker.pool_type == "gevent" and find_spec("gevent") is None:
        exit_with(f"{PREFIX}POOL_TYPE: gevent is not installed; the extra `worker` has it")
    if worker.pool_type == "gevent" and settings.profile == "fast":
        exit_with(f"{COMMON}PROFILE: must be durable with {PREFIX}POOL_TYPE=gevent: fast is for short tasks")
    if worker.pool_type != "prefork":
        for name in (
            "worker_max_tasks_per_child",
            "worker_max_memory_per_child_kib",
            "soft_shutdown_seconds",
        ):
            if getattr(settings, name):
                exit_with(
                    f"{COMMON}{name.upper()}: must be 0 with {PREFIX}POOL_TYPE={worker.pool_type}:"
                    " only prefork has children that can be ended"
                )


def main() -> None:
    """Check the settings, then give this process to Celery, which for gevent patches it from its start."""
    # a container's first process misses what it has no handler for: held back until `worker.celery` has one
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    worker, settings = load_or_exit(WorkerSettings, prefix=PREFIX), load_or_exit(Settings)
    check(worker, settings)
    line = command(worker, settings.pool)
    os.execv(line[0], line)


if __name__ == "__main__":
    main()
