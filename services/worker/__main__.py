"""`python -m worker`: Celery itself as this process, with the options that the settings give."""

import socket
import uuid

from celery.bin.celery import celery

from celerykit.settings import Settings, load_or_exit
from worker.settings import PREFIX, WorkerSettings


def main() -> None:
    """Run until told to stop; SIGTERM lets the running tasks end first."""
    settings = load_or_exit(WorkerSettings, prefix=PREFIX)
    # unique for each start: the control queue of a dead namesake would refuse us (RESOURCE_LOCKED)
    name = settings.name or f"{load_or_exit(Settings).pool}-{uuid.uuid4().hex[:8]}"
    celery(
        [
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
    )


if __name__ == "__main__":
    main()
