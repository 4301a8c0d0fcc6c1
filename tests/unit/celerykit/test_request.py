"""A task's message in the parent process, without a broker."""

from types import SimpleNamespace

import pytest
from celery import Celery
from celery.worker.request import create_request_cls

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
def request_of_task():
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
