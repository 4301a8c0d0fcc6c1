"""Writes docs/reliability.md from what the fault tests measured: `python -m tests.faults.report`."""

import sys
from pathlib import Path

from local.run import ROOT
from tests.faults.catalogue import CATALOGUE
from tests.faults.rows import SECTIONS, declared, measured

PAGE = Path(ROOT, "docs", "reliability.md")
HEADINGS = {
    "broker": "RabbitMQ",
    "network": "The network to the broker",
    "database": "MySQL",
    "gateway": "The gateway",
    "worker": "Workers",
    "messages": "Messages",
    "start": "Starting",
}
INTRODUCTION = """\
# Reliability

What happens when something breaks while tasks are sent and run. `python -m tests.faults.report` makes this
page of what `pytest -m fault` has measured: each row is a test under `tests/faults/` on a real RabbitMQ,
MariaDB, gateway and workers, on one machine. Half of the requests wait for their result (`Prefer: wait=5`),
half do not; the [ledger](architecture.md#the-ledger) says what became of every task. The figures are of one
run on two cores.

In every row nothing that was accepted is lost, every request to a gateway that lived on is answered within
16 s, every refusal is a 503 with `Retry-After`, and a task runs twice only if it ran when its connection
broke: Celery delivers at least once, so make tasks idempotent. *First result* is the time from the moment the
fault was mended to the first answer 200. *Cut short* are attempts without an end, whose tasks were given out
again.
"""
COVERAGE = """\
## What is covered

The faults that users of Celery, RabbitMQ and MySQL report, and the tests that make them. Of a test that is a
row of this page, its section stands behind it.

| fault | tests | if not, why |
| --- | --- | --- |
"""


def page() -> str:
    """The whole page; raises FileNotFoundError if a test has not run."""
    lines = [INTRODUCTION]
    rows = declared()
    for section in SECTIONS:
        lines += [f"## {HEADINGS[section]}", "", "| fault | expected | measured |", "| --- | --- | --- |"]
        lines += [
            f"| {row.fault} | {row.expected} | {measured(row.test)} |"
            for row in rows
            if row.section == section
        ]
        lines.append("")
    return "\n".join([*lines, coverage()])


def coverage() -> str:
    """The table of known faults."""
    sections = {row.test: f" ({HEADINGS[row.section]})" for row in declared()}
    lines = []
    for entry in CATALOGUE:
        tests = ", ".join(f"`{test}`{sections.get(test, '')}" for test in entry.tests)
        lines.append(f"| {entry.fault} | {tests} | {entry.reason} |\n")
    return COVERAGE + "".join(lines)


if __name__ == "__main__":
    try:
        PAGE.write_text(page())
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} is not there: run all of tests/faults first")
