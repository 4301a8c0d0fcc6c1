"""The rows of docs/reliability.md: declared by the tests' marks, measured by their runs."""

import importlib
import json
from pathlib import Path
from typing import NamedTuple

from local.run import ROOT

MEASURED = ROOT / "build" / "reliability"
SECTIONS = ("broker", "network", "database", "gateway", "worker", "messages", "start")


class Row(NamedTuple):
    """A fault test, as its mark declares it."""

    section: str
    test: str
    fault: str
    expected: str


def declared() -> list[Row]:
    """Every fault test, in the order in which they stand."""
    return [
        Row(section, name, *mark.args)
        for section in SECTIONS
        for name, found in vars(importlib.import_module(f"tests.faults.test_{section}")).items()
        if name.startswith("test_")
        for mark in getattr(found, "pytestmark", [])
        if mark.name == "fault"
    ]


def modules() -> set[str]:
    """The sections for which there are files of tests."""
    return {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")} - {"page"}


def _file(test: str) -> Path:
    return MEASURED / f"{test.removeprefix('test_')}.json"


def forget(test: str) -> None:
    """Throw away what an earlier run of a test has measured."""
    _file(test).unlink(missing_ok=True)


def write(test: str, words: str) -> None:
    """Keep what a test has measured."""
    MEASURED.mkdir(parents=True, exist_ok=True)
    _file(test).write_text(json.dumps({"test": test, "measured": words}, ensure_ascii=False, indent=1) + "\n")


def measured(test: str) -> str:
    """What a test measured when it ran last; raises FileNotFoundError if it has not."""
    return str(json.loads(_file(test).read_text())["measured"])
