"""RabbitMQ goes away, refuses, or loses what it should keep, while tasks are sent and run."""

import pytest

from tests.faults.harness import SLOTS, flowing, now
from tests.faults.load import Load
from tests.integration.support import eventually

pytestmark = pytest.mark.integration


@pytest.mark.fault(
    "RabbitMQ is restarted",
    "503 with `Retry-After` while it is away; what it had is done; a task that ran meanwhile may run twice",
)
def test_rabbitmq_restarted(site, measured):
    site.start()
    with Load(site.url) as load:
        flowing(load)
        site.rabbitmq.stop()
        site.rabbitmq.start()
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(verdict)
    verdict.check(twice=2 * SLOTS)


@pytest.mark.fault(
    "RabbitMQ is killed (SIGKILL), then started",
    "the same: what was confirmed is on disk",
)
def test_rabbitmq_killed(site, measured):
    site.start()
    with Load(site.url) as load:
        flowing(load)
        site.broker.kill()
        site.rabbitmq.start()
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(verdict)
    verdict.check(twice=2 * SLOTS)


@pytest.mark.fault(
    "RabbitMQ blocks publishers: memory alarm",
    "503 with `Retry-After`; nothing is sent later, only what was on its way when the alarm came may run",
)
def test_memory_alarm(site, measured):
    blocked(
        site,
        measured,
        raise_=["set_vm_memory_high_watermark", "0.0001"],
        clear=["set_vm_memory_high_watermark", "absolute", "512MB"],
    )


@pytest.mark.fault(
    "RabbitMQ blocks publishers: disk alarm",
    "the same",
)
def test_disk_alarm(site, measured):
    blocked(
        site, measured, raise_=["set_disk_free_limit", "100000GB"], clear=["set_disk_free_limit", "200MB"]
    )


def blocked(site, measured, *, raise_, clear):
    site.start()
    with Load(site.url) as load:
        flowing(load)
        began = now()
        try:
            site.broker.ctl(*raise_)
            eventually(lambda: load.seen(lambda a: a.status == 503, since=began), 30, "a refusal")
            eventually(lambda: load.statuses()[503] > 100, 30, "many refusals")
        finally:
            site.broker.ctl(*clear)
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(verdict)
    verdict.check()
    assert verdict.refused["broker-unavailable"] > 0
    assert verdict.unasked <= 4  # that were on the wire when the alarm came


@pytest.mark.fault(
    "All connections are closed by the broker (management API)",
    "everybody connects again; what ran then runs twice at most, one attempt for each slot",
)
def test_connections_closed(site, measured):
    site.start()
    with Load(site.url) as load:
        flowing(load)
        closed = eventually(site.broker.close_connections, what="connections to close")
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(f"{closed} closed; {verdict}")
    verdict.check(twice=2 * SLOTS)


@pytest.mark.fault(
    "All connections are closed five times in a row",
    "the same, five times; no worker stays away",
)
def test_connections_flap(site, measured):
    site.start()
    closed = 0
    with Load(site.url) as load:
        for _ in range(5):
            flowing(load, 5)
            closed += eventually(site.broker.close_connections, what="connections to close")
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(f"{closed} closed; {verdict}")
    verdict.check(twice=5 * 2 * SLOTS)
    eventually(lambda: all(site.is_ready(worker) for worker in site.workers), what="all workers")


@pytest.mark.fault(
    "The task queue is deleted while it is empty",
    "503, never a 202, until a worker has declared it again, which workers do by themselves",
)
def test_queue_deleted(site, measured):
    site.start()
    with Load(site.url) as load:
        flowing(load)
    eventually(lambda: site.drained() and site.count(load).lost == 0)
    site.posted |= load.accepted().keys()
    with Load(site.url) as load:
        assert site.broker.api("DELETE", f"queues/{site.name}/default")[0] == 204
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(verdict)
    verdict.check()
    assert set(verdict.refused) <= {
        "no-queue",
        "broker-unavailable",
    }  # the latter in the midst of the deletion


@pytest.mark.fault(
    "The task queue is deleted and no worker is up",
    "503 `no-queue` with `Retry-After`, at once, until a worker comes",
)
def test_no_queue(site, measured):
    site.start(workers=0)
    began = now()
    status, body = site.post("fault.work", [0.1], wait=5)
    assert (status, body["type"]) == (503, "/problems/no-queue")
    refused = now() - began
    assert refused < 2
    worker = site.launch_worker()
    eventually(lambda: site.is_ready(worker), 60)
    status, body = site.post("fault.work", [0.1], wait=5)
    assert (status, body["state"]) == (200, "SUCCESS")
    measured(f"503 `no-queue` after {refused:.2f} s; 200 once a worker was ready")
