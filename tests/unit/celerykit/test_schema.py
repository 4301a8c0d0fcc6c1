"""`python -m celerykit.schema upgrade` beside a database that is still starting."""

import sys

import pymysql
import pytest

from celerykit import schema


@pytest.fixture
def command(monkeypatch):
    """The command line, against a port on which nothing listens."""
    monkeypatch.setenv("CELERYKIT_DATABASE_URL", "mysql://kit:s3cret@127.0.0.1:1/kit")
    monkeypatch.setattr(schema, "PAUSE_SECONDS", 0.01)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["schema", "upgrade", *arguments])
        schema.main()

    return run


def test_a_database_that_does_not_answer_in_time_ends_it_with_code_1(command, capsys):
    with pytest.raises(SystemExit) as ended:
        command("--wait", "1")
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert "waiting for the database" in told.out
    assert "127.0.0.1" in told.err
    assert "s3cret" not in told.out + told.err


def test_a_database_that_answers_later_is_upgraded_then(command, capsys, monkeypatch):
    real, tries = schema.upgrade, []

    def upgrade(url):
        tries.append(url)
        return real(url) if len(tries) < 3 else [1]

    monkeypatch.setattr(schema, "upgrade", upgrade)
    command("--wait", "30")
    assert len(tries) == 3
    assert "applied steps [1]" in capsys.readouterr().out


def test_a_login_that_is_refused_is_not_tried_again(command, monkeypatch):
    tries = []

    def upgrade(url):
        tries.append(url)
        raise pymysql.err.OperationalError(1045, "Access denied")

    monkeypatch.setattr(schema, "upgrade", upgrade)
    with pytest.raises(SystemExit):
        command("--wait", "30")
    assert len(tries) == 1
