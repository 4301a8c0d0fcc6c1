"""The rules and dashboards of monitoring/, read once for all tests of them."""

import json
from pathlib import Path
from typing import Any

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
