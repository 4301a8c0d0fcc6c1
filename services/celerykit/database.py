"""Where the database is, and PyMySQL's connections to it."""

from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql
from pymysql.connections import Connection


def parse(url: str) -> dict[str, Any]:
    """Turn `mysql://USER:PASSWORD@HOST:PORT/DATABASE`, parts URL-encoded, into connect arguments."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname or "localhost",
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": unquote(parts.path.strip("/")),
        "charset": "utf8mb4",
        "autocommit": True,
    }


def connect(url: str, *, timeout: float = 10) -> "Connection[Any]":
    """Open a connection; `timeout` in seconds bounds connecting, and reading and writing thrice as long."""
    return pymysql.connect(
        **parse(url),
        connect_timeout=max(1, round(timeout)),
        read_timeout=timeout * 3,
        write_timeout=timeout * 3,
    )
