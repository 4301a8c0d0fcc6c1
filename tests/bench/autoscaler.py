"""Every load under every policy: what it costs in worker-hours, and who starts late.

`python -m tests.bench.autoscaler --traces DIR` simulates the loads that the simulator makes up and those of
two published traces, if DIR has their files. It writes build/bench/autoscaler.json, and the same to
docs/figures/autoscaler.json, with the frontiers as docs/figures/frontier.svg; docs/performance.md is made of
them. The same seed gives the same bytes.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from autoscaler.simulator import loads, oracle, traces
from autoscaler.simulator.contenders import CONTENDERS, Contender, contender
from autoscaler.simulator.engine import Run, simulate
from autoscaler.simulator.faults import Outage
from autoscaler.simulator.loads import Load
from autoscaler.simulator.report import figures
from autoscaler.simulator.setting import Setting
from local.process import say
from local.run import ROOT

COMMAND = "make bench-autoscaler"
REPORTS = (ROOT / "build" / "bench" / "autoscaler.json", ROOT / "docs" / "figures" / "autoscaler.json")
PICTURE = ROOT / "docs" / "figures" / "frontier.svg"
TRACES = "TRACES"  # the variable that names their folder
OUTAGE = Outage(1800, 2400)  # ten minutes, after half an hour
# what is turned up and down for the frontier, and by what
SWEEPS: Mapping[str, tuple[str, Sequence[float]]] = {
    "slo": ("promise", (0.5, 0.75, 1.5, 2)),
    "threshold": ("target", (0.5, 2, 4)),
    "hpa-tuned": ("target", (0.5, 0.75, 1.5, 2)),
}
# the claims: each is a figure that is at most so much
CLAIMS: Mapping[str, float] = {
    "worst_late_percent": 5.0,
    "interrupted": 0,
    "hours_ratio_to_tuned_hpa": 0.85,
    "worst_hours_ratio_to_tuned_hpa": 1.0,
    "hours_ratio_to_oracle": 1.5,
    "flips_ratio_to_hpa": 2.0,
    "outage_worst_late_percent": 5.0,
    "outage_workers_removed": 0,
}


class Job(NamedTuple):
    """One simulation: a load under a policy, with what is turned."""

    load: str
    policy: str
    factor: float = 1.0
    outage: bool = False


Places = Mapping[str, tuple[Callable[[], Load], Setting]]


def places(folder: Path | None) -> Places:
    """All loads by name, with the setting of each."""
    return {**loads.COMMON, **(traces.common(folder) if folder else {})}


def turned(job: Job, setting: Setting) -> Contender:
    """The contender with its one knob turned."""
    if job.policy == "slo":
        return contender("slo", replace(setting, slo=setting.slo * job.factor))
    one = contender(job.policy, setting)
    target = one.scale.target_backlog_per_worker * job.factor
    return replace(one, scale=msgspec.structs.replace(one.scale, target_backlog_per_worker=target))


def run(job: Job, folder: Path | None) -> dict[str, Any]:
    """Simulate one job and sum it up."""
    make, setting = places(folder)[job.load]
    load = make()
    if job.policy == "oracle":
        bound = oracle.bound(load, setting)
        return {"worker_hours": bound.worker_hours, "feasible": bound.feasible, "peak": bound.peak}
    if job.outage:
        setting = replace(setting, faults=(OUTAGE,))
    played = simulate(load, turned(job, setting), setting)
    row = {"load": job.load, **figures(job.policy, played, load, setting)}
    if job.outage:
        row["removed"] = removed(played)
    return row


def removed(played: Run) -> int:
    """How many fewer workers were wanted during the outage than when it began."""
    before = [number for at, number in played.wanted if at < OUTAGE.begin][-1]
    during = [number for at, number in played.wanted if OUTAGE.begin <= at < OUTAGE.end]
    return max(0, before - min([before, *during]))


def jobs(names: Sequence[str]) -> Iterator[Job]:
    """All that is to be simulated."""
    for name in names:
        yield Job(name, "oracle")
        for policy in CONTENDERS:
            yield Job(name, policy)
        for policy, (_, factors) in SWEEPS.items():
            for factor in factors:
                yield Job(name, policy, factor)
        yield Job(name, "slo", outage=True)


def feasible(setting: Setting, met: bool) -> bool:
    """Whether anybody could keep the promise: by the least time to react, and by perfect knowledge."""
    return met and setting.slo >= setting.boot + setting.metric_delay + 2 * setting.tick


def claims(rows: Mapping[Job, Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """What is said to be reached, over the feasible loads."""

    def of(policy: str, key: str) -> list[float]:
        return [rows[Job(name, policy)][key] for name in names]

    hours, tuned = of("slo", "worker_hours"), of("hpa-tuned", "worker_hours")
    fair = [late <= 100 * 0.05 for late in of("hpa-tuned", "late_percent")]
    outages = [rows[Job(name, "slo", outage=True)] for name in names]
    return {
        "worst_late_percent": max(of("slo", "late_percent")),
        "interrupted": sum(of("slo", "interrupted")),
        "hours_ratio_to_tuned_hpa": round(sum(hours) / sum(tuned), 3),
        "worst_hours_ratio_to_tuned_hpa": round(
            max((one / two for one, two, good in zip(hours, tuned, fair, strict=True) if good), default=0.0),
            3,
        ),
        "hours_ratio_to_oracle": round(sum(hours) / sum(of("oracle", "worker_hours")), 3),
        "flips_ratio_to_hpa": round(sum(of("slo", "flips")) / sum(of("hpa", "flips")), 3),
        "outage_worst_late_percent": max(row["late_percent"] for row in outages),
        "outage_workers_removed": sum(row["removed"] for row in outages),
    }


def report(
    rows: Mapping[Job, Mapping[str, Any]], settings: Mapping[str, Setting], made_by: str
) -> dict[str, Any]:
    """All figures in one object."""
    could = [name for name in settings if feasible(settings[name], rows[Job(name, "oracle")]["feasible"])]
    return {
        "made_by": made_by,
        "loads": {
            name: {"setting": asdict(setting), "feasible": name in could, "oracle": rows[Job(name, "oracle")]}
            for name, setting in settings.items()
        },
        "rows": [rows[Job(name, policy)] for name in settings for policy in CONTENDERS],
        "frontier": [
            {"load": job.load, "policy": job.policy, "turned": SWEEPS[job.policy][0], "by": job.factor}
            | {key: rows[job][key] for key in ("worker_hours", "late_percent")}
            for job in rows
            if job.policy in SWEEPS and not job.outage
        ],
        "outage": [rows[Job(name, "slo", outage=True)] for name in settings],
        "claims": claims(rows, could),
    }


def draw(made: Mapping[str, Any], path: Path) -> None:
    """Draw worker-hours against lateness, a panel for each load; the same figures give the same bytes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = list(made["loads"])
    columns = 2
    with rc_context({"svg.hashsalt": "celery-kit", "svg.fonttype": "none", "font.size": 8}):
        lines = -(-len(names) // columns)
        figure = Figure(figsize=(9, 2.6 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False)
        for panel, name in zip(panels.flat, names, strict=False):
            for color, policy in zip(("#c2410c", "#475569", "#0369a1"), SWEEPS, strict=True):
                points = [p for p in made["frontier"] if (p["load"], p["policy"]) == (name, policy)]
                points.sort(key=lambda point: point["by"])
                xs, ys = [[p[key] for p in points] for key in ("worker_hours", "late_percent")]
                panel.plot(xs, ys, "o-", ms=3, lw=0.8, color=color, label=policy)
            for row in made["rows"]:
                if row["load"] == name and row["policy"] not in SWEEPS:
                    panel.plot(row["worker_hours"], row["late_percent"], "x", ms=4, color="#94a3b8")
                    panel.annotate(row["policy"], (row["worker_hours"], row["late_percent"]), fontsize=6)
            panel.axvline(made["loads"][name]["oracle"]["worker_hours"], color="#15803d", lw=0.8, ls="--")
            panel.axhline(5, color="#94a3b8", lw=0.5)
            panel.set_yscale("symlog", linthresh=1)
            panel.set_ylim(bottom=-0.2)
            panel.set_title(name, loc="left", fontweight="bold")
            panel.set_xlabel("worker-hours")
            panel.set_ylabel("late, %")
        panels[0, 0].legend(frameon=False, fontsize=7)
        for panel in list(panels.flat)[len(names) :]:
            panel.set_visible(False)
        figure.savefig(path, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, write the reports, and fail if a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.autoscaler", description=__doc__)
    given = os.environ.get(TRACES) or None
    parser.add_argument("--traces", type=Path, default=given, metavar="DIR", help="the folder of the traces")
    parser.add_argument("--only", metavar="LOAD,...", help="these loads alone; nothing is written")
    options = parser.parse_args(arguments)
    known = places(options.traces)
    names = [name for name in known if options.only is None or name in options.only.split(",")]
    if not names:
        parser.error(f"--only: {options.only!r} names none of {', '.join(known)}")
    rows: dict[Job, dict[str, Any]] = {}
    with ProcessPoolExecutor() as pool:
        todo = list(jobs(names))
        for job, row in zip(todo, pool.map(run, todo, [options.traces] * len(todo)), strict=True):
            rows[job] = row
            if job.policy != "oracle" and job.factor == 1 and not job.outage:
                say(
                    f"{job.load:8} {job.policy:10} late {row['late_percent']:6.2f} % worker-hours"
                    f" {row['worker_hours']:7.2f} flips {row['flips']:4}"
                )
    with_traces = " ".join([COMMAND, *(["TRACES=DIR"] if options.traces else [])])
    made = report(rows, {name: known[name][1] for name in names}, with_traces)
    broken = [
        f"{name} is {made['claims'][name]:g}, and must be at most {most:g}"
        for name, most in CLAIMS.items()
        if made["claims"][name] > most
    ]
    could = [name for name, load in made["loads"].items() if load["feasible"]]
    say(f"feasible: {', '.join(could) or 'none'}")
    say(msgspec.json.format(msgspec.json.encode(made["claims"]), indent=1).decode())
    if options.only is None:
        for path in REPORTS:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
        draw(made, PICTURE)
    for words in broken:
        say(words)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
