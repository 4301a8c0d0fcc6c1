"""The tasks of the fault tests, loaded by their workers. Each writes the ledger."""

import os
import select
import signal
import time
from pathlib import Path
from typing import Any

import pymysql

from worker.celery import app
from worker.ledger import recorded


@app.task(
    name="fault.work",
    bind=True,
    # the ledger is in the database too: a task that needs it tries again, as a user's would
    autoretry_for=(pymysql.MySQLError,),
    max_retries=None,
    retry_backoff=1,
    retry_backoff_max=2,
)
@recorded
def work(self: Any, seconds: float, size: int = 0) -> str:
    """Take some time and return a text of this size."""
    select.select([], [], [], seconds)  # time.sleep fails under libfaketime when the clock was set back
    return "x" * size


@app.task(name="fault.limited", bind=True)
@recorded
def limited(self: Any, seconds: float) -> None:
    """Take longer than the catalogue allows."""
    time.sleep(seconds)


@app.task(name="fault.poison", bind=True)
@recorded
def poison(self: Any) -> None:
    """Kill the process that runs it, each time."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="fault.grow", bind=True)
@recorded
def grow(self: Any, cgroup: str, mebibytes: int) -> str:
    """Take more memory than its control group has, the first time; then return what it is asked."""
    if not self.request.delivery_info["redelivered"]:
        Path(cgroup, "cgroup.procs").write_text(str(os.getpid()))
        bytearray(os.urandom(2**20)) * mebibytes
    return "survived"
