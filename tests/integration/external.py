"""Stores that somebody else runs, named by the environment: the tests leave them as they found them.

`KIT_TEST_BROKER_URL` and `KIT_TEST_BROKER_API` are RabbitMQ's AMQP and HTTP for an administrator, such as
`amqp://USER:PASSWORD@HOST:5672/%2F` and `http://USER:PASSWORD@HOST:15672/api/`; `KIT_TEST_DATABASE_URL` is
MySQL or MariaDB for a user who may make databases: `mysql://USER:PASSWORD@HOST:3306/mysql`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote, urlsplit

VARIABLES = ("KIT_TEST_BROKER_URL", "KIT_TEST_BROKER_API", "KIT_TEST_DATABASE_URL")


@dataclass(frozen=True)
class Broker:
    """RabbitMQ: what local.stores.RabbitMQ tells of where it is."""

    url: str
    api: str

    def url_of(self, vhost: str) -> str:
        """For clients that use another virtual host."""
        return urlsplit(self.url)._replace(path="/" + quote(vhost, safe="")).geturl()

    @property
    def management(self) -> str:
        """The HTTP API, without a login and without a slash at its end."""
        parts = urlsplit(self.api)
        path = parts.path.rstrip("/").removesuffix("/api")
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], path=path).geturl()

    @property
    def login(self) -> tuple[str, str]:
        """User and password."""
        parts = urlsplit(self.api)
        return unquote(parts.username or ""), unquote(parts.password or "")


@dataclass(frozen=True)
class Database:
    """MySQL or MariaDB: what local.stores.MySQL tells of where it is."""

    url: str

    def url_of(self, database: str) -> str:
        """For clients that use another database."""
        return urlsplit(self.url)._replace(path="/" + database).geturl()


@dataclass(frozen=True)
class External:
    """Both; they are neither started nor stopped."""

    rabbitmq: Broker
    mysql: Database

    @classmethod
    def named(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """Find the stores that the environment names. Raises ValueError if it names only some of them."""
        values = [environment.get(name, "") for name in VARIABLES]
        if not any(values):
            return None
        if missing := [name for name, value in zip(VARIABLES, values, strict=True) if not value]:
            raise ValueError(f"{', '.join(missing)}: needed beside the other addresses of stores")
        broker, api, database = values
        return cls(Broker(broker, api), Database(database))
