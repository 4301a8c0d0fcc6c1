"""The autoscaler with real queues, Prometheus and workers: what it does when it is blind or new."""

import json
from urllib.parse import quote

import msgspec
import pytest

from local import ledger
from local.demo import BACKLOG
from local.http import request
from local.kit import Kit
from local.ports import Ports
from local.run import Run
from tests.integration.support import eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

TASKS = 60
BLIND = {"QueryError", "HoldStaleMetrics"}


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    """A kit that goes up for a small burst, and down soon after it."""
    kit = Kit(Run(tmp_path_factory.mktemp("kit"), Ports.free()))
    try:
        kit.start()
        config = msgspec.yaml.decode(kit.autoscaler_config.read_bytes())
        quick = {"policy": "threshold", "downWindowSeconds": 6, "cooldownSeconds": 2}
        config["worker"]["pools"]["default"]["autoscale"] |= quick
        kit.autoscaler_config.write_bytes(msgspec.yaml.encode(config))  # taken at its next tick
        yield kit
    finally:
        kit.stop()


@pytest.fixture
def burst(kit):
    """Workers that came for a burst, which still runs; at the end it has ended well and they have gone."""
    at_rest(kit)
    ids = [post(kit) for _ in range(TASKS)]
    eventually(lambda: kit.explain()["ready"] >= 3, seconds=60, what="three workers")
    yield ids
    at_rest(kit)
    rows = ledger.read_rows(kit.stores.mysql.url, ids)
    counts = ledger.count(ids, rows, (), kit.stopped_workers())
    assert (counts.done, counts.lost, counts.run_twice, counts.interrupted) == (TASKS, 0, 0, 0)


def at_rest(kit):
    eventually(
        lambda: (seen := kit.explain())["current"] == 1 and seen["last"]["reason"] == "AtMin",
        seconds=90,
        what="one worker",
    )


def post(kit):
    url = kit.url(kit.run.ports.gateway, "/v1/tasks/task.sleep")
    status, body = request("POST", url, b'{"kwargs": {"seconds": 0.5}}')
    assert status == 202
    return json.loads(body)["id"]


def ended(kit, ids):
    return ledger.count(ids, ledger.read_rows(kit.stores.mysql.url, ids), (), ()).done == len(ids)


def measured_backlog(kit):
    """What Prometheus knows of the queue, which is some seconds behind it."""
    query = quote(BACKLOG)
    status, body = request("GET", f"{kit.stores.prometheus.url}/api/v1/query?query={query}")
    assert status == 200
    return float(json.loads(body)["data"]["result"][0]["value"][1])


def decisions(kit, reasons):
    """How many decisions had one of these reasons so far."""
    text = request("GET", kit.url(kit.run.ports.autoscaler, "/metrics"))[1].decode()
    lines = [line for line in text.splitlines() if line.startswith("autoscaler_decisions_total")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if any(f'"{r}"' in line for r in reasons))


def test_while_prometheus_is_away_the_workers_stay_and_then_follow_again(kit, burst):
    kit.stores.prometheus.stop()
    try:
        eventually(lambda: kit.explain()["last"]["reason"] in BLIND, what="a hold")
        held = kit.explain()["wanted"]
        eventually(lambda: ended(kit, burst), seconds=60, what="the end of the burst")
        blind = decisions(kit, BLIND)
        eventually(lambda: decisions(kit, BLIND) >= blind + 6, what="more holds than the down window is long")
        assert kit.explain()["wanted"] == held >= 3
    finally:
        kit.stores.prometheus.start()


def test_a_restarted_autoscaler_takes_over_its_workers_holds_and_resumes(kit, burst):
    before = {worker["name"] for worker in kit.explain()["workers"]}
    process = kit.run.processes.find("autoscaler")
    process.kill()
    process.wait()
    kit.run.processes.stop("autoscaler")
    eventually(lambda: ended(kit, burst), seconds=60, what="the end of the burst, without an autoscaler")
    eventually(lambda: measured_backlog(kit) == 0, what="Prometheus knows of the end")
    kit.launch_autoscaler()
    eventually(lambda: kit.explain().get("last"), what="its first decision")
    assert {worker["name"] for worker in kit.explain()["workers"]} == before
    eventually(lambda: decisions(kit, ["RestartHold"]) >= 1, what="a hold of the restarted one")
    assert kit.explain()["wanted"] >= 3
