"""Rules and dashboards ask only for what is exported, agree with each other, and each alert has its page."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import REGISTRY

import celerykit.metrics  # noqa: F401  # registers what a worker exports
from autoscaler.config import Autoscale
from autoscaler.metrics import Metrics as AutoscalerMetrics
from autoscaler.metrics import Tick
from autoscaler.model import Action, Decision, Estimate, Observation, Reason
from gateway.metrics import Metrics as GatewayMetrics
from local.stores import program
from tests.contract.monitoring import (
    ALERTS,
    DASHBOARDS,
    MONITORING,
    PANELS,
    QUERIES,
    RECORDS,
    RULE_FILES,
    RULES,
    TEST_FILES,
    as_chosen,
    queries_of,
)

RUNBOOK = (MONITORING.parent / "docs" / "runbook.md").read_text()

Labels = frozenset[str]

# What Prometheus adds: `namespace` where it finds targets by Kubernetes.
ADDED = frozenset({"job", "instance", "namespace"})
SUFFIXES = {
    "counter": {"_total": ADDED},
    "gauge": {"": ADDED},
    "histogram": {"_bucket": ADDED | {"le"}, "_count": ADDED, "_sum": ADDED},
}
# RabbitMQ 3.10 to 4.3, at /metrics/detailed with the families that prometheus.yml names, and at /metrics.
RABBITMQ = {
    "rabbitmq_detailed_queue_messages": ADDED | {"vhost", "queue"},
    "rabbitmq_detailed_queue_messages_ready": ADDED | {"vhost", "queue"},
    "rabbitmq_detailed_queue_messages_unacked": ADDED | {"vhost", "queue"},
    "rabbitmq_detailed_queue_consumers": ADDED | {"vhost", "queue"},
    "rabbitmq_alarms_free_disk_space_watermark": ADDED,
    "rabbitmq_alarms_memory_used_watermark": ADDED,
    "rabbitmq_connections": ADDED,
    "rabbitmq_disk_space_available_bytes": ADDED,
    "rabbitmq_disk_space_available_limit_bytes": ADDED,
    "rabbitmq_process_resident_memory_bytes": ADDED,
    "rabbitmq_resident_memory_limit_bytes": ADDED,
}
# The mysqld-exporter, with the collectors that are on unless told otherwise.
MYSQL = {
    "mysql_up": ADDED,
    "mysql_global_status_innodb_row_lock_waits": ADDED,
    "mysql_global_status_queries": ADDED,
    "mysql_global_status_slow_queries": ADDED,
    "mysql_global_status_threads_connected": ADDED,
    "mysql_global_status_threads_running": ADDED,
    "mysql_global_variables_max_connections": ADDED,
}
PROMETHEUS = {"up": ADDED, "ALERTS": ADDED | {"alertname", "alertstate"}}


def exported(registry: CollectorRegistry) -> dict[str, Labels]:
    """Names and labels of all that a registry can show, whether it has values yet or not."""
    found: dict[str, Labels] = {}
    for collector in registry._collector_to_names:
        own = isinstance(collector, MetricWrapperBase)
        for family in collector.describe() if own else collector.collect():
            labels = frozenset((collector if own else family)._labelnames)
            found |= {family.name + end: labels | more for end, more in SUFFIXES[family.type].items()}
    return found


def exported_by_the_autoscaler() -> dict[str, Labels]:
    """The same of an autoscaler that has decided."""
    decision = Decision(1, Action.HOLD, Reason.DEADBAND, "")
    tick = Tick(0, Autoscale(), Estimate(Observation()), decision, 0)
    registry = CollectorRegistry()
    AutoscalerMetrics(registry, "act", lambda: {"default": tick}, lambda: True)
    return exported(registry)


EXPORTED = RABBITMQ | MYSQL | PROMETHEUS | exported_by_the_autoscaler()
EXPORTED |= exported(GatewayMetrics().registry)
EXPORTED |= {
    name: labels | {"pool"} for name, labels in exported(REGISTRY).items() if name.startswith("worker_")
}


class WrongQuery(AssertionError):
    """A query asks for what there is not."""


def labels_of(expression: Any) -> Labels:
    """The labels that a query's answer may have; raises WrongQuery where it names others or no metric."""
    match expression:
        case promql.VectorSelector():
            if expression.name in RECORDS:
                known = labels_of(promql.parse(RECORDS[expression.name]))
            elif expression.name in EXPORTED:
                known = EXPORTED[expression.name]
            else:
                raise WrongQuery(f"nothing exports {expression.name}")
            check({matcher.name for matcher in expression.matchers.matchers}, known, expression)
            return known
        case promql.AggregateExpr():
            inner = labels_of(expression.expr)
            by = expression.modifier.labels if expression.modifier else []
            check(by, inner, expression)
            return frozenset(by)
        case promql.BinaryExpr():
            left, right = labels_of(expression.lhs), labels_of(expression.rhs)
            if expression.modifier and expression.modifier.matching:
                on = expression.modifier.matching.labels
                check(on, left, expression)
                check(on, right, expression)
            return left or right
        case promql.Call():
            found = frozenset().union(*(labels_of(argument) for argument in expression.args))
            if expression.func.name == "label_replace":
                return found | {expression.args[1].val}
            return found - {"le"} if expression.func.name == "histogram_quantile" else found
        case promql.MatrixSelector():
            return labels_of(expression.vector_selector)
        case promql.ParenExpr() | promql.SubqueryExpr() | promql.UnaryExpr():
            return labels_of(expression.expr)
        case _:
            return frozenset()


