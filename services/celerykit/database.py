"""Where the database is, and PyMySQL's connections to it."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pymysql
from pymysql.connections import Connection

from celerykit import tls
from celerykit.per_thread import PerThread


def parse(url: str) -> dict[str, Any]:
    """Turn `mysql://USER:PASSWORD@HOST:PORT/DATABASE`, parts URL-encoded, into connect arguments.

    `mysqls://…` is for nothing but TLS; `?ca=FILE` then names the CA, else it is one of the system's.
    """
    parts = urlsplit(url)
    ca_file = parse_qs(parts.query).get("ca", [""])[-1]
    return {
        "host": parts.hostname or "localhost",
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": unquote(parts.path.strip("/")),
        "charset": "utf8mb4",
        "autocommit": True,
        **({"ssl": tls.context(ca_file)} if parts.scheme == "mysqls" else {}),
    }


def connect(url: str, *, timeout: float = 10) -> "Connection[Any]":
    """Open a connection; `timeout` in seconds bounds connecting, and reading and writing thrice as long."""
    return pymysql.connect(
        **parse(url),
        connect_timeout=max(1, round(timeout)),
        read_timeout=timeout * 3,
        write_timeout=timeout * 3,
    )


class Connections:
    """A connection for each thread of each process, made anew when the server has closed it."""

    def __init__(self, url: str) -> None:
        self._connections = PerThread(lambda: connect(url))

    def get(self) -> "Connection[Any]":
        """Return a connection that answers; this asks it, one round trip."""
        try:
            self._connections.get().ping()
        except pymysql.MySQLError:
            self._connections.drop()
        return self._connections.get()
