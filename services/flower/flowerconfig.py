"""Flower's configuration, from the environment: behind a login, and read-only unless said otherwise.

Start it as `celery -A celerykit.app flower --conf=services/flower/flowerconfig.py`, so that it shares the
workers' profile. There is no __init__.py here: this folder would shadow Flower itself.
"""

import time
from types import SimpleNamespace
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta
from tornado.httpclient import AsyncHTTPClient

from celerykit import tls
from celerykit.settings import Broker, exit_with, load_or_exit
from flower import events

PREFIX = "CELERYKIT_FLOWER_"
LONGEST_PAUSE = 5  # seconds


class FlowerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How Flower is reached and what it may do."""

    basic_auth: Annotated[str, Meta(description="the login, as `USER:PASSWORD`")]
    address: Annotated[str, Meta(description="address that Flower listens on")] = "0.0.0.0"
    port: Annotated[int, Meta(ge=1, le=65535, description="port that Flower listens on")] = 5555
    broker_api: Annotated[
        str,
        Meta(
            description="the broker's management API, `http://USER:PASSWORD@HOST:15672/api/`;"
            " CELERYKIT_BROKER_USERNAME and _PASSWORD go in place of its own; with `https`,"
            " CELERYKIT_BROKER_CA_FILE is for it, too"
        ),
    ] = ""
    url_prefix: Annotated[str, Meta(description="path under which Flower is reached behind a proxy")] = ""
    read_only: Annotated[bool, Meta(description="show, but never revoke tasks or stop workers")] = True
    max_tasks: Annotated[int, Meta(ge=1, description="tasks that are kept in memory")] = 10000
    purge_offline_workers: Annotated[
        int, Meta(ge=1, description="seconds after which a worker that is gone is shown no more")
    ] = 60


settings = load_or_exit(FlowerSettings, prefix=PREFIX)
_user, _colon, _password = settings.basic_auth.partition(":")
if not (_user and _password):
    exit_with(f"{PREFIX}BASIC_AUTH: must be USER:PASSWORD, neither part empty")

# what follows are Flower's own options, by their names
basic_auth = [settings.basic_auth]
address = settings.address
port = settings.port
read_only = settings.read_only
max_tasks = settings.max_tasks
purge_offline_workers = settings.purge_offline_workers
if settings.broker_api:
    _broker = load_or_exit(Broker)
    if _broker.broker_ca_file:
        # Flower itself has no way to name one
        AsyncHTTPClient.configure(None, defaults={"ssl_options": tls.context(_broker.broker_ca_file)})
    broker_api = settings.broker_api
    if _broker.broker_username:
        # Flower takes the broker's login where none is here; one that is here goes out as it is encoded
        _parts = urlsplit(broker_api)
        broker_api = _parts._replace(netloc=_parts.netloc.rpartition("@")[2]).geturl()
# Flower doubles its pause between two tries to hear the workers without an end: after ten minutes without a
# broker it would be deaf for ten more
events.time = SimpleNamespace(
    **vars(time) | {"sleep": lambda seconds: time.sleep(min(seconds, LONGEST_PAUSE))}
)
if settings.url_prefix:
    url_prefix = settings.url_prefix
