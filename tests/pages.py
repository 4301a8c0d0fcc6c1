"""The command blocks of a page, each run by a test or with the reason why not."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
# the pages for those who run the chart, in the order in which their commands are run on one kit
NAMES = ("quickstart", "operations", "tuning", "security", "upgrading")
PAGES = [ROOT / "docs" / f"{name}.md" for name in NAMES]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
NOT_RUN = re.compile(r"sh notest: \S.*")
# needs no cluster: the contract tests run it
SIMULATION = re.compile(r"\.venv/bin/autoscaler (?:simulate|recommend) --trace")
NO_COMMANDS = ("yaml", "json", "python", "text", "promql", "sql")


class Block(NamedTuple):
    """What stands between two fences, and after the first one."""

    page: Path
    line: int
    info: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found["info"].strip(), found["text"])
        for found in FENCE.finditer(text)
    ]


def commands(page: Path, info: str = "sh") -> list[Block]:
    """The blocks that are run on a kit: `sh` with the page, `sh last` when all pages are through."""
    found = (block for block in blocks(page) if block.info == info)
    return [block for block in found if not SIMULATION.match(block.text)]