def check(named: Any, known: Labels, where: Any) -> None:
    """Raise WrongQuery where a label is named that there is not."""
    if unknown := set(named) - known:
        raise WrongQuery(f"no label {sorted(unknown)} in {where}")


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.behaviour("C30")
def test_promtool_accepts_the_rules():
    promtool("check", "rules", *RULE_FILES)


@pytest.mark.behaviour("C30")
def test_the_rules_do_what_their_tests_say():
    promtool("test", "rules", *TEST_FILES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
@pytest.mark.behaviour("C30")
def test_a_rule_asks_only_for_metrics_and_labels_that_are_exported(rule):
    labels_of(promql.parse(rule["expr"]))


@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
@pytest.mark.behaviour("C30")
def test_a_dashboard_asks_only_for_metrics_and_labels_that_are_exported(title, query):
    labels_of(promql.parse(as_chosen(query)))


@pytest.mark.parametrize(
    "query",
    [
        "worker_slot",
        'worker_slots{task="t"}',
        "sum by (task) (worker_slots)",
        "worker_slots and on (vhost) rabbitmq_detailed_queue_consumers",
        "histogram_quantile(0.9, sum by (queue) (rate(gateway_publish_seconds_bucket[5m])))",
        "rate(gateway_publish_seconds[5m])",
    ],
)
def test_a_query_for_what_is_not_exported_is_found(query):
    with pytest.raises(WrongQuery):
        labels_of(promql.parse(query))


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_an_operator_needs(name):
    rule = ALERTS[name]
    assert name.startswith("Kit")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert "{{" not in rule["annotations"]["summary"]
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["description"]))
    assert used <= labels_of(promql.parse(rule["expr"]))


def test_the_runbook_has_a_page_for_each_alert_and_for_none_else():
    assert set(re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_of_the_runbook_tells_meaning_causes_where_to_look_and_what_to_do(name):
    page = RUNBOOK.split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert re.findall(r"^\*\*(.+?)\*\*", page, re.MULTILINE) == ["Meaning.", "Causes.", "Look at.", "Do."]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(name):
    cases = [
        case
        for path in TEST_FILES
        for group in yaml.safe_load(path.read_text())["tests"]
        for case in group.get("alert_rule_test", ())
        if case["alertname"] == name
    ]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


def test_the_files_of_rules_and_of_their_tests_are_named_alike():
    assert [path.name for path in RULE_FILES] == [path.name for path in TEST_FILES]


def test_the_dashboards_are_made_of_their_sources():
    made = [sys.executable, MONITORING / "dashboards.py", "--check"]
    done = subprocess.run(made, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", DASHBOARDS.values(), ids=DASHBOARDS)
def test_a_dashboard_holds_nothing_that_grafanas_schema_does_not_know(page):
    register_default_plugins()
    assert json.loads(json.dumps(Dashboard.from_json(page), cls=JSONEncoder)) == page


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_has_a_title_a_description_a_unit_and_the_chosen_datasource(panel):
    assert panel["title"]
    assert panel["description"].endswith((".", "`."))
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["targets"]
    assert not any("datasource" in target for target in panel["targets"])


@pytest.mark.parametrize("page", DASHBOARDS.values(), ids=DASHBOARDS)
def test_panels_have_ids_of_their_own_and_do_not_overlap(page):
    ids = [panel["id"] for panel in page["panels"]]
    assert len(set(ids)) == len(ids)
    places = [
        (x, y)
        for panel in page["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24


def test_dashboards_have_addresses_of_their_own():
    assert len({page["uid"] for page in DASHBOARDS.values()}) == len(DASHBOARDS)
    assert all(page["id"] is None for page in DASHBOARDS.values() if "id" in page)


@pytest.mark.parametrize("page", DASHBOARDS.values(), ids=DASHBOARDS)
def test_a_panels_query_follows_what_is_chosen(page):
    variables = {variable["name"] for variable in page["templating"]["list"]}
    assert variables == {"datasource", "namespace", "pool", "queue"}
    for title, query in queries_of(page):
        assert 'namespace=~"$namespace"' in query or title == "namespace", title
