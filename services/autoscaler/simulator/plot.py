"""Draws runs over time: backlog, workers, and waits beside the promise, a row for each policy."""

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from re import Match
from typing import Any

from autoscaler.simulator.engine import Run
from autoscaler.simulator.loads import Load
from autoscaler.simulator.report import figures
from autoscaler.simulator.setting import Setting

FORMATS = {".svg": {"Date": None}, ".png": {"Software": None}}  # without what differs from time to time
BACKLOG, WORKERS, WAIT, PROMISE = "#b6bfc9", "#c2410c", "#7aa6d6", "#1f2933"
TAG = re.compile(r"<[^>]*>")
LONG = re.compile(r"-?\d+\.\d{2,}")
BINS = 150  # stretches of time that a panel tells apart


def check(path: Path) -> None:
    """See, before anything is run, that it can be drawn; raises ValueError with what would be right."""
    if path.suffix not in FORMATS:
        raise ValueError(f"plot: {path} must end in {' or '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("plot: matplotlib is not installed; the extra `plot` of celery-kit has it") from None


def draw(path: Path, runs: Mapping[str, Run], load: Load, setting: Setting) -> None:
    """Write an SVG or PNG file; the same runs give the same bytes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    end = max(1.0, *(run.end for run in runs.values()))
    most_workers = max((number for run in runs.values() for _, number in run.workers), default=0)
    most_backlog = max((number for run in runs.values() for _, number in run.backlog), default=0)
    waits = {name: _waits(run, load) for name, run in runs.items()}
    longest = max((wait for series in waits.values() for _, wait in series), default=0.0)
    # text as text, in the font of whoever looks at it: smaller, and it can be searched
    style: dict[Any, Any] = {
        "svg.hashsalt": "celery-kit",
        "svg.fonttype": "none",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 8,
        "axes.titlesize": 8.5,
        "axes.spines.top": False,
    }
    with rc_context(style):
        figure = Figure(figsize=(10, 0.8 + 1.5 * len(runs)), layout="constrained")
        panels = figure.subplots(len(runs), 2, sharex=True, sharey="col", squeeze=False)
        for (name, run), (course, wait) in zip(runs.items(), panels, strict=True):
            row = figures(name, run, load, setting)
            course.stairs(*_most(run.backlog, end), color=BACKLOG, fill=True)
            course.set_ylim(0, max(1, most_backlog) * 1.08)
            course.set_ylabel("messages")
            course.set_title(f"{name}: {row['worker_hours']:.2f} worker-hours", loc="left")
            there = course.twinx()
            there.step(*_minutes(run.workers), where="post", color=WORKERS, lw=1.2)
            there.set_ylabel("workers", color=WORKERS)
            there.tick_params(axis="y", colors=WORKERS)
            there.set_ylim(0, max(1, most_workers) * 1.08)
            wait.stairs(*_most(waits[name], end, between=0.0), color=WAIT, fill=True)
            wait.axhline(setting.slo, color=PROMISE, lw=1, ls="--")
            wait.set_ylim(0, max(longest, setting.slo) * 1.08)
            wait.set_ylabel("seconds")
            wait.set_title(f"{row['late_percent']:.1f} % start late", loc="left")
            wait.spines["right"].set_visible(False)
            for panel in (course, wait):
                panel.set_xlim(0, end / 60)
                panel.grid(axis="y", color="#e4e7eb", lw=0.5)
                panel.set_axisbelow(True)
        for panel in panels[-1]:
            panel.set_xlabel("minutes")
        keys = [
            Patch(color=BACKLOG, label="backlog, ready and unacknowledged"),
            Line2D([], [], color=WORKERS, lw=1.2, label="workers, booting and draining too"),
            Patch(color=WAIT, label="longest wait of those that arrived then"),
            Line2D([], [], color=PROMISE, lw=1, ls="--", label=f"promise: {setting.slo:g} s"),
        ]
        figure.legend(handles=keys, loc="outside upper center", ncols=4, frameon=False)
        if path.suffix == ".svg":
            text = StringIO()
            figure.savefig(text, format="svg", metadata=FORMATS[path.suffix])
            path.write_text(TAG.sub(_short, text.getvalue()))
        else:
            figure.savefig(path, dpi=120, metadata=FORMATS[path.suffix])


def _short(tag: Match[str]) -> str:
    """Round what is far below a pixel: smaller, and the same where a processor rounds in another way."""
    return LONG.sub(lambda number: f"{float(number[0]):.1f}", tag[0])


def _waits(run: Run, load: Load) -> list[tuple[float, float]]:
    """When each task arrived, and for how long it waited."""
    return [(arrival, start - arrival) for arrival, start in zip(load.arrivals, run.starts, strict=True)]


def _most(
    series: Sequence[tuple[float, float]], end: float, between: float | None = None
) -> tuple[list[float], list[float]]:
    """Thin out to the most of each stretch of time; those that are alike are one.

    Gives the values and, in minutes, the edges between which they are. Where a stretch has no value, there
    is `between`, or else what was there before.
    """
    width = end / BINS
    found: dict[int, float] = {}
    for when, value in series:
        index = min(int(when / width), BINS - 1)
        found[index] = max(found.get(index, value), value)
    values: list[float] = []
    edges: list[float] = []
    value = 0.0
    for index in range(BINS):
        value = found.get(index, value if between is None else between)
        if not values or value != values[-1]:
            values.append(value)
            edges.append(index * width / 60)
    return values, [*edges, end / 60]


def _minutes(series: Sequence[tuple[float, int]]) -> tuple[list[float], list[int]]:
    """Minutes and values, of one moment the last."""
    points = dict(series)
    return [when / 60 for when in points], [*points.values()]
