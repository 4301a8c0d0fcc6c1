"""A task's message in the parent process, without a broker."""

from datetime import UTC, datetime, timedelta
from threading import Event
from types import SimpleNamespace

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.exceptions import BackendStoreError, TimeLimitExceeded
from celery.worker.request import create_request_cls

from celerykit import request as request_module
from celerykit.request import Request, unacknowledged

KILLED = (False, None, None)  # what the gevent pool tells of a task that it killed


class Pool:
    """A pool that only notes what it is to kill."""

    def __init__(self):
        self.killed = []

    def apply_async(self, *args, **kwargs):
        """Never called: what the pool answers is told by the tests."""

    def terminate_job(self, pid, signal):
        self.killed.append(pid)


@pytest.fixture
def rejected():
    """For each time that the message was rejected, whether it is to be given out again."""
    return []


@pytest.fixture
def request_of_task(rejected):
    """The request of a task that runs, and how often it was acknowledged."""
    app = Celery("test", set_as_current=False, task_cls="celerykit.task:Task")
    app.conf.update(task_acks_late=True, result_backend="disabled")

    @app.task(name="own.task")
    def task():
        """Never run here."""

    acknowledged = []
    message = SimpleNamespace(
        headers={"id": "t", "task": "own.task"},
        body="[[], {}, {}]",
        delivery_info={"routing_key": "q", "redelivered": False},
        properties={"reply_to": "", "correlation_id": "t"},
        content_type="application/json",
        content_encoding="utf-8",
        payload=([], {}, {}),
    )
    pool = Pool()
    request = create_request_cls(Request, task, pool, "w@h", None, app=app)(
        message,
        on_ack=lambda *_: acknowledged.append(message),
        on_reject=lambda _log, _errors, requeue: rejected.append(requeue),
        app=app,
        task=task,
        hostname="w@h",
        connection_errors=(),
    )
    request.on_accepted(1, 0)
    return request, pool, acknowledged


def test_a_task_that_was_killed_to_run_elsewhere_is_not_acknowledged(request_of_task):
    request, pool, acknowledged = request_of_task
    request.cancel(pool, emit_retry=False)
    request.on_success(KILLED)
    assert pool.killed == [1]
    assert acknowledged == []
    assert request in unacknowledged


def test_a_task_that_ended_while_it_was_to_be_killed_is_acknowledged(request_of_task):
    request, pool, acknowledged = request_of_task
    request.cancel(pool, emit_retry=False)
    request.on_success((0, "None", 0.1))
    assert len(acknowledged) == 1
    assert request not in unacknowledged


def test_a_task_that_had_its_success_before_is_acknowledged(request_of_task):
    request, _, acknowledged = request_of_task
    request.on_success((0, None, None))
    assert len(acknowledged) == 1


@pytest.fixture
def later(request_of_task, monkeypatch):
    """What is to be done later, while no end of a task can be written."""

    def fail(*_, **__):
        raise BackendStoreError("no database")

    backend = request_of_task[0].task.backend
    monkeypatch.setattr(backend, "mark_as_revoked", fail)
    monkeypatch.setattr(backend, "mark_as_failure", fail)
    monkeypatch.setattr("celery.worker.request.revoked_tasks", set())
    calls = []
    loop = SimpleNamespace(call_later=lambda _, function, *args: calls.append((function, args)))
    monkeypatch.setattr(request_module, "get_event_loop", lambda: loop)
    return calls


def hit_its_time_limit(request):
    """Tell a request what billiard tells of a hard time limit, in its order."""
    try:
        raise TimeLimitExceeded(1)
    except TimeLimitExceeded:
        request.on_failure(ExceptionInfo())
    request.on_timeout(soft=False, timeout=1)


@pytest.mark.parametrize("end", ["expired", "beyond its time limit"])
def test_a_message_whose_end_cannot_be_written_is_given_out_again_later(
    request_of_task, rejected, later, end
):
    request, _, acknowledged = request_of_task
    if end == "expired":
        request._expires = datetime.now(UTC) - timedelta(seconds=1)
        assert request.revoked()
        assert request.revoked()  # asked again, it tries no second time
    else:
        hit_its_time_limit(request)
    ((function, args),) = later
    assert (acknowledged, rejected) == ([], [])
    function(*args)
    assert (acknowledged, rejected) == ([], [True])
    assert request not in unacknowledged


@pytest.mark.usefixtures("later")
def test_a_message_is_given_out_again_without_a_loop_too(request_of_task, monkeypatch):
    request, *_ = request_of_task
    given_out = Event()
    monkeypatch.setattr(request, "reject", lambda requeue: requeue and given_out.set())
    monkeypatch.setattr(request_module, "get_event_loop", lambda: None)
    monkeypatch.setattr(request_module, "PUT_BACK_AFTER", 0.01)
    hit_its_time_limit(request)
    assert given_out.wait(10)


def test_a_time_limit_is_written_once_and_then_acknowledged(request_of_task, rejected, monkeypatch):
    request, _, acknowledged = request_of_task
    written = []
    monkeypatch.setattr(
        request.task.backend, "mark_as_failure", lambda *_, **__: written.append(len(acknowledged))
    )
    hit_its_time_limit(request)
    assert (written, len(acknowledged), rejected) == ([0], 1, [])
