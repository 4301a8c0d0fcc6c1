"""The gateway side by side with its floors and with other ways from the web to a worker.

`python -m tests.bench.gateway` measures everything: every system under every load, in three interleaved
runs, on one RabbitMQ and one MariaDB. It writes build/bench/gateway.json, and the same to
docs/figures/gateway.json, of which docs/performance.md is made. With `--only` it prints and writes nothing:
that is for a look at a part.
"""

import argparse
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from celerykit import schema
from local.http import request
from local.process import StartError, say
from local.run import ROOT
from local.stores import RabbitMQ, Stores, program
from tests.bench import floors, kits, waiting, workers
from tests.bench.load import WORDS, BadAnswer, Load, ask, calls, measure
from tests.bench.peers.systems import SYSTEMS, versions
from tests.bench.runs import LOADS, Figures, System, WentWrong, headline, medians

COMMAND = "make bench-gateway"
REPORTS = (ROOT / "build" / "bench" / "gateway.json", ROOT / "docs" / "figures" / "gateway.json")
PARTS: dict[str, Sequence[System]] = {
    "floors": (floors.Call(), floors.Constant()),
    "gateway": (kits.Gateway("responder"),),
    "workers": (kits.Gateway("workers"),),
    "peers": SYSTEMS,
}
MODULES = {"waiting": waiting, "real-workers": workers}
# what is said to be reached: a figure is at most or at least so much
GOALS: dict[str, dict[str, float]] = {
    "cpu_ratio_to_floors": {"most": 1.3},
    "p50_ratio_to_floors": {"most": 1.3},
    "p99_ratio_to_floors": {"most": 2.0},
    "throughput_vs_fastapi_thread": {"least": 3},
    "kib_per_wait": {"most": 4},
    "loop_lag_p99_ms": {"most": 50},
    "burst200_wall_seconds": {"most": 1.4},
    "echo_behind_40_waits_ratio": {"most": 1.5},
}
ERROR = re.compile(r"^[\w.]*(?:Error|Exception)\b.*", re.MULTILINE)  # as it ends a traceback
PLAIN = (BadAnswer, StartError, WentWrong)  # errors whose words say all


def interleaved(
    stores: Stores, folder: Path, systems: Sequence[System], loads: Sequence[Load], runs: int
) -> Iterator[Figures]:
    """Every system under every load, one system after the other, and all that again."""
    for run in range(1, runs + 1):
        for system in systems:
            place = folder / f"{system.name}-{system.answers.replace(' ', '-')}-{run}"
            place.mkdir(parents=True)
            yield from under_load(system, stores, place, loads, run)


def under_load(
    system: System, stores: Stores, folder: Path, loads: Sequence[Load], run: int
) -> list[Figures]:
    """One system under every load; what goes wrong stands in the figures.

    What has answered nothing under a load may not recover from it: it is started afresh for the next.
    """
    rabbitmq = stores.rabbitmq.run.processes.find("rabbitmq")
    broker = (rabbitmq.pid,) if rabbitmq else ()
    every = [Figures(system=system.name, answers=system.answers, load=load.name, run=run) for load in loads]
    left = list(zip(every, loads, strict=True))
    with told_in(every), kits.answering(system.answers, stores, folder / "answers") as pids:
        while left:
            with system.running(stores, folder / "system") as target:
                if not calls(target):
                    ask(target)
                answers = True
                while left and answers:
                    figures, load = left.pop(0)
                    with told_in([figures]):
                        measure(figures, target, load, folder, answering=pids, broker=broker)
                    if figures.error:
                        words = (figures.error, logged(folder / "system" / "log"))
                        figures.error = ": ".join(filter(None, words))
                    answers = figures.throughput > 0
    for figures in every:
        say(msgspec.json.encode(figures).decode())
    return every


