"""Writes docs/chart-behaviours.md from tests/behaviours.yaml and marks of tests; `--check` only compares."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

PAGE = Path(__file__).with_name("chart-behaviours.md")
TESTS = PAGE.parents[1] / "tests"
MARK = "behaviour"

INTRODUCTION = """\
# What the chart promises

Each row is a promise, with the tests that prove it and, where something is left out on purpose, the reason.
`chart` and `contract` tests read what Helm renders, `unit` and `integration` tests run the programs, `e2e`
and `cluster` tests run them on a Kubernetes. This page is made by `make docs`, from `tests/behaviours.yaml`
and the tests' own marks.
"""
HEADINGS = {
    "C": "Behaviours of the chart",
    "S": "Controls of security",
    "F": "What the autoscaler does when things fail",
}


class Row(NamedTuple):
    """A promise, and what of it is refused."""

    does: str
    refused: str


class Proof(NamedTuple):
    """A test that proves rows."""

    file: Path
    name: str
    numbers: tuple[str, ...]

    @property
    def suite(self) -> str:
        """Where it stands: `chart`, `e2e` and so on."""
        return self.file.relative_to(TESTS).parts[0]

    def link(self) -> str:
        """Its name is a sentence; it leads to the file."""
        sentence = self.name.removeprefix("test_").replace("_", " ")
        return f"[{sentence}](../{self.file.relative_to(TESTS.parent)})"


def rows() -> dict[str, Row]:
    """All promises by their number."""
    given = yaml.safe_load((TESTS / "behaviours.yaml").read_text())
    return {
        number: Row(told, "") if isinstance(told, str) else Row(told["does"], told["refused"].strip())
        for number, told in given.items()
    }


def tests() -> Iterator[Proof]:
    """Every test that bears the mark."""
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                numbers = tuple(marked(node))
                if numbers:
                    yield Proof(file, node.name, numbers)


def marked(test: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """The numbers that the decorators of a test name, those on single parameters too."""
    for decorator in test.decorator_list:
        for call in ast.walk(decorator):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == MARK:
                yield from (ast.literal_eval(argument) for argument in call.args)


def faults(promises: dict[str, Row], proofs: list[Proof]) -> list[str]:
    """What stands in the way of a true page."""
    proven = {number for test in proofs for number in test.numbers}
    unknown = [f"{t.file}: {t.name}: no row {n}" for t in proofs for n in t.numbers if n not in promises]
    return unknown + [
        f"{number} has neither a test nor a reason: {row.does}"
        for number, row in promises.items()
        if number not in proven and not row.refused
    ]


def page(promises: dict[str, Row], proofs: list[Proof]) -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    for letter, heading in HEADINGS.items():
        lines += [f"## {heading}", "", "| | what is promised | proven by |", "| --- | --- | --- |"]
        for number, row in promises.items():
            if number.startswith(letter):
                by_suite: dict[str, list[str]] = {}
                for test in proofs:
                    if number in test.numbers:
                        by_suite.setdefault(test.suite, []).append(test.link())
                cells = [f"{suite}: {', '.join(links)}" for suite, links in sorted(by_suite.items())]
                cells += [f"*Left out*: {row.refused}"] if row.refused else []
                lines.append(f"| {number} | {row.does} | {'<br>'.join(cells)} |")
        lines.append("")
    return re.sub(r"\n+\Z", "\n", "\n".join(lines))


def main() -> None:
    """Write the page, or only say what is wrong with it."""
    promises, proofs = rows(), list(tests())
    wrong = faults(promises, proofs)
    if "--check" not in sys.argv:
        PAGE.write_text(page(promises, proofs))
    elif not wrong and PAGE.read_text() != page(promises, proofs):
        wrong = [f"{PAGE.name} is out of date: run `make docs`"]
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
