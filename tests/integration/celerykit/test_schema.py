"""The schema steps on a real database."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from celerykit import schema
from celerykit.database import connect

pytestmark = pytest.mark.integration


def tables(url):
    with connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW TABLES")
        return {name for (name,) in cursor.fetchall()}


def test_the_steps_make_the_tables_of_the_contract(empty_database):
    assert schema.upgrade(empty_database) == [1]
    assert tables(empty_database) == {
        "celery_taskmeta",
        "celerykit_operation",
        "celerykit_ledger",
        "celerykit_schema",
        "users",
    }


def test_a_second_upgrade_does_nothing(empty_database):
    schema.upgrade(empty_database)
    assert schema.upgrade(empty_database) == []


def test_programs_that_start_together_apply_each_step_once(empty_database):
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(schema.upgrade, [empty_database] * 8))
    assert sorted(done, key=len) == [[]] * 7 + [[1]]


def test_a_step_that_was_cut_short_is_applied_again(empty_database):
    schema.upgrade(empty_database)
    with connect(empty_database) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE users")
        cursor.execute("DELETE FROM celerykit_schema")
    assert schema.upgrade(empty_database) == [1]
    assert "users" in tables(empty_database)


def test_a_database_newer_than_the_program_is_refused(empty_database):
    schema.upgrade(empty_database)
    with connect(empty_database) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO celerykit_schema VALUES (99)")
    with pytest.raises(schema.SchemaError, match="step 99, newer"):
        schema.upgrade(empty_database)


def run_command(environment, *words):
    return subprocess.run(
        [sys.executable, "-m", "celerykit.schema", "upgrade", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_says_what_it_did(empty_database):
    done = run_command({"CELERYKIT_DATABASE_URL": empty_database})
    assert (done.returncode, done.stdout) == (0, "schema: applied steps [1]\n")


def test_the_command_without_a_database_url_names_the_variable():
    done = run_command({})
    assert done.returncode == 2
    assert done.stderr.startswith("CELERYKIT_DATABASE_URL: is required")


def test_the_command_with_a_database_that_is_away_fails_in_one_line():
    done = run_command({"CELERYKIT_DATABASE_URL": "mysql://u:p@127.0.0.1:1/d"}, "--wait", "0")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
