"""What Prometheus in the cluster knows after a burst: every panel, rule and alert finds its series."""

import json

import pytest
import yaml

from tests.cluster.crds import definitions
from tests.contract.monitoring import (
    ALERTS,
    QUERIES,
    RECORDS,
    RULES,
    as_chosen,
    selectors_of,
)
from tests.e2e.cluster import CHART, RELEASE, WORKERS, Kit, eventually

TASKS = 300  # more than one worker can start within the promise: the autoscaler has to move
# kills a child that runs a task: the oldest process that our first one started
KILL = """
import os, pathlib, signal
ours = (pathlib.Path(p, "stat").read_text().split() for p in pathlib.Path("/proc").glob("[0-9]*"))
os.kill(min(int(stat[0]) for stat in ours if stat[3] == "1"), signal.SIGKILL)
"""
KINDS = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
OPERATOR = (
    "--set=monitoring.mode=operator,prometheus.enabled=false,grafana.enabled=false",
    "--set=autoscaler.prometheusUrl=http://prometheus.example:9090",
)
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def busy(kit):
    """The kit after a burst, in which a task failed and a worker's child was killed."""
    post(kit, "task.fail")
    for _ in range(TASKS):
        post(kit, "task.sleep", seconds=1)
    kit.kubectl("exec", f"deployment/{WORKERS}", "-c", "worker", "--", "python", "-c", KILL)
    return kit


def post(kit, task, **arguments):
    answer = kit.gateway(f"/v1/tasks/{task}", "POST", {"kwargs": arguments}, Prefer="respond-async")
    assert answer.status == 202, answer


def await_all(kit, queries):
    """Ask until each query has found a series."""
    missing = dict.fromkeys(queries)

    def look():
        post(kit, "task.sleep", seconds=0.1)  # rates forget what was long ago
        for query in [query for query in missing if kit.series(as_chosen(query))]:
            del missing[query]
        return not missing

    eventually(look, 90, lambda: f"series for {list(missing)}", pause=2)


@pytest.mark.behaviour("C30")
def test_every_query_of_a_dashboard_finds_a_series(busy, tell):
    await_all(busy, [query for _, query in QUERIES])
    tell(f"{len(QUERIES)} queries of dashboards find series")


@pytest.mark.behaviour("C30")
def test_every_recording_rule_records(busy):
    await_all(busy, RECORDS)


@pytest.mark.behaviour("C30")
def test_every_selector_of_an_alert_matches_a_series(busy):
    await_all(busy, set().union(*map(selectors_of, ALERTS.values())))


def test_prometheus_evaluates_all_rules_without_an_error(busy):
    def evaluated():
        groups = busy.ask("prometheus", 9090, "/api/v1/rules").json["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return all(rule["health"] != "unknown" for rule in rules) and rules

    rules = eventually(evaluated, 60, "all rules are evaluated", pause=2)
    assert {rule["name"]: rule["health"] for rule in rules} == {
        rule.get("alert") or rule["record"]: "ok" for rule in RULES
    }


def test_every_target_answers(busy):
    targets = busy.ask("prometheus", 9090, "/api/v1/targets").json["data"]["activeTargets"]
    jobs = {target["labels"]["job"] for target in targets if target["health"] == "up"}
    config = yaml.safe_load(busy.get("configmap", f"{RELEASE}-prometheus")["data"]["prometheus.yml"])
    assert jobs == {job["job_name"] for job in config["scrape_configs"]}


@pytest.mark.behaviour("S16")
def test_prometheus_takes_no_orders(kit):
    assert kit.ask("prometheus", 9090, "/-/reload", method="POST").status == 403
    assert kit.ask("prometheus", 9090, "/api/v1/admin/tsdb/snapshot", method="POST").status != 200


@pytest.fixture
def operated(kit):
    """What is made for the Prometheus operator, in a cluster that knows its kinds; what was there stays."""
    ours = [path for path in definitions("prometheus-operator") if not known(kit, path)]
    made = kit.cluster.run("helm4", "template", RELEASE, str(CHART), *OPERATOR)
    objects = [o for o in yaml.safe_load_all(made) if o and o["kind"] in KINDS]
    try:
        for path in ours:
            kit.kubectl("apply", "--server-side", "-f", str(path))
        for path in ours:
            kit.kubectl("wait", "--for=condition=Established", f"crd/{name_in(path)}")
        yield objects
    finally:
        for object_ in objects:
            kit.kubectl("delete", "--ignore-not-found", object_["kind"], object_["metadata"]["name"])
        for path in ours:
            kit.kubectl("delete", "--ignore-not-found", "-f", str(path))


def name_in(path):
    return yaml.safe_load(path.read_text())["metadata"]["name"]


def known(kit, path):
    return kit.kubectl("get", "crd", name_in(path), "--ignore-not-found")


@pytest.mark.behaviour("C2", "C29")
def test_the_api_server_takes_what_is_made_for_the_operator(kit, operated):
    assert {object_["kind"] for object_ in operated} == KINDS
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": operated})
    arguments = ("-n", kit.namespace, "apply", "--server-side", "--validate=strict", "-f", "-")
    assert len(kit.cluster.kubectl(*arguments, text=text).splitlines()) == len(operated)


def test_prometheus_is_installable_alone_and_reads_itself(kit):
    alone = Kit(kit.cluster, "helm3", kit.namespace, "alone")
    try:
        # the kit's workers may have taken the node's room
        alone.install("--set=resources.requests.cpu=1m", chart=CHART / "charts/prometheus")
        eventually(lambda: alone.prometheus('up{job="prometheus"}') == 1, 60, "Prometheus reads itself")
    finally:
        alone.close()
        alone.run_helm("uninstall", "alone", "--ignore-not-found", "--wait", seconds=120)
