"""What `make up` starts, as far as the article needs it: stores, a gateway with the examples, a worker."""

import pytest

from celerykit import schema
from tests.integration.gateway.support import Gateway
from tests.integration.support import Worker


@pytest.fixture(scope="module")
def gateway(run, stores):
    """A gateway, and one worker behind it, on the very virtual host and database that `make up` uses."""
    schema.upgrade(stores.mysql.url)
    urls = {"CELERYKIT_BROKER_URL": stores.rabbitmq.url, "CELERYKIT_DATABASE_URL": stores.mysql.url}
    worker = Worker(run, stores.rabbitmq.url, stores.mysql.url)
    try:
        worker.ready()
        gateway = Gateway(run, urls | {"CELERYKIT_GATEWAY_EXAMPLES": "true"}, "article")
        yield gateway
        run.processes.stop(gateway.name)
    finally:
        worker.end()
