"""The command `autoscaler recommend`: settings for a load, by what Prometheus remembers or a file has."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from autoscaler.config import PoolName
from autoscaler.history import History, Sought
from autoscaler.simulator.command import OPTIONS, BadInput, table
from autoscaler.simulator.loads import DEFAULT_QUEUE, read_csv
from autoscaler.simulator.rebuild import Rebuilt, rebuild
from autoscaler.simulator.recommend import Outcome, candidates, cheapest, nearest, sweep, values
from autoscaler.simulator.setting import Setting
from autoscaler.stream import QueryError

TAKEN = ("slo", "quantile", "concurrency", "boot", "scrape", "tick", "min_workers", "max_workers", "seed")
HOURS = 24.0
MOST_HOURS = 24.0 * 31
QUERY_SECONDS = 60.0
MOST_WORKERS = 10000  # that the autoscaler's own file takes
COLUMNS = ("worker_hours", "late_percent", "p50", "p95", "p99", "peak", "actions")


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options; those with a default may be left out."""
    add = parser.add_argument
    add("--prometheus", metavar="URL", help="rebuild the load from what this Prometheus remembers")
    add("--queue", action="append", default=[], metavar="Q", help="a queue of the pool, also repeated")
    add("--vhost", default="/", metavar="V", help="RabbitMQ's virtual host of these queues (%(default)s)")
    add("--hours", type=float, default=HOURS, metavar="H", help="how far back to look (%(default)g)")
    labels = "a label that all series must have, to tell them from others; also repeated"
    add("--label", action="append", default=[], metavar="NAME=VALUE", help=labels)
    add("--trace", type=Path, metavar="FILE", help="or a load, as CSV: arrival_seconds,service_seconds")
    defaults = {field.name: field.default for field in fields(Setting)}
    for flag, name, kind, metavar, words in OPTIONS:
        if name not in TAKEN:
            continue
        if defaults[name] is MISSING:
            add(flag, dest=name, type=kind, required=True, metavar=metavar, help=words)
        else:
            told = f"{words} (%(default)s)"
            add(flag, dest=name, type=kind, default=defaults[name], metavar=metavar, help=told)
    add("--pool", default="default", metavar="NAME", help="the pool to write values for (%(default)s)")
    add("--json", action="store_true", help="print one object, with every setting that was tried")


def run(options: argparse.Namespace) -> str:
    """Do what the options say and give what is to be printed; raises BadInput."""
    try:
        setting = _setting(options)
        made = _load(options, setting)
        if not made.load.arrivals:
            raise ValueError(f"hours: no task arrived within {options.hours:g}; look further back")
        contenders = candidates(setting, made.service)
        outcomes = sweep(made.load, contenders, setting, _tell)
    except OSError as error:
        raise BadInput(f"{error.filename}: {error.strerror}") from error
    except QueryError as error:
        raise BadInput(f"prometheus: {error}") from error
    except ValueError as error:
        raise BadInput(str(error)) from error
    finally:
        _tell("")
    if not outcomes:
        raise BadInput("max_workers: with none of the settings all tasks come to an end; allow more workers")
    queues = tuple(options.queue) or tuple(dict.fromkeys(made.load.queues)) or (DEFAULT_QUEUE,)
    best = cheapest(outcomes)
    text = values((best or nearest(outcomes)).contender.scale, options.pool, queues, setting.concurrency)
    if options.json:
        return _json(made, outcomes, best, text)
    return _page(made, outcomes, best, text, setting)


def _setting(options: argparse.Namespace) -> Setting:
    setting = Setting(**{name: getattr(options, name) for name in TAKEN})
    if setting.quantile == 1:
        raise ValueError("quantile: 1 must be below 1, as nobody can promise all")
    if setting.max_workers > MOST_WORKERS:
        raise ValueError(f"max_workers: {setting.max_workers} must be {MOST_WORKERS} or less")
    try:
        msgspec.convert(options.pool, PoolName)
    except msgspec.ValidationError:
        right = "must be up to 40 small letters, digits and dashes, and begin and end with no dash"
        raise ValueError(f"pool: {options.pool!r} {right}") from None
    return setting


