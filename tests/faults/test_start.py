"""Everything is started in any order, under load; six of the 24 orders hold each program in each place."""

import pytest

from tests.integration.support import eventually

pytestmark = pytest.mark.integration

EXPECTED = "who is up stays up; no gateway, or 503, until all is there, then results, with no one restarted"


@pytest.mark.fault("Started in this order: gateway, worker, RabbitMQ, MySQL", EXPECTED)
def test_mysql_last(site, fault):
    started(site, fault, "gateway", "worker", "rabbitmq", "mysql")


@pytest.mark.fault("Worker, gateway, MySQL, RabbitMQ", "the same")
def test_rabbitmq_last(site, fault):
    started(site, fault, "worker", "gateway", "mysql", "rabbitmq")


@pytest.mark.fault("Worker, RabbitMQ, gateway, MySQL", "the same")
def test_worker_first(site, fault):
    started(site, fault, "worker", "rabbitmq", "gateway", "mysql")


@pytest.mark.fault("Gateway, MySQL, worker, RabbitMQ", "the same")
def test_gateway_first(site, fault):
    started(site, fault, "gateway", "mysql", "worker", "rabbitmq")


@pytest.mark.fault("MySQL, worker, RabbitMQ, gateway", "the same")
def test_gateway_last(site, fault):
    started(site, fault, "mysql", "worker", "rabbitmq", "gateway")


@pytest.mark.fault("RabbitMQ, gateway, MySQL, worker", "the same")
def test_worker_last(site, fault):
    started(site, fault, "rabbitmq", "gateway", "mysql", "worker")


def started(site, fault, *order):
    stores = {"rabbitmq": site.rabbitmq, "mysql": site.mysql}
    starts = {
        "gateway": site.launch_gateway,
        "worker": site.launch_worker,
        **{name: store.start for name, store in stores.items()},
    }
    for store in stores.values():
        store.stop()
    try:
        with fault(site, rate=6, before=0, after=8, cut=True):
            for name in order[:-1]:
                starts[name]()
                if name not in stores:
                    eventually(lambda: all(map(site.lives, site.processes())), what="it lives")
            assert site.is_ready(site.gateway) == (order[-1] == "worker")
            programs = site.processes()
            starts[order[-1]]()
        assert programs.items() <= site.processes().items(), "no one was restarted"
    finally:
        for store in stores.values():
            if not store.ready():
                store.start()
