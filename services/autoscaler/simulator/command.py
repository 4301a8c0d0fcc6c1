"""The command `autoscaler simulate`: one load, several policies, a row of figures for each."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_args

from autoscaler.simulator import faults, oracle, plot
from autoscaler.simulator.contenders import CONTENDERS, contender
from autoscaler.simulator.engine import NeverEnds, simulate
from autoscaler.simulator.loads import Load, read_csv
from autoscaler.simulator.report import ELASTICITY, Row, elasticity, figures, oracle_figures
from autoscaler.simulator.setting import Delivery, Setting

ORACLE = "oracle"  # no policy, but the bound of all


class BadInput(ValueError):
    """The command cannot do what it is told; one line says what would be right."""


# each is a field of Setting, from which it has its default
OPTIONS = (
    ("--slo", "slo", float, "S", "seconds within which tasks shall start"),
    ("--quantile", "quantile", float, "Q", "the part of all tasks that shall"),
    ("--concurrency", "concurrency", int, "C", "tasks that one worker runs at once"),
    ("--boot", "boot", float, "S", "seconds from a worker's creation to its first task"),
    ("--overhead", "overhead", float, "S", "seconds that a slot is taken by each task beside its own"),
    ("--scrape", "scrape", float, "S", "seconds between two samples"),
    ("--statistics", "statistics", float, "S", "seconds between two counts of the broker; RabbitMQ has 5"),
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
    policies = f"of {', '.join(CONTENDERS)}, {ORACLE}, also with keys: NAME:KEY=VALUE (%(default)s)"
    add("--policies", default="slo,threshold", metavar="A,B,...", help=policies)
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
    add(
        "--plot", type=Path, metavar="FILE", help="draw backlog, workers and waits over time, as .svg or .png"
    )
    add("--json", action="store_true", help="print a list of objects and no table")


def run(options: argparse.Namespace) -> str:
    """Do what the options say and give what is to be printed; raises BadInput."""
    try:
        chosen = {name: getattr(options, name) for _, name, *_ in OPTIONS}
        setting = Setting(**chosen, faults=tuple(faults.parse(text) for text in options.fault))
        names = list(dict.fromkeys(filter(None, options.policies.split(","))))
        if not names:
            raise ValueError(f"policies: must name at least one of {', '.join(CONTENDERS)}, {ORACLE}")
        if any(name.startswith(f"{ORACLE}:") for name in names):
            raise ValueError(f"policies: {ORACLE} has no keys; it goes by the options alone")
        contenders = [contender(name, setting) for name in names if name != ORACLE]
        if ORACLE in names:
            oracle.check()
        if options.plot is not None:
            plot.check(options.plot)
            if not contenders:
                raise ValueError(f"plot: {ORACLE} has nothing to draw; policies must name another one, too")
        load = read_csv(options.trace)
        runs = {one.name: simulate(load, one, setting) for one in contenders}
        if options.plot is not None:
            plot.draw(options.plot, runs, load, setting)
    except OSError as error:
        raise BadInput(f"{error.filename}: {error.strerror}") from error
    except (ValueError, NeverEnds) as error:
        raise BadInput(str(error)) from error
    bound = _bound(load, setting) if options.json or ORACLE in names else None
    rows = [
        oracle_figures(bound) if name == ORACLE and bound else figures(name, runs[name], load, setting)
        for name in names
    ]
    if not options.json:
        return table(rows)
    demand = bound.demand if bound else ()
    for row, name in zip(rows, names, strict=True):
        row.update(elasticity(runs[name], demand, setting) if name in runs else dict.fromkeys(ELASTICITY))
    return json.dumps(rows, indent=1)


def _bound(load: Load, setting: Setting) -> oracle.Bound | None:
    """Give the oracle's bound, which takes seconds; none where its solver is not installed."""
    try:
        return oracle.bound(load, setting)
    except oracle.Missing:
        return None


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
