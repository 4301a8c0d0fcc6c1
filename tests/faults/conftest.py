"""One RabbitMQ and one MariaDB a session; a virtual host, a database, a gateway and workers a test."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from local.run import Run
from local.stores import Stores
from tests.faults.harness import Site, Trial, trial
from tests.faults.rows import forget, write
from tests.integration.conftest import run, stores  # noqa: F401  # fixtures
from tests.integration.proxy import Proxy
from tests.integration.support import eventually

CGROUPS = Path("/sys/fs/cgroup")


@pytest.fixture(scope="session")
def quick_statistics(run: Run) -> None:  # noqa: F811
    """The management API knows connections and messages after a second, not five."""
    folder = run.folder("rabbitmq", "conf.d")
    (folder / "statistics.conf").write_text("collect_statistics_interval = 1000\n")


@pytest.fixture
def site(run: Run, quick_statistics: None, stores: Stores) -> Iterator[Site]:  # noqa: F811
    """A place for a gateway and workers, none of them started."""
    if not isinstance(stores, Stores):
        pytest.skip("breaks the stores, and these are not ours")
    site = Site(run, stores.rabbitmq, stores.mysql)
    with site.made():
        yield site


@pytest.fixture
def proxy(run: Run, site: Site) -> Iterator[Proxy]:  # noqa: F811
    """The network between the broker and everybody else."""
    with Proxy(run.ports.amqp) as proxy:
        site.broker_port = proxy.port
        yield proxy


@pytest.fixture
def cgroup(site: Site) -> Iterator[Path]:
    """A control group of 64 MiB."""
    v1 = CGROUPS / "memory"
    folder = (v1 if v1.is_dir() else CGROUPS) / site.name
    try:
        folder.mkdir()
        limit = folder / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")
        limit.write_text(str(64 * 2**20))
    except OSError as error:
        pytest.skip(f"no control group may be made here: {error}")
    yield folder
    eventually(lambda: not (folder / "cgroup.procs").read_text(), what="the control group is empty")
    folder.rmdir()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Iterator[Callable[[object], None]]:
    """Note what a test has measured, for its row of docs/reliability.md; only one that passes counts."""
    said: list[object] = []
    failed = request.session.testsfailed
    forget(request.node.name)
    yield said.append
    if said and request.session.testsfailed == failed:
        write(request.node.name, str(said[-1]))


@pytest.fixture
def fault(measured: Callable[[object], None]) -> Callable[..., AbstractContextManager[Trial]]:
    """Load with a fault in it, see `harness.trial`: what it measures is the row's."""

    @contextmanager
    def begin(site: Site, **how: Any) -> Iterator[Trial]:
        with trial(site, **how) as under_way:
            measured(under_way)
            yield under_way

    return begin
