"""RabbitMQ goes away, refuses, or loses what it should keep, while tasks are sent and run."""

from contextlib import contextmanager

import pytest

from tests.faults.harness import SLOTS
from tests.integration.support import eventually

pytestmark = pytest.mark.integration


@pytest.mark.fault(
    "RabbitMQ is restarted",
    "503 with `Retry-After` while it is away; what it had is done; a task that ran meanwhile may run twice",
)
def test_rabbitmq_restarted(site, fault):
    site.start()
    with fault(site, twice=2 * SLOTS):
        site.rabbitmq.stop()
        site.rabbitmq.start()


@pytest.mark.fault(
    "RabbitMQ is killed (SIGKILL), then started",
    "the same: what was confirmed is on disk",
)
def test_rabbitmq_killed(site, fault):
    site.start()
    with fault(site, twice=2 * SLOTS):
        site.broker.kill()
        site.rabbitmq.start()


@pytest.mark.fault(
    "RabbitMQ blocks publishers: memory alarm",
    "503 with `Retry-After`; nothing is sent later, only what was on its way when the alarm came may run",
)
def test_memory_alarm(site, fault):
    blocked(
        site,
        fault,
        raise_=["set_vm_memory_high_watermark", "0.0001"],
        clear=["set_vm_memory_high_watermark", "absolute", "512MB"],
    )


@pytest.mark.fault(
    "RabbitMQ blocks publishers: disk alarm",
    "the same",
)
def test_disk_alarm(site, fault):
    blocked(site, fault, raise_=["set_disk_free_limit", "100000GB"], clear=["set_disk_free_limit", "200MB"])


def blocked(site, fault, *, raise_, clear):
    site.start()
    with fault(site) as trial:
        try:
            site.broker.ctl(*raise_)
            trial.refusing(30)
        finally:
            site.broker.ctl(*clear)
    assert trial.verdict.refused["broker-unavailable"] > 0
    assert trial.verdict.unasked <= 4  # that were on the wire when the alarm came


@pytest.mark.fault(
    "All connections are closed by the broker (management API)",
    "everybody connects again; what ran then runs twice at most, one attempt for each slot",
)
def test_connections_closed(site, fault):
    site.start()
    with fault(site, twice=2 * SLOTS) as trial:
        trial.note(f"{site.close_connections()} closed")


@pytest.mark.fault(
    "All connections are closed five times in a row",
    "the same, five times; no worker stays away",
)
def test_connections_flap(site, fault):
    site.start()
    with fault(site, twice=5 * 2 * SLOTS) as trial:
        count = 0
        for _ in range(5):
            trial.flowing(5)
            count += site.close_connections()
        trial.note(f"{count} closed")
    eventually(lambda: all(site.is_ready(worker) for worker in site.workers), what="all workers")


@contextmanager
def no_more_connections(site):
    """Those that are open stay open."""
    site.broker.ctl("set_vhost_limits", "--vhost", site.name, '{"max-connections": 0}')
    yield
    site.broker.ctl("clear_vhost_limits", "--vhost", site.name)


@pytest.mark.fault(
    "RabbitMQ takes no more connections (its limit is reached), then those there are break",
    "open connections go on; then 503 with `Retry-After`, and workers wait, until connections are free",
)
def test_broker_connections_exhausted(site, fault):
    site.start()
    with fault(site, twice=2 * SLOTS) as trial:
        workers = site.processes()
        with no_more_connections(site):
            trial.flowing()
            site.close_connections()
            trial.refusing(20)
        eventually(lambda: all(site.is_ready(worker) for worker in site.workers), what="all workers")
    assert site.processes() == workers


@pytest.mark.fault(
    "The password of RabbitMQ's user is changed; later its connections break, and all is restarted with"
    " the new one",
    "open connections go on; then 503 with `Retry-After`, and workers end, until the restart",
)
def test_broker_password_rotated(site, fault):
    site.environment = {"CELERYKIT_BROKER_URL": site.broker.user_url("old")}
    site.start(workers=1)
    with fault(site, rate=10, twice=SLOTS, cut=True) as trial:
        site.environment = {"CELERYKIT_BROKER_URL": site.broker.user_url("new")}
        trial.flowing()
        site.close_connections()
        trial.refusing(20)
        eventually(lambda: not site.workers, what="the worker ends")
        site.roll()


@pytest.mark.fault(
    "The task queue is deleted while it is empty",
    "503, never a 202, until a worker has declared it again, which workers do by themselves",
)
def test_queue_deleted(site, fault):
    site.start()
    status, operation = site.post("fault.work", [0.1], wait=5)
    assert (status, operation["state"]) == (200, "SUCCESS")
    assert site.broker.api("DELETE", f"queues/{site.name}/default")[0] == 204
    with fault(site, before=0) as trial:
        trial.flowing()
    # the latter in the midst of the deletion
    assert set(trial.verdict.refused) <= {"no-queue", "broker-unavailable"}


@pytest.mark.fault(
    "There is no task queue, as no worker was ever up",
    "503 `no-queue` with `Retry-After`, at once, until a worker comes",
)
def test_no_queue(site, fault):
    site.start(workers=0)
    with fault(site, before=0) as trial:
        trial.refusing(40)
        refused = [answer.ended - answer.began for answer in trial.load.answers]
        trial.note(f"refused after {max(refused):.2f} s at most")
        worker = site.launch_worker()
        eventually(lambda: site.is_ready(worker), 60)
    assert max(refused) < 2
    assert set(trial.verdict.refused) == {"no-queue"}
