"""Whether the simulator tells the truth: short loads played for real, beside what it predicts for them.

`python -m tests.bench.truth` plays each load under each policy on RabbitMQ, Prometheus and Celery workers
that are processes, three times, and simulates the same. It writes build/bench/truth.json, and the same to
docs/figures/truth.json, of which docs/performance.md is made; and it fails where they differ by more than
the limits. With `--loads` or `--runs` it prints and writes nothing: that is for a look at a part.

Each run is simulated with the phases that it was played with: those that its seed draws for scrapes, ticks
and the broker's counts. Workers boot, and tasks take their slots beside their own time, for as long as they
did in the run. `any_phase` is what is predicted for a hundred seeds: the 5th percentile and the 95th.

With `--add` the runs of docs/figures/truth.json under other policies stay in the report: that is for one more
policy. With `--again` nothing is played, and all its runs are simulated again: that is for a change of the
simulator.
"""

import argparse
import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import combinations, count, islice, product
from random import Random
from statistics import fmean
from subprocess import run as run_program
from typing import Any

from autoscaler.simulator.contenders import CONTENDERS, Contender, contender
from autoscaler.simulator.engine import phases, simulate
from autoscaler.simulator.loads import Load, load_of
from autoscaler.simulator.report import figures, percentile
from autoscaler.simulator.setting import Setting
from local.http import request
from local.process import say
from local.run import ROOT
from local.stores import Stores, program
from tests.bench import kits
from tests.bench.played import Played, play
from tests.bench.runs import WentWrong

COMMAND = "python -m tests.bench.truth"
REPORTS = (ROOT / "build" / "bench" / "truth.json", ROOT / "docs" / "figures" / "truth.json")
POLICIES = ("threshold", "hpa-tuned")
RUNS = 3
MOST_HOURS_PERCENT, MOST_LATE_POINTS = 15.0, 2.0
APART_SECONDS = 0.6  # of what is done every few seconds: what is nearer may be done in either order
PHASES = 100  # seeds for what is predicted for any phase
BOOT_GUESS = 3.0  # for a policy that wants to know the boot beforehand

Row = dict[str, Any]


def bursts(seed: int = 0) -> Load:
    """280 tasks within 8 s, of mean 4 s, nothing until workers went, and 24 more."""
    random = Random(f"short bursts {seed}")
    return load_of(
        "bursts",
        (
            (start + random.uniform(0, 8), random.expovariate(1 / 4))
            for start, tasks in ((5, 280), (170, 24))
            for _ in range(tasks)
        ),
    )


def wave(seed: int = 0) -> Load:
    """In 80 s from almost none to 12 tasks a second, half as many again as all workers can do, and back."""
    random = Random(f"short wave {seed}")
    arrivals: list[float] = []
    while len(arrivals) < 480:
        at = random.uniform(0, 80)
        if random.random() < (1 - 0.95 * math.cos(math.tau * at / 80)) / 1.95:
            arrivals.append(at)
    return load_of("wave", ((at, random.expovariate(1 / 4)) for at in sorted(arrivals)))


PLACE = Setting(slo=25, concurrency=4, boot=BOOT_GUESS, max_workers=8, statistics=5)
LOADS: Mapping[str, tuple[Callable[[], Load], Setting]] = {
    "bursts": (bursts, PLACE),
    "wave": (wave, replace(PLACE, slo=10)),
}


def seeds(one: Contender, setting: Setting) -> Iterator[int]:
    """The seeds whose phases are so far apart that it is certain what is done first."""
    every = min(setting.scrape, setting.statistics)
    for seed in count():
        drawn = [phase % every for phase in asdict(phases(one, replace(setting, seed=seed))).values()]
        gaps = (abs(first - second) for first, second in combinations(drawn, 2))
        if all(APART_SECONDS <= gap <= every - APART_SECONDS for gap in gaps):
            yield seed


