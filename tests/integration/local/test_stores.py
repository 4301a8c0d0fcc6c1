"""The stores that a run starts: what they serve, where they listen, that they end."""

import json
import time
from pathlib import Path
from typing import Any

import psutil
import pymysql
import pytest

from celerykit import database
from local.http import request
from local.ports import HOST, PortTakenError
from local.process import Processes
from local.run import Run
from local.stores import Prometheus, RabbitMQ, Stores

pytestmark = [pytest.mark.integration, pytest.mark.own_stores]


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """What a query answers."""
    connection = pymysql.connect(**database.parse(url))
    with connection, connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def listening(run: Run) -> set[str]:
    """The addresses on which any process of the run listens."""
    return {
        connection.laddr[0]
        for process in run.processes.strays()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def test_the_database_holds_the_tables_and_the_example_users(database_url: str) -> None:
    """A module's database is its own and complete."""
    assert len(rows(database_url, "SELECT id FROM users")) == 10
    assert {row[0] for row in rows(database_url, "SHOW TABLES")} >= {"celery_taskmeta", "celerykit_ledger"}


def test_the_databases_root_has_no_password_login(stores: Stores, run: Run) -> None:
    """Root comes in by the socket only."""
    with pytest.raises(pymysql.err.OperationalError, match=r"1698|1045|1130"):
        pymysql.connect(host=HOST, port=run.ports.mysql, user="root", password="")


@pytest.mark.behaviour("S9")
def test_the_broker_has_one_user_and_it_is_not_guest(stores: Stores) -> None:
    """The well-known login is absent."""
    rabbitmq = stores.rabbitmq
    _, body = request("GET", f"{rabbitmq.management}/api/users", login=rabbitmq.login)
    assert [user["name"] for user in json.loads(body)] == ["kit"]
    assert request("GET", f"{rabbitmq.management}/api/users", login=("guest", "guest"))[0] == 401


def test_everything_listens_on_the_loopback_only(stores: Stores, run: Run) -> None:
    """No process of the run can be reached from another machine."""
    assert listening(run) <= {HOST, "::1"}


def test_the_brokers_name_mapper_is_one_of_the_runs_processes(stores: Stores, run: Run) -> None:
    """Epmd neither outlives the run nor is shared with another broker."""
    assert [process.name() for process in run.processes.strays()].count("epmd") == 1


def test_prometheus_scrapes_the_messages_of_each_queue(
    stores: Stores, prometheus: Prometheus, vhost: str
) -> None:
    """The series that the autoscaler decides by are there, with their labels."""
    rabbitmq = stores.rabbitmq
    url = f"{rabbitmq.management}/api/queues/{vhost}/scraped"
    assert request("PUT", url, b'{"durable": true}', rabbitmq.login)[0] == 201
    query = "rabbitmq_detailed_queue_messages_ready%7Bqueue=%22scraped%22%7D"
    deadline = time.monotonic() + 40
    series: list[Any] = []
    while not series and time.monotonic() < deadline:
        _, body = request("GET", f"{prometheus.url}/api/v1/query?query={query}")
        series = json.loads(body)["data"]["result"]
        time.sleep(0.2)
    assert [(one["metric"]["vhost"], one["metric"]["job"]) for one in series] == [(vhost, "kit-rabbitmq")]


def test_a_taken_port_is_an_error_that_names_port_and_owner(stores: Stores, run: Run) -> None:
    """A second broker on the same ports is refused before it starts."""
    with pytest.raises(PortTakenError, match=rf"port {run.ports.epmd}.*is taken by pid \d+: .*epmd"):
        RabbitMQ(run).launch()


def test_messages_outlive_a_restart_of_the_broker_and_no_process_does(
    stores: Stores, run: Run, vhost: str
) -> None:
    """Stop ends every process of the broker; start finds the data again."""
    rabbitmq = stores.rabbitmq
    url = f"{rabbitmq.management}/api/queues/{vhost}/kept"
    body = b'{"durable": true, "arguments": {"x-queue-type": "quorum"}}'
    assert request("PUT", url, body, rabbitmq.login)[0] == 201
    before = run.processes.strays()
    rabbitmq.stop()
    try:
        left = {process.name() for process in run.processes.strays()}
        assert left <= {"mariadbd", "prometheus"}
    finally:
        rabbitmq.start()
    assert sum(process.is_running() for process in before) == len(left)
    assert request("GET", url, login=rabbitmq.login)[0] == 200


def test_another_program_can_end_what_this_one_started(tmp_path: Path) -> None:
    """The records suffice: nothing depends on being the parent."""
    first, other = Processes(tmp_path), Processes(tmp_path)
    first.start("sleeper", ["sleep", "600"], {})
    assert other.find("sleeper")
    other.stop("sleeper")
    assert first.find("sleeper") is None
    assert not first.strays()
    first.stop("sleeper")
