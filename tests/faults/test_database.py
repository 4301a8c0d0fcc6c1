"""MySQL goes away, cuts connections, keeps a lock, or has no room left."""

import subprocess
from contextlib import closing
from pathlib import Path

import pymysql
import pytest

from celerykit import database
from local.ports import Ports
from local.run import Run
from local.stores import MySQL
from tests.faults.harness import SLOTS, Site, flowing, now
from tests.faults.load import Load
from tests.integration.support import eventually

pytestmark = pytest.mark.integration


@pytest.mark.fault(
    "MySQL is restarted",
    "503 with `Retry-After` while it is away; results are written once it is back, a task that itself needs"
    " it tries again",
)
def test_mysql_restarted(site, measured):
    site.start()
    with Load(site.url) as load:
        flowing(load)
        site.mysql.stop()
        began = now()
        eventually(lambda: load.seen(lambda a: a.status == 503, since=began), what="a refusal")
        eventually(lambda: now() - began > 5, what="an absence that lasts")
        site.mysql.start()
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(verdict)
    verdict.check(twice=2 * SLOTS)


@pytest.mark.fault(
    "All connections to MySQL are killed, three times",
    "they are made anew; at most the statement that ran fails, with a 503 or one more try",
)
def test_mysql_connections_killed(site, measured):
    site.start()
    killed = 0
    with Load(site.url) as load:
        for _ in range(3):
            flowing(load, 10)
            for (number,) in site.administer(
                f"SELECT id FROM information_schema.processlist WHERE db = '{site.database}'"
            ):
                killed += 1
                site.administer(f"KILL {number}")
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(f"{killed} killed; {verdict}")
    verdict.check(twice=3 * 2 * SLOTS)


@pytest.fixture
def short_lock_wait(site):
    """Statements give up on a lock after a second."""
    root(site.mysql, "SET GLOBAL innodb_lock_wait_timeout = 1")
    yield
    root(site.mysql, "SET GLOBAL innodb_lock_wait_timeout = 50")


def root(mysql, statement):
    socket = mysql.run.folder("mysql") / "data" / "mysql.sock"
    with closing(pymysql.connect(unix_socket=str(socket), user="root")) as admin, admin.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.fault(
    "Another session holds the lock on a result's row for five seconds (error 1205, lock wait timeout)",
    "the write is tried again until the lock is free; other tasks are not held up",
)
def test_row_lock(site, short_lock_wait, measured):
    site.start()
    with Load(site.url) as load, closing(pymysql.connect(**database.parse(site.database_url))) as other:
        flowing(load)
        status, operation = site.post("fault.work", [2])
        assert status == 202
        other.begin()
        with other.cursor() as cursor:
            cursor.execute(
                "INSERT INTO celery_taskmeta (task_id, status) VALUES (%s, 'LOCKED')", (operation["id"],)
            )
        began = now()
        flowing(load)
        eventually(lambda: now() - began > 5, what="a lock that lasts")
        other.rollback()
        mended = now()
        told = site.ends(operation["id"])
        waited = now() - mended
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(f"the row's result {waited:.1f} s after the lock was gone; {verdict}")
    assert told["state"] == "SUCCESS"
    verdict.check()


@pytest.mark.fault(
    "Writing a result is the victim of a deadlock (error 1213)",
    "the write is tried again",
)
def test_deadlock(site, measured):
    site.start(workers=1)
    deadlocks = (
        "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'innodb_deadlocks'"
    )
    ((before,),) = site.administer(deadlocks)
    status, operation = site.post("fault.work", [2])
    assert status == 202
    task = operation["id"]
    parse = database.parse(site.database_url)
    with closing(pymysql.connect(**parse)) as heavy, heavy.cursor() as cursor:
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
        waits(site, task)
        cursor.execute("UPDATE celery_taskmeta SET status = 'HEAVY' WHERE task_id = %s", (task,))
        heavy.rollback()
    told = site.ends(task)
    ((after,),) = site.administer(deadlocks)
    measured(f"{int(after) - int(before)} deadlock, the result written after it")
    assert told["state"] == "SUCCESS"
    assert int(after) > int(before)


def waits(site, task):
    eventually(
        lambda: site.administer(
            "SELECT 1 FROM information_schema.processlist"
            f" WHERE db = '{site.database}' AND info LIKE '%celery_taskmeta%{task}%'"
        ),
        what="the result's write waits",
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
def test_mysql_disk_full(run, stores, small_disk, measured):
    other = Run(small_disk, Ports.free())
    mysql = MySQL(other)
    site = Site(run, stores.rabbitmq, mysql)
    try:
        mysql.start()
        with site.made():
            site.start()
            filler = Path(small_disk, "filler")
            with Load(site.url, size=50_000) as load:
                flowing(load)
                began = now()
                fill(filler)
                eventually(lambda: load.seen(lambda a: a.status == 503, since=began), 40, "a refusal")
                eventually(lambda: load.statuses()[503] > 20, 30, "refusals")
                filler.unlink()
                ended = other.processes.find("mysql") is None
                if ended:  # as whoever runs it would
                    mysql.stop()
                    mysql.start()
                mended = now()
                flowing(load)
            verdict = site.judge(load, mended=mended)
            measured(f"MariaDB {'gave up and was started again' if ended else 'went on'}; {verdict}")
            verdict.check(twice=2 * SLOTS)
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