@contextmanager
def told_in(every: Sequence[Figures]) -> Iterator[None]:
    """Note a failure in the figures that have none yet."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # nothing that a system does ends the bench
        for figures in every:
            if not figures.requests and figures.error is None:
                figures.error = in_words(error)


def in_words(error: Exception) -> str:
    """What an error says, in short."""
    return in_short(str(error) if isinstance(error, PLAIN) else f"{type(error).__name__}: {error}")


def in_short(text: str) -> str:
    """The first line and the last, which of a program that did not start is what it died of."""
    lines = [line.strip() for line in text.strip().splitlines()] or [""]
    return re.sub(r"(?<![\w.])/[\w./-]+/", "…/", ": ".join(dict.fromkeys((lines[0], lines[-1]))))


def logged(folder: Path) -> str | None:
    """The last error that a system's own logs tell of."""
    texts = [path.read_text(errors="replace") for path in sorted(folder.glob("*.log"))]
    errors = [match[0] for text in texts for match in ERROR.finditer(text)]
    return in_short(errors[-1][:WORDS]) if errors else None


def machine(rabbitmq: RabbitMQ) -> dict[str, Any]:
    """What it ran on."""
    overview = msgspec.json.decode(
        request("GET", f"{rabbitmq.management}/api/overview", login=rabbitmq.login)[1]
    )
    tool = subprocess.run([program("h2load"), "--version"], capture_output=True, text=True, check=True)
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "rabbitmq": overview["rabbitmq_version"],
        "h2load": tool.stdout.split("/")[-1].strip(),
        **{name: version(name) for name in ("tornado", "celery", "aiormq")},
        "peers": versions(),
    }


def made_by(parser: argparse.ArgumentParser, given: argparse.Namespace) -> str:
    """The command that measures the same again."""
    differ = {name: value for name, value in vars(given).items() if value != parser.get_default(name)}
    if not differ:
        return COMMAND
    words = (
        f"--{name} {f'{value:g}' if isinstance(value, int | float) else ','.join(value)}"
        for name, value in differ.items()
    )
    return " ".join(("python -m tests.bench.gateway", *words))


def write(report: dict[str, Any]) -> None:
    """Write the report to its two places."""
    text = msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"
    for path in REPORTS:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)


def main() -> None:
    """Measure on stores of its own, which are gone afterwards."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words = [*PARTS, *MODULES]
    parser.add_argument(
        "--only", type=lambda text: text.split(","), help=f"parts, with commas: {', '.join(words)}"
    )
    parser.add_argument("--loads", type=lambda text: text.split(","), default=LOADS, help=", ".join(LOADS))
    parser.add_argument("--seconds", type=float, default=4, help="of each load, 4 by default")
    parser.add_argument("--runs", type=int, default=3, help="of everything, interleaved, 3 by default")
    given = parser.parse_args()
    parts = given.only or words
    for what, known in ((parts, words), (given.loads, LOADS)):
        if unknown := set(what) - set(known):
            parser.error(f"{', '.join(sorted(unknown))}: must be of {', '.join(known)}")
    systems = [system for part in PARTS if part in parts for system in PARTS[part]]
    loads = [Load(name, given.seconds) for name in given.loads]
    with kits.stores_of_its_own() as (stores, folder):
        schema.upgrade(stores.mysql.url)
        report: dict[str, Any] = {
            "made_by": made_by(parser, given),
            "machine": machine(stores.rabbitmq),
            "goals": GOALS,
            "failed": {},
        }
        runs = list(interleaved(stores, folder, systems, loads, given.runs))
        report |= headline(medians(runs))
        for name in (name for name in MODULES if name in parts):
            try:
                report |= MODULES[name].measure(stores, folder / name)
            except Exception as error:  # noqa: BLE001  # what was measured before it stays
                report["failed"][name] = in_words(error)
    say(msgspec.json.format(msgspec.json.encode(report), indent=1).decode())
    if given.only is None:
        write(report | {"medians": medians(runs), "runs": runs})


if __name__ == "__main__":
    main()
