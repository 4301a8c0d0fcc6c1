"""Writes docs/settings.md from the settings classes themselves; `--check` only compares."""

import importlib
import os
import runpy
import sys
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

import msgspec

from autoscaler.config import Config
from celerykit.settings import PREFIX, described

PAGE = Path(__file__).with_suffix(".md")
ROOT = PAGE.parent.parent

# heading, module or file, class, prefix
PROGRAMS = [
    ("celerykit: every Celery app of the kit", "celerykit.settings", "Settings", PREFIX),
    ("worker", "worker.settings", "WorkerSettings", f"{PREFIX}WORKER_"),
    ("gateway", "gateway.settings", "GatewaySettings", f"{PREFIX}GATEWAY_"),
    ("flower", "services/flower/flowerconfig.py", "FlowerSettings", f"{PREFIX}FLOWER_"),
]

INTRODUCTION = """\
# Settings

Every program reads its settings from the environment, and the autoscaler most of its from one YAML file. A
wrong one ends the program at its start with exit code 2 and one line that names the variable or key. In a
variable, a list is written with commas. This page is made from the code by `make docs`.
"""

AUTOSCALER = """\
## autoscaler

`autoscaler --config FILE`; [autoscaler.md](autoscaler.md) tells what the keys do. The file is read again
when it changes: a good new one takes effect at the next tick, a bad one is refused and the old one stays. A
change of `actuator`, `host`, `mode`, `port`, `prometheusLabels` or `prometheusUrl` takes a restart. The
variable `CELERYKIT_DRAIN_TOKEN` is the workers'. With `processes`, all of the environment is handed on to the
workers; with `kubernetes`, `POD_NAME` tells several autoscalers apart, and `KUBECONFIG` leads to the cluster
from outside of it.

| key | default | what it is |
| --- | --- | --- |
"""


def settings_class(where: str, name: str) -> type[msgspec.Struct]:
    """The class, from a module or, for Flower's configuration, which is none, from a file."""
    if where.endswith(".py"):
        os.environ.setdefault(f"{PREFIX}FLOWER_BASIC_AUTH", "user:password")
        found = runpy.run_path(str(ROOT / where))[name]
    else:
        found = getattr(importlib.import_module(where), name)
    assert isinstance(found, type)
    assert issubclass(found, msgspec.Struct)
    return found


def table(kind: type[msgspec.Struct], prefix: str) -> list[str]:
    """The rows of one program."""
    rows = ["| variable | default | what it is |", "| --- | --- | --- |"]
    for field in msgspec.structs.fields(kind):
        default = "required" if field.required else shown(field.default)
        rows.append(f"| `{prefix}{field.name.upper()}` | {default} | {described(field)} |")
    return rows


def keys(kind: Any, path: str = "") -> list[str]:
    """The rows of a section of the autoscaler's file and of all below it."""
    rows = []
    for field in msgspec.structs.fields(kind):
        key = f"{path}{field.encode_name}"
        below = field.type
        while get_origin(below) is Annotated:
            below = get_args(below)[0]
        if get_origin(below) is dict and is_section(get_args(below)[1]):
            rows += keys(get_args(below)[1], f"{key}.NAME.")
        elif isinstance(below, UnionType):
            for section in get_args(below):
                what = f"`{section.__struct_config__.tag}`: {(section.__doc__ or '').splitlines()[0]}"
                rows += [f"| `{key}.kind` | required | {what} |", *keys(section, f"{key}.")]
        elif is_section(below):
            rows += keys(below, f"{key}.")
        else:
            made = field.default_factory is not msgspec.NODEFAULT
            default = (
                "required" if field.required else shown(field.default_factory() if made else field.default)
            )
            rows.append(f"| `{key}` | {default} | {described(field)} |")
    return rows


def is_section(kind: object) -> bool:
    """Whether a key has keys below it."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def shown(default: object) -> str:
    """A default as one writes it in the environment."""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"`{text}`" if text else "empty"


def page() -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    for heading, where, name, prefix in PROGRAMS:
        lines += [f"## {heading}", "", *table(settings_class(where, name), prefix), ""]
    return "\n".join(lines) + "\n" + AUTOSCALER + "\n".join(keys(Config)) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text() != page() and f"{PAGE.name} is out of date: run `make docs`")
    PAGE.write_text(page())