def measured(played: Played, load: Load, one: Contender, setting: Setting) -> Row:
    """What came of one run."""
    late = [real - planned for real, planned in zip(played.load.arrivals, load.arrivals, strict=True)]
    return {
        "load": load.name,
        "policy": one.name,
        "seed": setting.seed,
        "phases": {name: round(phase, 2) for name, phase in asdict(phases(one, setting)).items()},
        "boot_seconds_each": [round(seconds, 2) for seconds in played.boots],
        "overhead_seconds": round(played.own + played.handover, 3),
        "ending_seconds": round(fmean(played.endings), 2) if played.endings else None,
        "publishing_late_seconds": round(max(late), 3),
        "measured": figures(one.name, played.run, played.load, setting),
    }


def predict(run: Row) -> Row:
    """What the simulator says of the same load under the same policy, at the same pace."""
    load, setting = made(run["load"])
    setting = like([run], replace(setting, seed=run["seed"]))
    one = contender(run["policy"], setting)
    return figures(one.name, simulate(load, one, setting), load, setting)


def made(name: str) -> tuple[Load, Setting]:
    """A load and where it is played."""
    make, setting = LOADS[name]
    return make(), setting


def like(runs: Sequence[Row], setting: Setting) -> Setting:
    """A setting whose workers boot, and whose tasks take slots, as they did in these runs."""
    boots = tuple(seconds for run in runs for seconds in run["boot_seconds_each"])
    return replace(setting, boots=boots, overhead=fmean(run["overhead_seconds"] for run in runs))


def compare(runs: Sequence[Row]) -> Row:
    """The runs of a load under a policy in one row: means, how they differ, and whether they may so."""
    hours, late, p95 = (
        {side: fmean(run[side][figure] for run in runs) for side in ("measured", "predicted")}
        for figure in ("worker_hours", "late_percent", "p95")
    )
    percent = round(100 * (hours["measured"] / hours["predicted"] - 1), 2)
    points = round(late["measured"] - late["predicted"], 2)
    boots = [seconds for run in runs for seconds in run["boot_seconds_each"]]
    return {
        "load": runs[0]["load"],
        "policy": runs[0]["policy"],
        "runs": len(runs),
        "worker_hours": _rounded(hours, 4) | {"difference_percent": percent},
        "late_percent": _rounded(late, 2) | {"difference_points": points},
        "p95": _rounded(p95, 2),
        "boot_seconds": [min(boots), max(boots)] if boots else [],
        "overhead_seconds": round(fmean(run["overhead_seconds"] for run in runs), 3),
        "within": abs(percent) <= MOST_HOURS_PERCENT and abs(points) <= MOST_LATE_POINTS,
    }


def any_phase(runs: Sequence[Row]) -> dict[str, list[float]]:
    """What is predicted when nobody knows the phases."""
    load, setting = made(runs[0]["load"])
    setting = like(runs, setting)
    one = contender(runs[0]["policy"], setting)
    rows = []
    for seed in range(PHASES):
        drawn = replace(setting, seed=seed)
        rows.append(figures(one.name, simulate(load, one, drawn), load, drawn))
    return {
        figure: [percentile(sorted(row[figure] for row in rows), part) for part in (0.05, 0.95)]
        for figure in ("worker_hours", "late_percent")
    }


def wrong(row: Row) -> str:
    """Say how a row is out of bounds."""
    hours, late = row["worker_hours"], row["late_percent"]
    return (
        f"{row['load']} under {row['policy']}: {hours['measured']:g} worker-hours where"
        f" {hours['predicted']:g} are predicted ({hours['difference_percent']:+g} %, at most"
        f" {MOST_HOURS_PERCENT:g}),"
        f" {late['measured']:g} % late where {late['predicted']:g} % are"
        f" ({late['difference_points']:+g} points, at most {MOST_LATE_POINTS:g})"
    )


def _rounded(values: Mapping[str, float], digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in values.items()}


def machine(stores: Stores) -> Row:
    """What it ran on."""
    rabbitmq = stores.rabbitmq
    overview = json.loads(request("GET", f"{rabbitmq.management}/api/overview", login=rabbitmq.login)[1])
    told = run_program([program("prometheus"), "--version"], capture_output=True, text=True, check=True)
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "rabbitmq": overview["rabbitmq_version"],
        "prometheus": (told.stdout or told.stderr).split()[2],
        "celery": version("celery"),
    }


