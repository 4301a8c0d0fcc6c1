"""Every panel, recording rule and selector of an alert finds a series on a kit that runs."""

import json
import os
import signal
from urllib.parse import urlencode

import psutil
import pytest

from local.http import request
from local.kit import Kit
from local.ports import Ports
from local.run import Run
from tests.contract.monitoring import ALERTS, PANELS, RECORDS, as_chosen, selectors_of
from tests.integration.support import eventually

pytestmark = [pytest.mark.integration, pytest.mark.own_stores, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit with a burst behind it, in which a task failed and a worker's child was killed."""
    kit = Kit(Run(tmp_path_factory.mktemp("kit"), Ports.free()))
    try:
        kit.start()
        post(kit, "task.fail")
        for _ in range(16):
            post(kit, "task.sleep", seconds=0.5)
        eventually(lambda: kill_a_child(kit), what="a child of a worker")
        for series in (
            'gateway_http_requests_total{code="202"}',
            'worker_task_finished_total{outcome="success"}',
        ):
            eventually(lambda series=series: found(kit, series), what=f"the first sample of {series}")
        yield kit
    finally:
        kit.stop()


def post(kit, task, **arguments):
    body = json.dumps({"kwargs": arguments}).encode()
    assert request("POST", kit.url(kit.run.ports.gateway, f"/v1/tasks/{task}"), body)[0] == 202


def kill_a_child(kit):
    """Kill what runs a task of some worker."""
    worker = next(iter(kit.explain()["workers"]), None)
    if worker is None or not worker["active"]:
        return False
    record = json.loads((kit.run.folder("workers") / f"{worker['name']}.json").read_bytes())
    os.kill(psutil.Process(record["pid"]).children()[0].pid, signal.SIGKILL)
    return True


def found(kit, query):
    """The series that Prometheus finds now."""
    url = f"{kit.stores.prometheus.url}/api/v1/query?{urlencode({'query': as_chosen(query)})}"
    status, body = request("GET", url)
    if status != 200:
        raise ValueError(f"{query}: {body.decode()}")
    return json.loads(body)["data"]["result"]


def awaited(kit, queries):
    """Ask until each query has found a series; those that did not in time."""
    missing = set(queries)

    def all_found():
        post(kit, "task.sleep", seconds=0.1)  # rates forget what was long ago
        missing.difference_update([query for query in missing if found(kit, query)])
        return not missing

    try:
        eventually(all_found, seconds=40)
    except AssertionError:
        return missing
    return set()


def without_mysql(queries):
    """This machine runs no mysqld-exporter; what asks it is tried on a cluster."""
    return [query for query in queries if "mysql_" not in query]


def test_every_panel_shows_something(kit):
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    assert awaited(kit, without_mysql(queries)) == set()


def test_every_recording_rule_records(kit):
    assert awaited(kit, RECORDS) == set()


def test_every_selector_of_an_alert_matches_a_series(kit):
    queries = set().union(*map(selectors_of, ALERTS.values()))
    assert awaited(kit, without_mysql(queries)) == set()


def test_a_kit_that_works_raises_no_alert(kit):
    assert found(kit, 'ALERTS{alertstate="firing"}') == []
