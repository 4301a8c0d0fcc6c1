"""TLS: what is asked for is had or refused."""

import asyncio
import queue
import socketserver
import ssl
import threading

import pymysql
import pytest

from celerykit import tls
from celerykit.database import connect, parse
from celerykit.results import Database
from celerykit.settings import Settings, SettingsError, load
from tests.certificates import Authority

# a server's greeting, protocol 10, which offers everything but TLS
GREETING = (
    b"\x0a8.0.0\x00\x01\x00\x00\x00abcdefgh\x00"
    b"\xff\xf7\xff\xff\xff\x15"  # capabilities, the bit 0x800 of TLS off; character set; status
    b"\x00\x00\xff\xff\x15" + bytes(10) + b"ijklmnopqrst\x00caching_sha2_password\x00"
)
URLS = {
    "CELERYKIT_BROKER_URL": "amqps://kit:kit@rabbitmq/%2F",
    "CELERYKIT_DATABASE_URL": "mysqls://kit:kit@mysql/kit",
}


@pytest.fixture
def stripped():
    """The port of somebody in between who says that the server knows no TLS, and what it was told then."""
    heard = queue.SimpleQueue()

    class Between(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(len(GREETING).to_bytes(3, "little") + b"\x00" + GREETING)
            heard.put(self.request.recv(1000))

    with socketserver.TCPServer(("127.0.0.1", 0), Between) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1], heard
        server.shutdown()
        thread.join()


@pytest.mark.behaviour("S11")
async def test_a_gateway_says_nothing_to_a_database_that_offers_no_tls(stripped):
    port, heard = stripped
    database = Database(f"mysqls://kit:secret@127.0.0.1:{port}/kit")
    with pytest.raises(pymysql.OperationalError, match="offers no TLS"):
        await database.execute("SELECT 1")
    await database.close()
    assert await asyncio.to_thread(heard.get, timeout=10) == b""


@pytest.mark.behaviour("S11")
def test_a_worker_says_nothing_to_a_database_that_offers_no_tls(stripped):
    port, heard = stripped
    with pytest.raises(pymysql.OperationalError, match="doesn't support it"):
        connect(f"mysqls://kit:secret@127.0.0.1:{port}/kit")
    assert heard.get(timeout=10) == b""


@pytest.mark.behaviour("S11")
def test_nothing_older_than_tls_1_2_is_spoken_and_every_certificate_is_checked():
    context = tls.context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert tls.for_kombu("amqps://kit@rabbitmq:5671/%2F") == {
        "ca_certs": None,
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": "rabbitmq",
        "tls_minimum_version": ssl.TLSVersion.TLSv1_2,
    }
    assert tls.for_kombu("amqp://kit@rabbitmq/%2F") is None


def test_the_file_of_the_databases_authority_goes_with_its_url(tmp_path):
    file = tmp_path / "ca & co.crt"
    file.write_bytes(Authority().certificate)
    settings = load(Settings, URLS | {"CELERYKIT_DATABASE_CA_FILE": str(file)})
    assert len(parse(settings.database_url)["ssl"].get_ca_certs()) == 1
    assert parse(settings.database_url)["database"] == "kit"


def test_a_url_without_tls_asks_for_none():
    assert "ssl" not in parse("mysql://kit:kit@mysql/kit")


@pytest.mark.parametrize("store", ["BROKER", "DATABASE"])
@pytest.mark.parametrize("content", [None, "", "nonsense"])
def test_a_file_without_certificates_is_refused_by_its_variable(tmp_path, store, content):
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError) as refused:
        load(Settings, URLS | {f"CELERYKIT_{store}_CA_FILE": str(file)})
    assert str(refused.value).startswith(
        f"CELERYKIT_{store}_CA_FILE: must hold certificates in PEM: {file}: "
    )
    assert "\n" not in str(refused.value)