def play_all(stores: Stores, loads: Sequence[str], policies: Sequence[str], times: int) -> Iterator[Row]:
    """Play everything, one run after the other; and then everything again."""
    for number, name, policy in product(range(times), loads, policies):
        load, setting = made(name)
        one = contender(policy, setting)
        drawn = replace(setting, seed=next(islice(seeds(one, setting), number, None)))
        run = measured(play(load, one, drawn, stores), load, one, drawn)
        say(json.dumps(run))
        yield run


def measure(loads: Sequence[str], policies: Sequence[str], times: int) -> Row:
    """Play everything on stores of its own, which are gone afterwards."""
    with kits.stores_of_its_own() as (stores, _):
        stores.prometheus.start()
        try:
            loaded, runs = [], []
            for run in play_all(stores, loads, policies, times):
                loaded.append(os.getloadavg()[0])
                runs.append(run)
            return {"machine": machine(stores) | {"load_average": round(fmean(loaded), 1)}, "runs": runs}
        finally:
            stores.prometheus.stop()


def report(machine: Row, runs: Sequence[Row]) -> Row:
    """Hold the runs against what the simulator says of each."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for run in runs:
        groups.setdefault((run["load"], run["policy"]), []).append(run | {"predicted": predict(run)})
    loads = dict.fromkeys(name for name, _ in groups)
    return {
        "made_by": made_by(list(dict.fromkeys(policy for _, policy in groups))),
        "machine": machine,
        "limits": {
            "worker_hours_percent": MOST_HOURS_PERCENT,
            "late_points": MOST_LATE_POINTS,
            "phases_apart_seconds": APART_SECONDS,
        },
        "setting": {
            name: getattr(PLACE, name) for name in ("concurrency", "max_workers", "scrape", "statistics")
        },
        "loads": {
            name: {
                "does": LOADS[name][0].__doc__,
                "tasks": len(made(name)[0].arrivals),
                "slo": made(name)[1].slo,
            }
            for name in loads
        },
        "rows": [compare(of) | {"any_phase": any_phase(of)} for of in groups.values()],
        "runs": [run for of in groups.values() for run in of],
    }


def main() -> None:
    """Measure on stores of its own, which are gone afterwards; fail where the simulator was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.truth", description=(__doc__ or "").partition("\n")[0]
    )

    def some(known: Sequence[str]) -> Callable[[str], list[str]]:
        def names(text: str) -> list[str]:
            chosen = text.split(",")
            if unknown := [name for name in chosen if name not in known]:
                raise argparse.ArgumentTypeError(f"{unknown[0]!r} must be of {', '.join(known)}")
            return chosen

        return names

    parser.add_argument(
        "--policies", type=some(list(CONTENDERS)), default=POLICIES, help=f"of {', '.join(CONTENDERS)}"
    )
    parser.add_argument(
        "--loads", type=some(list(LOADS)), default=tuple(LOADS), help=f"of {', '.join(LOADS)}"
    )
    parser.add_argument("--runs", type=int, default=RUNS, help="of each load under each policy, %(default)s")
    last = parser.add_mutually_exclusive_group()
    last.add_argument("--add", action="store_true", help="keep what the last report has of other policies")
    last.add_argument("--again", action="store_true", help="play nothing, simulate the last report's runs")
    given = parser.parse_args()
    before = json.loads(REPORTS[-1].read_text()) if given.add or given.again else {"runs": []}
    if given.again:
        found = report(before["machine"], before["runs"])
    else:
        others = [run for run in before["runs"] if run["policy"] not in given.policies]
        try:
            played = measure(given.loads, given.policies, given.runs)
        except WentWrong as error:
            raise SystemExit(str(error)) from None
        found = report(played["machine"], [*others, *played["runs"]])
    text = json.dumps(found, indent=1) + "\n"
    say(text)
    if (set(given.loads), given.runs) == (set(LOADS), RUNS):
        for path in REPORTS:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if bad := [row for row in found["rows"] if not row["within"]]:
        raise SystemExit("\n".join(map(wrong, bad)))


def made_by(policies: Sequence[str]) -> str:
    """The command that measures the same again."""
    return COMMAND if tuple(policies) == POLICIES else f"{COMMAND} --policies {','.join(policies)}"


if __name__ == "__main__":
    main()
