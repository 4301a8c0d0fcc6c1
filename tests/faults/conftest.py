"""One RabbitMQ and one MariaDB a session; a virtual host, a database, a gateway and workers a test."""

from collections.abc import Callable, Iterator

import pytest

from local.run import Run
from local.stores import Stores
from tests.faults.harness import Site
from tests.faults.proxy import Proxy
from tests.faults.rows import forget, write
from tests.integration.conftest import run, stores  # noqa: F401  # fixtures


@pytest.fixture
def site(run: Run, stores: Stores) -> Iterator[Site]:  # noqa: F811
    """A place for a gateway and workers, none of them started."""
    site = Site(run, stores.rabbitmq, stores.mysql)
    with site.made():
        yield site


@pytest.fixture
def proxy(run: Run, site: Site) -> Iterator[Proxy]:  # noqa: F811
    """The network between the broker and everybody else."""
    with Proxy("127.0.0.1", run.ports.amqp) as proxy:
        site.broker_port = proxy.port
        yield proxy


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Iterator[Callable[[object], None]]:
    """Note what a test has measured, for its row of docs/reliability.md; only one that passes counts."""
    said: list[object] = []
    failed = request.session.testsfailed
    forget(request.node.name)
    yield said.append
    if said and request.session.testsfailed == failed:
        write(request.node.name, str(said[-1]))
