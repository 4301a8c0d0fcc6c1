"""Which settings keep a promise, and what each costs: all are simulated, those that none beats are shown."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import msgspec
from msgspec.structs import replace

from autoscaler import policies
from autoscaler.config import Autoscale
from autoscaler.simulator.contenders import Contender
from autoscaler.simulator.engine import NeverEnds, simulate
from autoscaler.simulator.loads import Load
from autoscaler.simulator.report import Row, figures, percentile
from autoscaler.simulator.setting import Setting

PROMISES = (0.5, 0.75, 1.0, 1.25, 1.5)  # times the promise
FILLED = (0.0, 0.25, 0.5)  # of the promise: what a worker gets done in it waits beside what it works at
THRESHOLDS = ((1.0, 60.0), (1.5, 300.0))  # upThreshold and downWindowSeconds: at once, and at leisure


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one setting."""

    contender: Contender
    row: Row
    kept_seconds: float  # within which the promised part of all tasks started
    keeps: bool
    on_frontier: bool = False

    @property
    def name(self) -> str:
        """The settings that tell it from the others."""
        return self.contender.name

    @property
    def cost(self) -> tuple[float, float]:
        """Worker-hours and lateness in percent, to order by."""
        return float(self.row["worker_hours"] or 0), float(self.row["late_percent"] or 0)


def candidates(setting: Setting, service: float) -> list[Contender]:
    """Make the settings to try; `service` are the seconds that a task takes on average."""
    limits = Autoscale(min_workers=setting.min_workers, max_workers=setting.max_workers)
    service = max(_short(service), 0.001)
    tried = {}
    for times in PROMISES:
        promise = _short(times * setting.slo)
        tried[f"slo {promise:g} s"] = replace(
            limits,
            policy="slo",
            slo_seconds=promise,
            slo_quantile=setting.quantile,
            expected_task_seconds=service,
        )
    for filled, (up, window) in product(FILLED, THRESHOLDS):
        target = _short(setting.concurrency * (1 + filled * setting.slo / service))
        tried[f"threshold {target:g}, up {up:g}, down {window:g} s"] = replace(
            limits,
            policy="threshold",
            target_backlog_per_worker=target,
            up_threshold=up,
            down_window_seconds=window,
        )
    return [
        Contender(name, policies.estimate, scale, setting.tick, "drain", scale.drain_timeout_seconds)
        for name, scale in tried.items()
    ]


def sweep(
    load: Load,
    contenders: Sequence[Contender],
    setting: Setting,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Simulate each; those that leave tasks undone for ever are left out. `tell` hears what is under way."""
    outcomes = []
    for number, one in enumerate(contenders, 1):
        tell(f"{number} of {len(contenders)}: {one.name}")
        try:
            run = simulate(load, one, setting)
        except NeverEnds:
            continue
        waits = sorted(start - arrival for start, arrival in zip(run.starts, load.arrivals, strict=True))
        late = sum(wait > setting.slo for wait in waits)
        keeps = late <= (1 - setting.quantile) * len(waits)
        row = figures(one.name, run, load, setting)
        outcomes.append(Outcome(one, row, percentile(waits, setting.quantile), keeps))
    return frontier(outcomes)


def frontier(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Sort by cost, and mark those that have fewer tasks late than all that cost less."""
    ordered = sorted(outcomes, key=lambda one: one.cost)
    marked, least = [], float("inf")
    for one in ordered:
        marked.append(
            Outcome(one.contender, one.row, one.kept_seconds, one.keeps, on_frontier=one.cost[1] < least)
        )
        least = min(least, one.cost[1])
    return marked


def cheapest(outcomes: Sequence[Outcome]) -> Outcome | None:
    """Find the setting to take: the cheapest that keeps the promise; none if none does."""
    return min((one for one in outcomes if one.keeps), key=lambda one: one.cost, default=None)


def nearest(outcomes: Sequence[Outcome]) -> Outcome:
    """Find the setting with which the promised part of all tasks starts soonest."""
    return min(outcomes, key=lambda one: (one.kept_seconds, one.cost))


def values(scale: Autoscale, pool: str, queues: Sequence[str], concurrency: int) -> str:
    """Write the lines of values.yaml for one pool."""
    keys: dict[str, object] = {"policy": scale.policy}
    if scale.policy == "slo":
        keys |= {
            "sloSeconds": scale.slo_seconds,
            "sloQuantile": scale.slo_quantile,
            "expectedTaskSeconds": scale.expected_task_seconds,
        }
    else:
        keys |= {
            "targetBacklogPerWorker": scale.target_backlog_per_worker,
            "upThreshold": scale.up_threshold,
            "downThreshold": scale.down_threshold,
            "downWindowSeconds": scale.down_window_seconds,
            "cooldownSeconds": scale.cooldown_seconds,
        }
    keys |= {"minWorkers": scale.min_workers, "maxWorkers": scale.max_workers}
    name = pool if msgspec.yaml.decode(pool) == pool else json.dumps(pool)  # a number, or `on`
    lines = ["worker:", "  pools:", f"    {name}:"]
    lines.append(f"      queues: {json.dumps(list(queues), ensure_ascii=False)}")
    lines += [f"      concurrency: {concurrency}", "      autoscale:"]
    lines += [f"        {key}: {_text(value)}" for key, value in keys.items()]
    return "\n".join(lines)


def _short(number: float) -> float:
    """Three digits are all that it is good for."""
    return float(f"{number:.3g}")


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
