"""`python -m worker`: becomes Celery's own worker, with the options that the settings give."""

import os
import socket
import sys
import uuid

from celerykit.settings import Settings, load_or_exit
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


def main() -> None:
    """Check the settings, then give this process to Celery, which for gevent patches it from its start."""
    line = command(load_or_exit(WorkerSettings, prefix=PREFIX), load_or_exit(Settings).pool)
    os.execv(line[0], line)


if __name__ == "__main__":
    main()
