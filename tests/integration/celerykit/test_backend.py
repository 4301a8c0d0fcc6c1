"""The result backend on a real database: the row first, then the reply, and a success stays."""

from types import SimpleNamespace

import pytest
from celery import Celery
from celery.exceptions import BackendStoreError

from celerykit import reply
from celerykit.database import connect
from celerykit.profile import configure

pytestmark = pytest.mark.integration


@pytest.fixture
def backend(settings):
    """The backend of an app with the profile."""
    app = Celery("test", set_as_current=False)
    configure(app, settings)
    return app.backend


@pytest.fixture
def pushed(backend, monkeypatch):
    """The replies that were pushed, instead of the broker."""
    calls = []
    monkeypatch.setattr(backend._replies, "push", lambda *call: calls.append(call))
    return calls


def request(**attributes):
    """A task's request as the backend sees it."""
    return SimpleNamespace(
        **{"reply_to": "", "correlation_id": "", "headers": {}, "children": []} | attributes
    )


def test_what_is_stored_is_read_back(backend):
    backend.store_result("t1", {"rows": [1, "zwölf", None]}, "SUCCESS")
    meta = backend.get_task_meta("t1")
    assert (meta["status"], meta["result"]) == ("SUCCESS", {"rows": [1, "zwölf", None]})
    assert meta["date_done"]


def test_a_task_without_a_row_is_pending(backend):
    assert backend.get_task_meta("nobody")["status"] == "PENDING"


def test_a_failure_keeps_type_message_and_traceback(backend):
    backend.mark_as_failure("t2", ValueError("bad"), traceback="Traceback …")
    meta = backend.get_task_meta("t2")
    assert isinstance(meta["result"], ValueError)
    assert meta["traceback"] == "Traceback …"


def test_a_result_may_be_larger_than_64_kilobytes(backend):
    backend.store_result("t3", "x" * 1_000_000, "SUCCESS")
    assert len(backend.get_task_meta("t3")["result"]) == 1_000_000


def test_a_success_stays_when_a_second_run_fails(backend):
    backend.store_result("t4", 1, "SUCCESS")
    backend.mark_as_failure("t4", ValueError("second run"))
    assert backend.get_task_meta("t4", cache=False)["result"] == 1


def test_a_failure_gives_way_to_a_success(backend):
    backend.mark_as_failure("t5", ValueError("first run"), traceback="…")
    backend.store_result("t5", 1, "SUCCESS")
    meta = backend.get_task_meta("t5")
    assert (meta["status"], meta["result"], meta["traceback"]) == ("SUCCESS", 1, None)


@pytest.mark.parametrize("state", ["RETRY", "STARTED"])
def test_what_is_revoked_stays_so_until_it_ends(backend, state):
    task_id = f"revoked-{state}"
    backend.store_result(task_id, None, "REVOKING")
    backend.store_result(task_id, None, state)
    assert backend.get_task_meta(task_id)["status"] == "REVOKING"
    backend.store_result(task_id, 1, "SUCCESS")
    assert backend.get_task_meta(task_id)["status"] == "SUCCESS"


def test_the_reply_goes_to_callers_of_the_kit_after_the_row(backend, settings, pushed, monkeypatch):
    rows = []

    def see_row(*call):
        pushed.append(call)
        with connect(settings.database_url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT status FROM celery_taskmeta WHERE task_id = 't6'")
            rows.append(cursor.fetchone())

    monkeypatch.setattr(backend._replies, "push", see_row)
    backend.store_result("t6", 7, "SUCCESS", request=request(reply_to="gw.reply.x", correlation_id="t6"))
    ((reply_to, correlation_id, body),) = pushed
    assert (reply_to, correlation_id) == ("gw.reply.x", "t6")
    assert backend.decode(body)["result"] == 7
    assert rows == [("SUCCESS",)]


@pytest.mark.parametrize("reply_to", ["", None, "d9428888-122b-11e1-b85c-61cd3cbb3210"])
def test_other_callers_get_no_reply(backend, pushed, reply_to):
    backend.store_result("t7", 7, "SUCCESS", request=request(reply_to=reply_to))
    assert pushed == []


def test_a_call_that_is_not_to_be_stored_leaves_no_row(backend, pushed):
    backend.store_result(
        "t8", 7, "SUCCESS", request=request(reply_to="gw.reply.x", headers={"x-gw-store": "no"})
    )
    assert len(pushed) == 1
    assert backend.get_task_meta("t8")["status"] == "PENDING"


def test_a_reply_that_cannot_be_pushed_is_counted_and_not_raised(settings):
    app = Celery("test", set_as_current=False)
    configure(app, settings)
    app.conf.broker_url = "amqp://u:p@127.0.0.1:1/nobody"
    failed = reply.failed.total()
    app.backend.store_result("t9", 7, "SUCCESS", request=request(reply_to="gw.reply.x"))
    assert reply.failed.total() == failed + 1
    assert app.backend.get_task_meta("t9")["result"] == 7


def test_a_connection_that_was_cut_is_made_anew(backend, settings):
    backend.store_result("t10", 1, "SUCCESS")
    with connect(settings.database_url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND db = DATABASE()"
        )
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {number}")
    backend.store_result("t11", 2, "SUCCESS")
    assert backend.get_task_meta("t11")["result"] == 2


def test_a_database_that_stays_away_is_an_error_that_says_so(settings):
    app = Celery("test", set_as_current=False)
    configure(app, settings)
    app.conf.update(
        result_backend="celerykit.backend:Backend+mysql://u:p@127.0.0.1:1/nobody",
        result_backend_max_retries=2,
    )
    with pytest.raises(BackendStoreError, match="could not be written"):
        app.backend.store_result("t12", 1, "SUCCESS")


def test_a_result_can_be_forgotten(backend):
    backend.store_result("t13", 1, "SUCCESS")
    backend.forget("t13")
    assert backend.get_task_meta("t13")["status"] == "PENDING"


def test_cleanup_deletes_what_has_expired_and_nothing_else(backend, settings):
    backend.store_result("old", 1, "SUCCESS")
    backend.store_result("new", 1, "SUCCESS")
    with connect(settings.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE celery_taskmeta SET date_done = '2020-01-01' WHERE task_id = 'old'")
    backend.cleanup()
    assert not backend.task_result_exists("old")
    assert backend.task_result_exists("new")


def test_the_uri_shows_no_password(backend, settings):
    assert "**" in backend.as_uri()
    assert settings.database_url not in backend.as_uri()
