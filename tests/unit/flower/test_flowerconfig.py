"""Flower's configuration: what it makes of the environment."""

import runpy
import time

import flower.events
import pytest
from tornado.httpclient import AsyncHTTPClient

from tests.certificates import Authority

FILE = "services/flower/flowerconfig.py"
ENVIRONMENT = {
    "CELERYKIT_FLOWER_BASIC_AUTH": "kit:p@ss:/#%",
    "CELERYKIT_FLOWER_BROKER_API": "https://old:login@rabbitmq:15671/api/",
    "CELERYKIT_BROKER_URL": "amqps://rabbitmq/%2F",
}


@pytest.fixture
def configured(monkeypatch):
    """Flower's options, with more variables."""

    def run(**more):
        for name, value in {**ENVIRONMENT, **more}.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(FILE)

    monkeypatch.setattr(flower.events, "time", time)  # what the file changes, for this test alone
    yield run
    AsyncHTTPClient.configure(None)


@pytest.mark.behaviour("C28")
def test_the_brokers_login_is_left_to_flower_which_encodes_it_as_it_must_be(configured):
    options = configured(CELERYKIT_BROKER_USERNAME="team", CELERYKIT_BROKER_PASSWORD="p@ss:/#%")
    assert options["broker_api"] == "https://rabbitmq:15671/api/"
    assert options["basic_auth"] == ["kit:p@ss:/#%"]


def test_another_login_for_the_management_alone_stays(configured):
    assert configured()["broker_api"] == ENVIRONMENT["CELERYKIT_FLOWER_BROKER_API"]


@pytest.mark.behaviour("S11")
def test_the_brokers_authority_is_trusted_for_its_management_as_well(configured, tmp_path):
    file = tmp_path / "ca.crt"
    file.write_bytes(Authority().certificate)
    configured(CELERYKIT_BROKER_CA_FILE=str(file))
    trusted = AsyncHTTPClient(force_instance=True).defaults["ssl_options"]
    assert len(trusted.get_ca_certs()) == 1
    assert trusted.check_hostname


def test_flower_never_waits_long_before_it_tries_the_broker_again(configured, monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    configured()
    for pause in (2, 64, 4096):
        flower.events.time.sleep(pause)
    assert slept == [2, 5, 5]


@pytest.mark.parametrize("login", ["kit", "kit:", ":secret"])
def test_a_login_without_a_user_or_a_password_ends_it(configured, login, capsys):
    with pytest.raises(SystemExit):
        configured(CELERYKIT_FLOWER_BASIC_AUTH=login)
    assert "CELERYKIT_FLOWER_BASIC_AUTH: must be USER:PASSWORD" in capsys.readouterr().err
