"""The command `autoscaler simulate`: one load, several policies, a row of figures for each."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_args

from autoscaler.simulator import faults, plot
from autoscaler.simulator.contenders import CONTENDERS, contender
from autoscaler.simulator.engine import NeverEnds, simulate
from autoscaler.simulator.loads import read_csv
from autoscaler.simulator.report import Row, figures
from autoscaler.simulator.setting import Delivery, Setting


class BadInput(ValueError):
    """The command cannot do what it is told; one line says what would be right."""


# each is a field of Setting, from which it has its default
OPTIONS = (
    ("--slo", "slo", float, "S", "seconds within which tasks shall start"),
    ("--quantile", "quantile", float, "Q", "the part of all tasks that shall"),
    ("--concurrency", "concurrency", int, "C", "tasks that one worker runs at once"),
    ("--boot", "boot", float, "S", "seconds from a worker's creation to its first task"),
    ("--scrape", "scrape", float, "S", "seconds between two samples"),
    ("--tick", "tick", float, "S", "seconds between two decisions"),
    ("--min", "min_workers", int, "N", "workers that are always there"),
    ("--max", "max_workers", int, "N", "workers that are never exceeded"),
    ("--metric-delay", "metric_delay", float, "S", "seconds that samples are late"),
    ("--delivery", "delivery", str, "WAY", f"who gets the next task: {' or '.join(get_args(Delivery))}"),
    ("--prefetch", "prefetch", int, "N", "messages taken for each slot"),
    ("--seed", "seed", int, "N", "the same seed gives the same bytes"),
)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options; those with a default may be left out."""
    add = parser.add_argument
    add("--trace", type=Path, required=True, metavar="FILE", help="CSV: arrival_seconds,service_seconds")
    policies = f"of {', '.join(CONTENDERS)} (%(default)s)"
    add("--policies", default="threshold", metavar="A,B,...", help=policies)
    defaults = {field.name: field.default for field in fields(Setting)}
    for flag, name, kind, metavar, words in OPTIONS:
        if defaults[name] is MISSING:
            add(flag, dest=name, type=kind, required=True, metavar=metavar, help=words)
        else:
            told = f"{words} (%(default)s)"
            add(flag, dest=name, type=kind, default=defaults[name], metavar=metavar, help=told)
    forms = ", ".join(form for _, form in faults.FORMS.values())
    wrong = f"what goes wrong, also repeated: {forms}"
    add("--fault", action="append", default=[], metavar="KIND:...", help=wrong)
    add("--plot", type=Path, metavar="FILE", help="draw backlog and workers over time, as .svg or .png")
    add("--json", action="store_true", help="print a list of objects and no table")


def run(options: argparse.Namespace) -> str:
    """Do what the options say and give what is to be printed; raises BadInput."""
    try:
        chosen = {name: getattr(options, name) for _, name, *_ in OPTIONS}
        setting = Setting(**chosen, faults=tuple(faults.parse(text) for text in options.fault))
        names = list(dict.fromkeys(filter(None, options.policies.split(","))))
        if not names:
            raise ValueError(f"policies: must name at least one of {', '.join(CONTENDERS)}")
        contenders = [contender(name, setting) for name in names]
        if options.plot is not None:
            plot.check(options.plot)
        load = read_csv(options.trace)
        runs = {one.name: simulate(load, one, setting) for one in contenders}
        if options.plot is not None:
            plot.draw(options.plot, runs, setting)
    except OSError as error:
        raise BadInput(f"{error.filename}: {error.strerror}") from error
    except (ValueError, NeverEnds) as error:
        raise BadInput(str(error)) from error
    rows = [figures(name, run, load, setting) for name, run in runs.items()]
    return json.dumps(rows, indent=1) if options.json else table(rows)


def table(rows: Sequence[Row]) -> str:
    """Align rows of the same keys under their names."""
    names = list(rows[0])
    lines = [names, *([_text(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _text(value: str | float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
