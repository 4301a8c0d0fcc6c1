"""Everything is started in the wrong order."""

import pytest

from tests.faults.harness import now
from tests.integration.support import eventually

pytestmark = pytest.mark.integration


@pytest.mark.fault(
    "The gateway and a worker start first, then RabbitMQ, MySQL last",
    "both stay up, alive and not ready; 503 until all is there, then results, with no one restarted",
)
def test_stores_last(site, measured):
    measured(started_in(site, [site.rabbitmq, site.mysql]))


@pytest.mark.fault(
    "A worker and the gateway start first, then MySQL, RabbitMQ last",
    "the same",
)
def test_broker_last(site, measured):
    measured(started_in(site, [site.mysql, site.rabbitmq]))


def started_in(site, stores):
    for store in stores:
        store.stop()
    try:
        site.launch_gateway()
        site.launch_worker()
        programs = {name: site.run.processes.find(name) for name in site.started}
        eventually(lambda: not site.gateway_report()["ready"], what="the gateway answers")
        refused = refuse(site)
        for store in stores:
            refused += refuse(site)
            store.start()
    except BaseException:
        for store in stores:
            if not store.ready():
                store.start()
        raise
    mended = now()
    status, body = eventually(lambda: accepted(site), 60, "a result")
    assert (status, body["result"]) == (200, "")
    assert all(site.run.processes.find(name) == process for name, process in programs.items())
    return (
        f"{refused} requests refused with 503 meanwhile; first result {now() - mended:.1f} s after the last"
    )


def refuse(site):
    status, body = site.post("fault.work", [0], wait=1)
    assert (status, body["type"]) in {
        (503, "/problems/broker-unavailable"),
        (503, "/problems/database-unavailable"),
        (503, "/problems/no-queue"),
    }
    return 1


def accepted(site):
    answer = site.post("fault.work", [0], wait=5)
    return answer if answer[0] == 200 else None
