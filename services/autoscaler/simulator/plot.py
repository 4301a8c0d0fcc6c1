"""Draws runs over time: the backlog and the workers, a panel for each policy."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from autoscaler.simulator.engine import Run
from autoscaler.simulator.setting import Setting

FORMATS = {".svg": {"Date": None}, ".png": {"Software": None}}  # without what differs from time to time
BACKLOG, WORKERS = "#9aa5b1", "#c2410c"


def check(path: Path) -> None:
    """See, before anything is run, that it can be drawn; raises ValueError with what would be right."""
    if path.suffix not in FORMATS:
        raise ValueError(f"plot: {path} must end in {' or '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError("plot: matplotlib is not installed; the extra `plot` of celery-kit has it") from None


def draw(path: Path, runs: Mapping[str, Run], setting: Setting) -> None:
    """Write an SVG or PNG file; the same runs give the same bytes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "celery-kit", "font.size": 8}):
        figure = Figure(figsize=(9, 0.6 + 1.7 * len(runs)), layout="constrained")
        panels = figure.subplots(len(runs), 1, sharex=True, squeeze=False)
        for (name, run), panel in zip(runs.items(), panels[:, 0], strict=True):
            panel.fill_between(*_points(run.backlog), step="post", color=BACKLOG, lw=0)
            panel.set_ylabel("backlog")
            panel.set_title(name, loc="left", fontweight="bold")
            there = panel.twinx()
            there.step(*_points(run.workers), where="post", color=WORKERS, lw=1)
            there.set_ylabel("workers", color=WORKERS)
            there.set_ylim(0, setting.max_workers * 1.05)
        panels[-1, 0].set_xlabel("minutes")
        figure.savefig(path, dpi=120, metadata=FORMATS[path.suffix])


def _points(series: Sequence[tuple[float, int]]) -> tuple[list[float], list[int]]:
    """Minutes and values."""
    return [when / 60 for when, _ in series], [value for _, value in series]
