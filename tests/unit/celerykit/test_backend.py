"""The result backend without a database: what is tried again, and what becomes of a task that it fails."""

import json
from datetime import datetime
from types import SimpleNamespace

import pymysql
import pytest
from celery import Celery
from celery.exceptions import BackendStoreError, Reject
from kombu.exceptions import EncodeError

from celerykit.profile import configure
from celerykit.settings import Settings

SETTINGS = Settings(broker_url="amqp://u:p@127.0.0.1:1/v", database_url="mysql://u:p@127.0.0.1:1/d")


@pytest.fixture
def app():
    """An app whose database cannot be reached, and that gives up soon."""
    app = Celery("test", set_as_current=False)
    configure(app, SETTINGS)
    app.conf.result_backend_max_retries = 2
    return app


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (pymysql.OperationalError(2006, "gone away"), True),
        (pymysql.OperationalError(1290, "read-only"), True),
        (pymysql.OperationalError(1213, "deadlock"), True),
        (pymysql.ProgrammingError(1146, "no such table"), True),
        (pymysql.InterfaceError(0, ""), True),
        (pymysql.OperationalError(1153, "packet too large"), False),
        (pymysql.DataError(1406, "too long"), False),
        (ValueError("no database error"), False),
    ],
)
def test_what_may_pass_is_tried_again(app, error, again):
    assert app.backend.exception_safe_to_retry(error) is again


def test_a_running_task_whose_result_cannot_be_written_goes_back_to_its_queue(app, monkeypatch):
    monkeypatch.setattr(Celery, "current_worker_task", object())
    with pytest.raises(Reject) as rejected:
        app.backend.store_result("t1", 1, "SUCCESS")
    assert rejected.value.requeue


def test_a_result_that_can_never_be_written_fails_its_task(app, monkeypatch):
    def refuse(*_):
        raise pymysql.OperationalError(1153, "too large by far")

    monkeypatch.setattr(Celery, "current_worker_task", object())
    monkeypatch.setattr(app.backend, "_execute", refuse)
    with pytest.raises(EncodeError, match="too large by far"):  # of which Celery makes a failure
        app.backend.store_result("t1", 1, "SUCCESS")


def test_the_main_loop_gives_up_soon_with_an_error(app):
    app.conf.result_backend_max_retries = 600
    with pytest.raises(BackendStoreError):
        app.backend.store_result("t1", 1, "FAILURE")


def too_large(monkeypatch, app, most=5000):
    """Have the database refuse what is larger; returns what it took."""
    taken = []

    def execute(_, values):
        if sum(len(value or "") for value in values if not isinstance(value, datetime)) > most:
            raise pymysql.OperationalError(1153, "too large by far")
        taken.append(values)

    monkeypatch.setattr(app.backend, "_execute", execute)
    return taken


@pytest.mark.parametrize("running", [object(), None], ids=["where it ran", "in the main loop"])
def test_a_failure_too_large_for_the_database_is_cut_short_for_all_who_ask(app, monkeypatch, running):
    taken = too_large(monkeypatch, app)
    pushed = []
    monkeypatch.setattr(app.backend._replies, "push", lambda *push: pushed.append(json.loads(push[-1])))
    monkeypatch.setattr(Celery, "current_worker_task", running)
    caller = SimpleNamespace(reply_to="gw.1", correlation_id="t1", children=[])
    error = KeyError("beginning" + "x" * 10_000)
    app.backend.store_result("t1", error, "FAILURE", traceback="y" * 10_000 + "end", request=caller)
    ((_, state, stored, traceback, *_),) = taken
    failure = json.loads(stored)
    assert (state, failure["exc_type"], failure["exc_module"]) == ("FAILURE", "KeyError", "builtins")
    (text,) = failure["exc_message"]
    assert text.startswith("beginningxxx")
    assert text.endswith("too large by far)")
    assert traceback.endswith("yyyend")
    assert pushed[0]["result"] == failure


def test_a_failure_that_is_refused_even_short_goes_back_to_its_queue(app, monkeypatch):
    too_large(monkeypatch, app, most=0)
    monkeypatch.setattr(Celery, "current_worker_task", object())
    with pytest.raises(Reject):
        app.backend.store_result("t1", KeyError("x"), "FAILURE")
