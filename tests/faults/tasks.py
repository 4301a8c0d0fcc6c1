"""The tasks of the fault tests, loaded by their workers. Each writes the ledger."""

import os
import select
import signal
import time
from pathlib import Path
from typing import Any

import pymysql

from celerykit.database import connect
from worker.celery import app
from worker.ledger import recorded

# the ledger is in the database too: a task that needs it tries again, as a user's would
TRIES_AGAIN = {
    "autoretry_for": (pymysql.MySQLError,),
    "max_retries": None,
    "retry_backoff": 1,
    "retry_backoff_max": 2,
}


@app.task(name="fault.work", bind=True, **TRIES_AGAIN)
@recorded
def work(self: Any, seconds: float, size: int = 0) -> str:
    """Take some time and return a text of this size."""
    select.select([], [], [], seconds)  # time.sleep fails under libfaketime when the clock was set back
    return "x" * size


@app.task(name="fault.transfer", bind=True, **TRIES_AGAIN)
@recorded
def transfer(self: Any, seconds: float) -> None:
    """Write two rows in one transaction that takes some time."""
    row = "INSERT INTO users (name, flag) VALUES (%s, 0)"
    with connect(app.celerykit.settings.database_url) as connection, connection.cursor() as cursor:
        connection.begin()
        cursor.execute(row, (self.request.id,))
        cursor.execute("SELECT SLEEP(%s)", (seconds,))
        cursor.execute(row, (self.request.id,))
        connection.commit()


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
def grow(self: Any, cgroup: str, mebibytes: int, always: bool = False) -> str:
    """Take more memory than its control group has, `always` or the first time only."""
    if always or not self.request.delivery_info["redelivered"]:
        Path(cgroup, "cgroup.procs").write_text(str(os.getpid()))
        bytearray(os.urandom(2**20)) * mebibytes
    return "survived"
