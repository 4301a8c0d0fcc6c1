"""RabbitMQ and MariaDB that speak nothing but TLS, with a certificate for 127.0.0.1 and no other name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from celerykit.settings import Settings
from local.ports import HOST, Ports
from local.run import Run
from local.stores import MySQL, RabbitMQ, Stores, connects
from tests.certificates import Authority
from tests.integration.support import broker_and_database


class TlsRabbitMQ(RabbitMQ):
    """As the chart configures it with `rabbitmq.tls.enabled`."""

    def url_of(self, vhost: str) -> str:
        return super().url_of(vhost).replace("amqp:", "amqps:")

    @property
    def management(self) -> str:
        return super().management.replace("http:", "https:")

    def ready(self) -> bool:
        return connects(self.run.ports.amqp) and connects(self.run.ports.management)

    def _config(self) -> str:
        home = self.run.folder("tls")
        files = {"cacertfile": "ca.crt", "certfile": "tls.crt", "keyfile": "tls.key"}
        lines = [
            line
            for line in super()._config().splitlines()
            if not line.startswith(("listeners.tcp", "management.tcp"))
        ]
        lines += [
            "listeners.tcp = none",
            f"listeners.ssl.1 = {HOST}:{self.run.ports.amqp}",
            f"management.ssl.ip = {HOST}",
            f"management.ssl.port = {self.run.ports.management}",
            *(f"{where}.{key} = {home / file}" for where in ("ssl_options", "management.ssl")
              for key, file in files.items()),
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


class TlsMySQL(MySQL):
    """As the chart configures it with `mysql.tls.enabled`."""

    def url_of(self, database: str) -> str:
        ca_file = self.run.folder("tls") / "ca.crt"
        return super().url_of(database).replace("mysql:", "mysqls:") + f"?ca={ca_file}"

    def _config(self, home: Path) -> str:
        tls = self.run.folder("tls")
        return f"""{super()._config(home)}\
ssl-ca = {tls / "ca.crt"}
ssl-cert = {tls / "tls.crt"}
ssl-key = {tls / "tls.key"}
tls-version = TLSv1.2,TLSv1.3
require-secure-transport = on
"""


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of its own, with a certificate in its folder `tls`."""
    run = Run(tmp_path_factory.mktemp("tls"), Ports.free())
    authority = Authority()
    certificate, key = authority.issue(HOST)
    for name, content in (("ca.crt", authority.certificate), ("tls.crt", certificate), ("tls.key", key)):
        (run.folder("tls") / name).write_bytes(content)
    (run.folder("tls") / "other.crt").write_bytes(Authority().certificate)
    try:
        yield run
    finally:
        run.processes.sweep()


@pytest.fixture(scope="session")
def stores(run: Run) -> Iterator[Stores]:
    """Both, running."""
    stores = Stores(run)
    stores.rabbitmq, stores.mysql = TlsRabbitMQ(run), TlsMySQL(run)
    with broker_and_database(stores):
        yield stores


@pytest.fixture(scope="module")
def vhost() -> str:
    """The one that there is."""
    return "/"


@pytest.fixture(scope="session")
def ca_file(run: Run) -> str:
    """What clients trust."""
    return str(run.folder("tls") / "ca.crt")


@pytest.fixture
def settings(broker_url: str, database_url: str, ca_file: str) -> Settings:
    """Good ones."""
    return Settings(
        broker_url=broker_url, broker_ca_file=ca_file, database_url=database_url, database_ca_file=ca_file
    )
