"""Writes helm/celery-kit/README.md, the page of every value, from values.yaml; `--check` only compares."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

CHART = Path(__file__).parents[1] / "helm" / "celery-kit"
PAGE = CHART / "README.md"
SUBCHARTS = ("rabbitmq", "mysql", "prometheus", "grafana")

INTRODUCTION = """\
# celery-kit, the chart

The whole kit by one `helm install`: gateway, workers, RabbitMQ, MySQL, Flower, Prometheus, Grafana and an
autoscaler. How to begin is in [docs/quickstart.md](../../docs/quickstart.md), what to do on the days after in
[docs/operations.md](../../docs/operations.md), how to go to a new version in
[docs/upgrading.md](../../docs/upgrading.md), what is promised and how it is proven in
[docs/chart-behaviours.md](../../docs/chart-behaviours.md).

These are all the values there are. One that is not here, or of the wrong kind, is refused before anything is
installed. A pool, `worker.pools.NAME`, takes every key of `worker` but `auth` and `pools`. Values for whole
situations are in [ci/](ci): a small kit, one with stores of yours, one that outlives a node, and more. This
page is made from the comments of `values.yaml` by `make docs`.
"""


class Key(NamedTuple):
    """A value: its path, its default as YAML, and what it means."""

    path: str
    default: str
    meaning: str


def keys(file: Path, above: str = "") -> Iterator[Key]:
    """All keys of a file that are explained, in its order; a map whose keys are not explained is one."""
    text = file.read_text()
    lines = text.splitlines()

    def walk(node: yaml.MappingNode, path: str) -> Iterator[Key]:
        for name, value in node.value:
            here = f"{path}{name.value}"
            meaning = explanation(lines, name.start_mark.line, name.value)
            below = list(walk(value, f"{here}.")) if isinstance(value, yaml.MappingNode) else []
            if below:
                if meaning:
                    yield Key(here, "", meaning)
                yield from below
            elif meaning:
                yield Key(here, flow(value), meaning)

    root = yaml.compose(text)
    if not isinstance(root, yaml.MappingNode):
        sys.exit(f"{file}: holds no map")
    yield from (key for key in walk(root, above) if not (above and key.path.startswith(f"{above}global.")))


def all_keys() -> Iterator[Key]:
    """All keys of the chart, then those of its subcharts."""
    yield from keys(CHART / "values.yaml")
    for name in SUBCHARTS:
        yield from keys(CHART / "charts" / name / "values.yaml", f"{name}.")


def explanation(lines: list[str], line: int, name: str) -> str:
    """The comment above a key that begins with its name; empty if there is none."""
    comment: list[str] = []
    while line > 0 and (found := re.match(r" *# ?(.*)", lines[line - 1])):
        line -= 1
        comment.insert(0, found[1])
        if told := re.match(rf"{re.escape(name)}: (.+)", " ".join(comment)):
            return told[1]
    return ""


def flow(node: yaml.Node) -> str:
    """A value in one line of YAML, without its comments."""
    return yaml.serialize(flowing(node), width=10000).strip().removesuffix("...").strip()


def flowing(node: yaml.Node) -> yaml.Node:
    """The same value, to be written in one line."""
    if isinstance(node, yaml.CollectionNode):
        parts = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        for part in parts:
            flowing(part)
        node.flow_style = True
    return node


def page() -> str:
    """The whole page."""
    sections: dict[str, list[Key]] = {}
    for key in all_keys():
        sections.setdefault(key.path.partition(".")[0], []).append(key)
    lines = [INTRODUCTION]
    for heading, found in sections.items():
        lines += [f"## {heading}", "", "| key | default | what it is |", "| --- | --- | --- |"]
        for key in found:
            default = f"`{key.default}`" if key.default else ""
            lines.append(f"| `{key.path}` | {default} | {key.meaning.replace('|', '&#124;')} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    if "--check" in sys.argv:
        current = PAGE.exists() and PAGE.read_text() == page()
        sys.exit(0 if current else f"{PAGE.name} is out of date: run `make docs`")
    PAGE.write_text(page())
