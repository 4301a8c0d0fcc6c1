"""MySQL goes away, cuts connections, takes no more, keeps a lock, or has no room left."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pymysql
import pytest
from pymysql.cursors import Cursor

from celerykit import database
from local.ports import HOST, Ports
from local.run import Run
from local.stores import MySQL
from tests.faults.harness import SLOTS, Site, now
from tests.integration.support import eventually

pytestmark = pytest.mark.integration


@contextmanager
def root(mysql: MySQL) -> Iterator[Cursor]:
    """Do what only the server's root may."""
    socket = mysql.run.folder("mysql") / "data" / "mysql.sock"
    with closing(pymysql.connect(unix_socket=str(socket), user="root")) as admin, admin.cursor() as cursor:
        yield cursor


@contextmanager
def globally(mysql: MySQL, variable: str, value: int) -> Iterator[Cursor]:
    """Set a variable of the server for all connections to come, and set it back; gives a root's cursor."""
    with root(mysql) as admin:
        admin.execute(f"SELECT @@GLOBAL.{variable}")
        ((was,),) = admin.fetchall()
        admin.execute(f"SET GLOBAL {variable} = {value}")
        try:
            yield admin
        finally:
            admin.execute(f"SET GLOBAL {variable} = {was}")


def status(cursor: Cursor, variable: str) -> int:
    cursor.execute(
        f"SELECT variable_value FROM information_schema.global_status WHERE variable_name = '{variable}'"
    )
    ((value,),) = cursor.fetchall()
    return int(value)


def connections(site: Site, cursor: Cursor) -> list[int]:
    """Those of the gateway and the workers."""
    cursor.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{site.database}'")
    return [number for (number,) in cursor.fetchall()]


def kill_connections(site: Site, cursor: Cursor) -> int:
    """End the connections of the gateway and the workers; returns how many there were."""
    found = connections(site, cursor)
    for number in found:
        with suppress(pymysql.OperationalError):  # it has ended meanwhile
            cursor.execute(f"KILL {number}")
    return len(found)


@pytest.mark.fault(
    "MySQL is restarted",
    "503 with `Retry-After` while it is away; results are written once it is back, a task that itself needs"
    " it tries again",
)
def test_mysql_restarted(site, fault):
    site.start()
    with fault(site, twice=2 * SLOTS) as trial:
        site.mysql.stop()
        began = now()
        trial.refusing()
        eventually(lambda: now() - began > 5, what="an absence that lasts")
        site.mysql.start()


@pytest.mark.fault(
    "All connections to MySQL are killed, three times",
    "they are made anew; at most the statement that ran fails, with a 503 or one more try",
)
def test_mysql_connections_killed(site, fault):
    site.start()
    with root(site.mysql) as admin, fault(site, twice=3 * 2 * SLOTS) as trial:
        killed = kill_connections(site, admin)
        for _ in range(2):
            trial.flowing(10)
            killed += kill_connections(site, admin)
        trial.note(f"{killed} killed")


@pytest.mark.fault(
    "MySQL drops connections that were idle for a second (`wait_timeout`), three times",
    "they are made anew, and nobody notices",
)
def test_idle_connections_dropped(site, fault):
    with globally(site.mysql, "wait_timeout", 1) as admin:
        site.start()
        with fault(site) as trial:
            for _ in range(3):
                trial.load.paused = True
                eventually(lambda: not connections(site, admin), what="all connections are dropped")
                trial.load.paused = False
                trial.flowing(10)
    assert trial.verdict.refused == {}


@pytest.mark.fault(
    "A task's connection is killed in the midst of its transaction",
    "nothing of it stays; the task, which is made to be tried again, does all of it once",
)
def test_transaction_cut(site, fault):
    site.start(workers=1)
    with root(site.mysql) as admin, fault(site, rate=6, before=8, after=8) as trial:
        _, operation = site.post("fault.transfer", [2])
        eventually(lambda: end_transaction(site, admin), what="the transaction")
        told = site.ends(operation["id"])
    name = operation["id"]
    ((rows,),) = site.administer(f"SELECT COUNT(*) FROM `{site.database}`.users WHERE name = '{name}'")
    attempts = sum(row.task_id == name for row in site.rows())
    trial.note(f"2 rows wanted, {rows} there after {attempts} attempts")
    assert (told["state"], rows, attempts) == ("SUCCESS", 2, 2)


def end_transaction(site, admin):
    admin.execute(
        "SELECT id FROM information_schema.processlist"
        f" WHERE db = '{site.database}' AND info LIKE 'SELECT SLEEP%'"
    )
    found = admin.fetchone()
    return found and admin.execute(f"KILL {found[0]}") == 0


@pytest.mark.fault(
    "MySQL takes no more connections (`max_connections`), then those there are break",
    "open connections go on; then 503 with `Retry-After`, and tasks and results wait, until some are free",
)
def test_database_connections_exhausted(site, fault):
    site.start()
    with fault(site, twice=2 * SLOTS) as trial, ExitStack() as others:
        for _ in range(12):
            others.enter_context(closing(pymysql.connect(**database.parse(site.mysql.url))))
        with globally(site.mysql, "max_connections", 10) as admin:
            trial.flowing()
            kill_connections(site, admin)
            trial.refusing(20)
    assert set(trial.verdict.refused) == {"database-unavailable"}


