"""The tables, as numbered steps: `python -m celerykit.schema upgrade` applies those that are missing.

Any number of programs may do so at once: a lock of the database lets one of them work. A step that has
landed is never edited; a change is a new step. Each statement can be applied twice, so that a step cut short
is simply applied again.
"""

import argparse
import sys
import time
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.constants import CR

from celerykit.database import connect, parse
from celerykit.settings import Database, load_or_exit

LOCK = "celerykit.schema"
LOCK_SECONDS = 60
PAUSE_SECONDS = 1
UNREACHABLE = {CR.CR_CONN_HOST_ERROR, CR.CR_SERVER_LOST}

STEPS: tuple[tuple[str, ...], ...] = (
    (
        # Celery's own table, with room for more than 64 KB
        """
        CREATE TABLE IF NOT EXISTS celery_taskmeta (
            task_id VARCHAR(155) CHARACTER SET ascii NOT NULL PRIMARY KEY,
            status VARCHAR(50) CHARACTER SET ascii NOT NULL,
            result LONGBLOB,
            traceback LONGTEXT,
            children LONGTEXT,
            date_done DATETIME(6),
            KEY date_done (date_done)
        ) DEFAULT CHARACTER SET utf8mb4
        """,
        """
        CREATE TABLE IF NOT EXISTS celerykit_operation (
            id VARCHAR(155) CHARACTER SET ascii NOT NULL PRIMARY KEY,
            task VARCHAR(255) NOT NULL,
            queue VARCHAR(255) NOT NULL,
            owner VARCHAR(255) NOT NULL,
            accepted_at DOUBLE NOT NULL COMMENT 'unix seconds',
            expires_at DOUBLE NOT NULL COMMENT 'unix seconds',
            KEY expires_at (expires_at)
        ) DEFAULT CHARACTER SET utf8mb4
        """,
        """
        CREATE TABLE IF NOT EXISTS celerykit_ledger (
            task_id VARCHAR(155) CHARACTER SET ascii NOT NULL,
            attempt_id VARCHAR(36) CHARACTER SET ascii NOT NULL PRIMARY KEY,
            worker VARCHAR(255) NOT NULL,
            started_at DOUBLE NOT NULL COMMENT 'unix seconds',
            ended_at DOUBLE COMMENT 'unix seconds; NULL while it runs and for ever if it was cut short',
            KEY task_id (task_id)
        ) DEFAULT CHARACTER SET utf8mb4
        """,
        """
        CREATE TABLE IF NOT EXISTS users (
            id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
            name VARCHAR(64) NOT NULL,
            flag INT NOT NULL,
            KEY flag (flag)
        ) DEFAULT CHARACTER SET utf8mb4
        """,
        """
        INSERT IGNORE INTO users (id, name, flag) VALUES
            (1, 'Ada', 0), (2, 'Grace', 1), (3, 'Edsger', 1), (4, 'Barbara', 0), (5, 'Donald', 1),
            (6, 'Frances', 0), (7, 'Leslie', 1), (8, 'Margaret', 2), (9, 'Tony', 0), (10, 'Radia', 2)
        """,
    ),
)


class SchemaError(RuntimeError):
    """The steps could not be applied."""


def upgrade(url: str) -> list[int]:
    """Apply the steps that the database lacks; returns their numbers, from 1."""
    connection = connect(url)
    try:
        with connection.cursor() as cursor:
            # one lock for each database of a server
            lock = f"{LOCK}.{parse(url)['database']}"[:64]
            cursor.execute("SELECT GET_LOCK(%s, %s)", (lock, LOCK_SECONDS))
            if cursor.fetchone() != (1,):
                raise SchemaError(f"another program holds the lock {lock!r} for over {LOCK_SECONDS} s")
            try:
                return _apply(connection)
            finally:
                cursor.execute("SELECT RELEASE_LOCK(%s)", (lock,))
    finally:
        connection.close()


def _apply(connection: "Connection[Any]") -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS celerykit_schema (step INT NOT NULL PRIMARY KEY)")
        cursor.execute("SELECT COALESCE(MAX(step), 0) FROM celerykit_schema")
        (done,) = cursor.fetchone() or (0,)
        if done > len(STEPS):
            raise SchemaError(
                f"the database is at step {done}, newer than this program, which knows {len(STEPS)}"
            )
        for number, statements in enumerate(STEPS[done:], start=done + 1):
            for statement in statements:
                cursor.execute(statement)
            cursor.execute("INSERT INTO celerykit_schema VALUES (%s)", (number,))
        return list(range(done + 1, len(STEPS) + 1))


def _patiently(url: str, seconds: float) -> list[int]:
    """Upgrade a database that may still be starting: in a new cluster it comes up beside this program."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return upgrade(url)
        except pymysql.err.OperationalError as error:
            if error.args[0] not in UNREACHABLE or time.monotonic() + PAUSE_SECONDS > deadline:
                raise
            print(f"schema: waiting for the database: {error.args[-1]}", flush=True)  # noqa: T201
            time.sleep(PAUSE_SECONDS)


def main() -> None:
    """`python -m celerykit.schema upgrade`."""
    parser = argparse.ArgumentParser(
        prog="celerykit.schema", description="apply the steps the database lacks"
    )
    parser.add_argument("command", choices=["upgrade"])
    parser.add_argument(
        "--wait",
        type=float,
        default=60,
        metavar="SECONDS",
        help="how long to wait for a database that does not answer yet (%(default)s)",
    )
    arguments = parser.parse_args()
    try:
        steps = _patiently(load_or_exit(Database).database_url, arguments.wait)
    except (SchemaError, pymysql.MySQLError) as error:
        print(f"schema: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
    print(f"schema: applied steps {steps}" if steps else "schema: up to date")  # noqa: T201


if __name__ == "__main__":
    main()
