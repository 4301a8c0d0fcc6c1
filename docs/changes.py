"""Write into Chart.yaml what CHANGELOG.md says of the chart in its newest section: `- chart: …`."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "celery-kit" / "Chart.yaml"
SECTION = re.compile(r"^## \[(\S+)\]\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
KIND = re.compile(r"^### (\w+)\n(.*?)(?=^### |\Z)", re.DOTALL | re.MULTILINE)
ENTRY = re.compile(r"^- chart: (.*?)(?=^- |^$|\Z)", re.DOTALL | re.MULTILINE)
ANNOTATION = re.compile(r"^  artifacthub\.io/changes: \|\n(?:    .*\n)*", re.MULTILINE)


def changes() -> list[dict[str, str]]:
    """Each change of the chart with its kind, in the changelog's order."""
    newest = SECTION.search((ROOT / "CHANGELOG.md").read_text())
    assert newest, "CHANGELOG.md has no section"
    return [
        {"kind": kind.lower(), "description": " ".join(entry.split())}
        for kind, entries in KIND.findall(newest[2])
        for entry in ENTRY.findall(entries)
    ]


def main() -> None:
    """Put them in place of those that are there."""
    lines = ["  artifacthub.io/changes: |"]
    for change in changes():
        description = change["description"].replace("'", "''")
        lines += [f"    - kind: {change['kind']}", f"      description: '{description}'"]
    text = "\n".join(lines) + "\n"
    CHART.write_text(ANNOTATION.sub(lambda _: text, CHART.read_text()))


if __name__ == "__main__":
    main()
