"""The rules and dashboards of monitoring/, read once for all tests of them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import yaml

MONITORING = Path(__file__).parents[2] / "monitoring"
RULE_FILES = sorted(MONITORING.glob("rules/*.yaml"))
TEST_FILES = sorted(MONITORING.glob("tests/*.yaml"))
RULES: list[dict[str, Any]] = [
    rule
    for path in RULE_FILES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDS: dict[str, str] = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
DASHBOARDS = {path.name: json.loads(path.read_text()) for path in MONITORING.glob("dashboards/*.json")}
PANELS = [panel for page in DASHBOARDS.values() for panel in page["panels"] if panel["type"] != "row"]


def queries_of(page: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """All PromQL of a dashboard, by where it stands."""
    for panel in page["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for annotation in page["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in page["templating"]["list"]:
        if variable["type"] == "query":
            inner = re.fullmatch(
                r"query_result\((.+)\)|label_values\((.+), \w+\)", variable["query"]["query"]
            )
            assert inner, variable
            yield variable["name"], inner[1] or inner[2]


def selectors_of(rule: dict[str, Any]) -> set[str]:
    """What a rule asks Prometheus for."""
    parts: list[Any] = []
    promql.walk(promql.parse(rule["expr"]), parts.append)
    return {part.prettify() for part in parts if isinstance(part, promql.VectorSelector)}


QUERIES = [query for page in DASHBOARDS.values() for query in queries_of(page)]
CHOSEN = {
    "$__rate_interval": "1m",
    "$__range": "5m",
    "$namespace": ".*",
    "$pool": "default",
    "$queue": "default",
}


def as_chosen(query: str) -> str:
    """A dashboard's query as Prometheus gets it, with the pool and the queue that every kit has."""
    for variable, value in CHOSEN.items():
        query = query.replace(variable, value)
    return query
