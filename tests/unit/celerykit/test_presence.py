"""A worker that is told to drain while its connection breaks, without a broker."""

from types import SimpleNamespace

import pytest
from celery import Celery
from celery.concurrency.gevent import TaskPool
from kombu.asynchronous.timer import Timer
from prometheus_client.registry import REGISTRY

from celerykit import timers
from celerykit.presence import Presence

QUEUES = ("a", "b")


class Consumer:
    """A consumer whose calls to the broker fail; what it consumes from is as Celery keeps it."""

    hostname = "w@h"
    restart_count = 0
    qos = pool = None

    def __init__(self, app, consuming):
        self.app = app
        self.consuming = set(consuming)
        self.task_consumer = SimpleNamespace(consuming_from=self.consuming.__contains__)

    def call_soon(self, call, *args):
        """Celery's main loop logs the error or connects anew."""
        with pytest.raises(ConnectionError):
            call(*args)

    def cancel_task_queue(self, name):
        self.consuming.discard(name)
        raise ConnectionError

    def add_task_queue(self, name):
        raise ConnectionError

    def give_back(self):
        """It holds nothing."""


@pytest.fixture
def app():
    """An app with two queues."""
    app = Celery("test", set_as_current=False)
    app.conf.task_queues = {name: {} for name in QUEUES}
    return app


@pytest.fixture
def presence():
    """A worker that takes tasks and is told to go on if it is drained for too long."""
    return Presence(SimpleNamespace(queues=QUEUES, drain_seconds=1e-9))


@pytest.mark.parametrize("drained", [False, True])
def test_a_change_that_the_broker_did_not_hear_of_is_made_by_the_next_connection(app, presence, drained):
    presence._draining = drained
    if drained:
        app.amqp.queues.deselect(QUEUES)
    presence.connected(Consumer(app, () if drained else QUEUES))
    assert not presence.drain(not drained)
    assert presence.report()["draining"] == (not drained)
    assert set(app.amqp.queues.consume_from) == (set(QUEUES) if drained else set())
    presence.connected(Consumer(app, app.amqp.queues.consume_from))
    assert presence.drain(not drained)
    assert presence.report()["ready"] == drained


def test_a_worker_is_not_drained_before_the_broker_has_confirmed_it(app, presence, monkeypatch):
    consumer, seen = Consumer(app, QUEUES), []
    monkeypatch.setattr(consumer, "cancel_task_queue", lambda _: seen.append(presence.report()["draining"]))
    monkeypatch.setattr(consumer, "call_soon", lambda call, *args: call(*args))
    presence.connected(consumer)
    presence.drain(True)
    assert seen == [False, False]


def test_a_drain_does_not_end_by_itself_while_somebody_repeats_it(app, presence):
    consumer = Consumer(app, ())
    presence.connected(consumer)
    presence._draining = True
    with presence._changing:
        presence.resume_when_forgotten(consumer)
    assert presence.report()["draining"]
    with pytest.raises(ConnectionError):
        presence.resume_when_forgotten(consumer)
    assert not presence.report()["draining"]


def test_the_first_redelivery_of_a_task_is_seen_as_one(app, presence):
    @app.task(name="shop.pay")
    def pay():
        pass

    presence.connected(Consumer(app, QUEUES))
    for queue in QUEUES:
        labels = {"queue": queue, "task": "shop.pay", "redelivered": "true"}
        assert REGISTRY.get_sample_value("worker_task_received_total", labels) == 0


@pytest.mark.parametrize("kind", [Timer, TaskPool.Timer])
def test_a_repeated_call_that_was_ended_is_not_repeated(kind):
    timer = kind()
    handle = timer.call_repeatedly(0, lambda: None)
    entry = getattr(handle, "entry", handle)
    timer.clear()
    timers.end(handle)
    entry()
    assert not timer.queue
