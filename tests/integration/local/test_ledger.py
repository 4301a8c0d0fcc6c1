"""The oracle's eyes: rows of a real table, dead letters of a real queue."""

import json

import pymysql
import pytest

from celerykit import database
from local.http import request
from local.ledger import Row, read_dead_letters, read_rows
from local.stores import Stores

pytestmark = pytest.mark.integration


def test_rows_are_read_of_the_tasks_asked_for_only(database_url: str) -> None:
    """With no end where there is none."""
    connection = pymysql.connect(**database.parse(database_url))
    with connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO celerykit_ledger VALUES (%s, %s, %s, %s, %s)",
            [("t", "1", "w@h", 1.5, 2.5), ("t", "2", "w@h", 3.0, None), ("other", "3", "w@h", 1.0, 2.0)],
        )
    assert sorted(read_rows(database_url, {"t"})) == [
        Row("t", "1", "w@h", 1.5, 2.5),
        Row("t", "2", "w@h", 3.0, None),
    ]
    assert read_rows(database_url, set()) == []


def test_dead_letters_are_read_and_stay(stores: Stores, vhost: str) -> None:
    """Looking twice shows the same."""
    api, login = stores.rabbitmq.management, stores.rabbitmq.login
    queue = b'{"durable": true, "arguments": {"x-queue-type": "quorum"}}'
    assert request("PUT", f"{api}/api/queues/{vhost}/jobs.dlq", queue, login)[0] == 201
    for task in ("a", "b"):
        properties = {"headers": {"id": task}}
        message = {
            "properties": properties,
            "routing_key": "jobs.dlq",
            "payload": "[]",
            "payload_encoding": "string",
        }
        url = f"{api}/api/exchanges/{vhost}/amq.default/publish"
        assert json.loads(request("POST", url, json.dumps(message).encode(), login)[1]) == {"routed": True}
    assert read_dead_letters(api, login, "jobs", vhost) == {"a", "b"}
    assert read_dead_letters(api, login, "jobs", vhost) == {"a", "b"}


def test_a_queue_without_dead_letters_has_none(stores: Stores, vhost: str) -> None:
    """Nor has one whose queue of dead letters does not exist."""
    assert read_dead_letters(stores.rabbitmq.management, stores.rabbitmq.login, "absent", vhost) == set()