def _load(options: argparse.Namespace, setting: Setting) -> Rebuilt:
    if (options.prometheus is None) == (options.trace is None):
        raise ValueError("prometheus, trace: must be one of them, --prometheus URL or --trace FILE")
    if options.trace is None:
        return asyncio.run(_history(options, setting))
    if options.queue:
        raise ValueError("queue: is for --prometheus; the file's own queues are taken")
    load = read_csv(options.trace)
    seconds = load.work / len(load.services)
    words = (
        f"{options.trace}: {len(load.arrivals)} tasks in {load.arrivals[-1] / 3600:.3g} h, of {seconds:.3g} s"
    )
    return Rebuilt(load, (words,))


async def _history(options: argparse.Namespace, setting: Setting) -> Rebuilt:
    url, hours = options.prometheus, options.hours
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError(f"prometheus: {url!r} must look like http://HOST:PORT")
    if not options.queue:
        raise ValueError("queue: is required with --prometheus, once for each queue of the pool")
    if not 0 < hours <= MOST_HOURS:
        raise ValueError(f"hours: {hours:g} must be above 0, and at most {MOST_HOURS:g}")
    labels = {}
    for label in options.label:
        name, equals, value = label.partition("=")
        if not (name.isidentifier() and name.isascii() and equals):
            raise ValueError(f"label: {label!r} must look like NAME=VALUE")
        labels[name] = value
    sought = Sought(tuple((options.vhost, queue) for queue in dict.fromkeys(options.queue)))
    history = History(url, QUERY_SECONDS, labels, labels)
    try:
        _tell(f"asking {url}")
        end, seconds = await history.now(), hours * 3600
        known = await history.queues(options.vhost, end, seconds)
        for queue in options.queue:
            if queue not in known:
                there = ", ".join(sorted(known)) or "none"
                right = f"known on virtual host {options.vhost!r} within {hours:g} h are: {there}"
                raise ValueError(f"queue: {queue!r} is not known to {url}; {right}")
        pasts = await history.read(sought, end, seconds, setting.scrape)
        services = await history.histograms(sought, end, seconds)
    finally:
        history.close()
    if unknown := [queue for _, queue in sought.queues if (options.vhost, queue) not in pasts]:
        raise ValueError(f"scrape: {setting.scrape:g} s steps over all samples of {unknown[0]!r}; take less")
    return rebuild(pasts, services, setting.seed)


def _tell(words: str) -> None:
    """Show how far it is, to whoever watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)  # noqa: T201


def _json(made: Rebuilt, outcomes: Sequence[Outcome], best: Outcome | None, text: str) -> str:
    near = nearest(outcomes)
    said: dict[str, Any] = {
        "load": list(made.words),
        "tasks": len(made.load.arrivals),
        "service_seconds": round(made.service, 4),
        "settings": [
            {"setting": one.name}
            | {key: value for key, value in one.row.items() if key != "policy"}
            | {"kept_seconds": round(one.kept_seconds, 3), "keeps": one.keeps, "frontier": one.on_frontier}
            for one in outcomes
        ],
        "recommended": best.name if best else None,
        "nearest": {"setting": near.name, "seconds": round(near.kept_seconds, 3)},
        "values": msgspec.yaml.decode(text),
    }
    return json.dumps(said, indent=1)


def _page(
    made: Rebuilt, outcomes: Sequence[Outcome], best: Outcome | None, text: str, setting: Setting
) -> str:
    promise = f"{100 * setting.quantile:g} % of all tasks start within"
    hours = made.load.work / 3600 / setting.concurrency
    shown = [one for one in outcomes if one.on_frontier or one is best]
    rows = [
        {"setting": one.name}
        | {key: one.row[key] for key in COLUMNS}
        | {"keeps": "yes" if one.keeps else "no"}
        for one in shown
    ]
    lines = [*made.words, f"their work alone is {hours:.4g} worker-hours", "", table(rows)]
    if others := len(outcomes) - len(shown):
        lines.append(f"{others} others cost more than one of these, and have no fewer tasks late")
    lines.append("")
    if best:
        lines.append(f"{promise} {setting.slo:g} s at the least cost with {best.name}:")
    else:
        near = nearest(outcomes)
        part = 100 - float(near.row["late_percent"] or 0)
        lines.append(
            f"none of them keeps the promise. {promise} {near.kept_seconds:.1f} s, and {part:.4g} % within"
            f" {setting.slo:g} s, with {near.name}:"
        )
    return "\n".join([*lines, "", text])