@pytest.mark.fault(
    "The password of MySQL's user is changed; later its connections break, and all is restarted with the"
    " new one",
    "open connections go on; then 503 with `Retry-After`, and tasks and results wait for the restart",
)
def test_database_password_rotated(site, fault):
    site.environment = {"CELERYKIT_DATABASE_URL": user_url(site, "old")}
    site.start(workers=1)
    with root(site.mysql) as admin, fault(site, rate=6, before=8, after=8, twice=SLOTS, cut=True) as trial:
        site.environment = {"CELERYKIT_DATABASE_URL": user_url(site, "new")}
        trial.flowing(8)
        kill_connections(site, admin)
        trial.refusing(10)
        site.roll()
    with root(site.mysql) as admin:
        admin.execute(f"DROP USER `{site.name}`@`{HOST}`")


def user_url(site: Site, password: str) -> str:
    """Give a user of the database's own this password; where that user connects."""
    who = f"`{site.name}`@`{HOST}`"
    with root(site.mysql) as admin:
        admin.execute(f"CREATE USER IF NOT EXISTS {who}")
        admin.execute(f"ALTER USER {who} IDENTIFIED BY '{password}'")
        admin.execute(f"GRANT ALL ON `{site.database}`.* TO {who}")
    return f"mysql://{site.name}:{password}@{HOST}:{site.mysql.run.ports.mysql}/{site.database}"


@pytest.mark.fault(
    "Another session holds the lock on a result's row for five seconds (error 1205, lock wait timeout)",
    "the write is tried again until the lock is free; other tasks are not held up",
)
def test_row_lock(site, fault):
    with globally(site.mysql, "innodb_lock_wait_timeout", 1):
        site.start()
        with fault(site) as trial, closing(pymysql.connect(**database.parse(site.database_url))) as other:
            _, operation = site.post("fault.work", [2])
            other.begin()
            with other.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO celery_taskmeta (task_id, status) VALUES (%s, 'LOCKED')", (operation["id"],)
                )
            began = now()
            trial.flowing()
            eventually(lambda: now() - began > 5, what="a lock that lasts")
            other.rollback()
            trial.mended = now()
            told = site.ends(operation["id"])
            trial.note(f"the row's result {now() - trial.mended:.1f} s after the lock was gone")
    assert told["state"] == "SUCCESS"


@pytest.mark.fault(
    "Another session holds a lock on the whole table of operations",
    "503 in time for what needs a row, and nothing half done: no row without a 202, no task without an answer"
    " that names it; those who wait for a result get it",
)
def test_operations_locked(site, fault):
    site.start()
    with fault(site) as trial, closing(pymysql.connect(**database.parse(site.database_url))) as other:
        other.begin()
        with other.cursor() as cursor:
            cursor.execute("SELECT * FROM celerykit_operation FOR UPDATE")
        began = now()
        code, told = site.post("fault.work", [3], wait=1)
        trial.note(f"the row of a task that runs given up after {now() - began:.1f} s")
        trial.flowing()
        trial.refusing(20)
        other.rollback()
    assert (code, told["type"]) == (503, "/problems/database-unavailable")
    assert any(row.task_id == told["id"] for row in site.rows())
    assert trial.verdict.unasked == 0
    known = {task for (task,) in site.administer(f"SELECT id FROM `{site.database}`.celerykit_operation")}
    assert known == {answer.task_id for answer in trial.load.answers if answer.status == 202}


@pytest.mark.fault(
    "Writing a result is the victim of a deadlock (error 1213)",
    "the write is tried again",
)
def test_deadlock(site, fault):
    site.start(workers=1)
    with root(site.mysql) as admin, fault(site, rate=6, before=8, after=8) as trial:
        had = status(admin, "innodb_deadlocks")
        _, operation = site.post("fault.work", [2])
        task = operation["id"]
        with closing(pymysql.connect(**database.parse(site.database_url))) as heavy, heavy.cursor() as cursor:
            heavy.begin()
            # InnoDB ends the lighter of two: this one has written more than a result
            cursor.executemany(
                "INSERT INTO celery_taskmeta (task_id, status) VALUES (%s, 'HEAVY')",
                [(f"heavy-{n}",) for n in range(500)],
            )
            # the result's row finds no way into this index, and then this one none to the row
            cursor.execute(
                "SELECT task_id FROM celery_taskmeta FORCE INDEX (date_done)"
                " WHERE date_done > '2000-01-01' FOR UPDATE"
            )
            eventually(lambda: writes(site, task), what="the result's write waits")
            cursor.execute("UPDATE celery_taskmeta SET status = 'HEAVY' WHERE task_id = %s", (task,))
            heavy.rollback()
        told = site.ends(task)
        deadlocks = status(admin, "innodb_deadlocks") - had
        trial.note(f"{deadlocks} deadlock, the result written after it")
    assert told["state"] == "SUCCESS"
    assert deadlocks > 0


def writes(site, task):
    return site.administer(
        "SELECT 1 FROM information_schema.processlist"
        f" WHERE db = '{site.database}' AND info LIKE '%celery_taskmeta%{task}%'"
    )


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 220 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=220m", "kit-small", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.fault(
    "The disk of MySQL is full",
    "503 for what needs a row; results wait until there is room, and a server that has given up is started"
    " again",
)
def test_mysql_disk_full(run, stores, small_disk, fault):
    other = Run(small_disk, Ports.free())
    mysql = MySQL(other)
    site = Site(run, stores.rabbitmq, mysql)
    try:
        mysql.start()
        with site.made():
            site.start()
            filler = Path(small_disk, "filler")
            with fault(site, twice=2 * SLOTS, rate=10, size=50_000) as trial:
                fill(filler)
                trial.refusing(10)
                filler.unlink()
                ended = other.processes.find("mysql") is None
                if ended:  # as whoever runs it would
                    mysql.stop()
                    mysql.start()
                trial.note(f"MariaDB {'gave up and was started again' if ended else 'went on'}")
    finally:
        mysql.stop()


def fill(path):
    piece = bytes(65536)
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(piece):
                pass
        except OSError:
            return
