"""What Prometheus is told about the autoscaler itself."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from typing import TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from autoscaler.config import Autoscale, Kubernetes, Mode
from autoscaler.model import Action, Decision, Estimate, Reason

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Tick:
    """One pool at one tick, with all that led to the decision."""

    at: float  # unix seconds
    scale: Autoscale
    estimate: Estimate
    decision: Decision
    known_at: float  # unix seconds; when there was last an observation without a problem; 0: never
    problem: str | None = None  # what could not be done

    @property
    def signal(self) -> float:
        """The backlog, or NaN while it is not known: an old number must not look like a new one."""
        observation = self.estimate.observation
        return observation.backlog if observation.problem is None else float("nan")

    @property
    def unclamped(self) -> float:
        """What the policy asks for before limits; NaN while the backlog is not known."""
        return float("nan") if self.estimate.workers is None else self.estimate.workers


def _term(name: str) -> Callable[[Tick], float]:
    """What a policy reckoned with; NaN while the backlog is not known."""
    return lambda tick: tick.estimate.terms.get(name, math.nan)


def _target(tick: Tick) -> float:
    """The backlog above which there will be more workers; with `slo` what these begin in time."""
    if tick.scale.policy != "slo":
        return _term("upAbove")(tick)
    fleet, service = tick.estimate.observation.fleet, _term("serviceSeconds")(tick)
    return fleet.slots * fleet.wanted * (1 + tick.scale.slo_seconds / service) if service else math.nan


_GAUGES: Mapping[str, tuple[str, Callable[[Tick], float]]] = {
    "desired_replicas_unclamped": ("Workers that the policy asks for", lambda tick: tick.unclamped),
    "current_replicas": (
        "Workers that are there, with those that drain",
        lambda tick: len(tick.estimate.observation.fleet.workers),
    ),
    "ready_replicas": ("Workers that consume", lambda tick: tick.estimate.observation.fleet.ready),
    "draining_replicas": (
        "Workers that end when they are empty",
        lambda tick: len(tick.estimate.observation.fleet.draining),
    ),
    "min_replicas": ("The configured minimum", lambda tick: tick.scale.min_workers),
    "max_replicas": ("The configured maximum", lambda tick: tick.scale.max_workers),
    "last_successful_query_timestamp_seconds": (
        "When the backlog was last known",
        lambda tick: tick.known_at,
    ),
}
# Of pools with the policy `slo` only.
_SLO_GAUGES: Mapping[str, tuple[str, Callable[[Tick], float]]] = {
    "slo_seconds": ("The configured promise", lambda tick: tick.scale.slo_seconds),
    "slo_feasible": ("1 if the promise can be kept to a burst out of nothing, 0 if not", _term("feasible")),
    "offered_load": ("Slots that would be busy on average", _term("offeredLoad")),
    "service_seconds": ("What a task takes on average", _term("serviceSeconds")),
    "startup_seconds": ("From a worker's creation to its first task", _term("bootSeconds")),
    "oldest_wait_seconds": ("How long the oldest waiting task has waited", _term("oldestSeconds")),
}
_TERMS = ("keep", "plan", "floor", "cap", "spare")
_SIGNAL_GAUGES: Mapping[str, tuple[str, Callable[[Tick], float]]] = {
    "signal_value": ("What the policy looks at", lambda tick: tick.signal),
    "signal_target": ("The value above which there will be more workers", _target),
    "signal_age_seconds": (
        "The age of the oldest sample",
        lambda tick: tick.estimate.observation.age_seconds,
    ),
}
SOURCES = ("broker", "workers", "backlog")
DECISIONS = {decision: decision for decision in product(Action, Reason)}  # one of each for all pools
POOLS_AT_ONCE = 20  # in one part of a family that has many series of each


class Metrics:
    """All metrics of one autoscaler. `ticks` gives the latest tick of each pool at every scrape.

    On Kubernetes the number that KEDA or an HPA may follow bears its Deployment: the Prometheus that these
    ask may know a pool of the same name of another release.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        mode: Mode,
        ticks: Callable[[], Mapping[str, Tick]],
        leading: Callable[[], bool],
        kubernetes: Kubernetes | None = None,
    ) -> None:
        self._ticks = ticks
        self._kubernetes = kubernetes
        self.registry = registry
        # A counter's object for each pool, action and reason would take more memory than all else together.
        self._decisions: dict[str, dict[tuple[Action, Reason], int]] = {}
        self._failed: dict[str, int] = {}
        self.reloads = Counter(
            "autoscaler_config_reloads", "Changes of the configuration", ["outcome"], registry=registry
        )
        self.loop_duration = Histogram(
            "autoscaler_loop_duration_seconds", "How long a tick took", registry=registry
        )
        self.loop_lag = Gauge(
            "autoscaler_loop_lag_seconds", "How late the last tick began", registry=registry
        )
        leader = Gauge(
            "autoscaler_leader", "1 if this autoscaler decides, 0 if it follows", registry=registry
        )
        leader.set_function(leading)
        modes = Gauge("autoscaler_mode", "1 for the mode that it is in", ["mode"], registry=registry)
        for known in get_args(Mode):
            modes.labels(known).set(known == mode)
        for outcome in ("accepted", "refused"):
            self.reloads.labels(outcome)
        build = Gauge("kit_build_info", "What runs here", ["version", "component"], registry=registry)
        build.labels(version("celery-kit"), "autoscaler").set(1)
        registry.register(self)

    def expect(self, pools: Iterable[str]) -> None:
        """Begin all counters of a pool at 0, so that the first event is seen as one."""
        for pool in pools:
            self._failed.setdefault(pool, 0)
            self._decisions.setdefault(pool, {})

    def failed(self, pool: str) -> None:
        """Count a decision that could not be carried out whole."""
        self._failed[pool] = self._failed.get(pool, 0) + 1

    def decided(self, pool: str, decision: Decision) -> None:
        """Count a decision."""
        counts = self._decisions.setdefault(pool, {})
        key = DECISIONS[decision.action, decision.reason]
        counts[key] = counts.get(key, 0) + 1

    def collect(self) -> Iterable[Metric]:
        """Show the latest tick of the pools that there are. Large families come in parts."""
        yield self._desired()
        failed = CounterMetricFamily(
            "autoscaler_failed_actions",
            "Ticks in which a decision could not be carried out whole",
            labels=["scale_target"],
        )
        for pool, count in self._failed.items():
            failed.add_metric([pool], count)
        yield failed
        yield from self._decided()
        yield from self._slo()
        for name, (text, value) in _GAUGES.items():
            family = GaugeMetricFamily(f"autoscaler_{name}", text, labels=["scale_target"])
            for pool, tick in self._ticks().items():
                family.add_metric([pool], value(tick))
            yield family
        for name, (text, value) in _SIGNAL_GAUGES.items():
            family = GaugeMetricFamily(f"autoscaler_{name}", text, labels=["scale_target", "signal"])
            for pool, tick in self._ticks().items():
                family.add_metric([pool, "backlog"], value(tick))
            yield family
        yield from self._sources()

    def _decided(self) -> Iterable[Metric]:
        for part in _parts(self._decisions):
            family = CounterMetricFamily(
                "autoscaler_decisions",
                "Decisions, one for each pool and tick",
                labels=["scale_target", "action", "reason"],
            )
            for pool, counts in part:
                for key in DECISIONS:
                    family.add_metric([pool, *key], counts.get(key, 0))
            yield family

    def _sources(self) -> Iterable[Metric]:
        for part in _parts(self._ticks()):
            family = GaugeMetricFamily(
                "autoscaler_signal_source",
                "1 for who tells what goes through a queue of the pool; backlog: nobody but its changes",
                labels=["scale_target", "source"],
            )
            for pool, tick in part:
                used = tick.estimate.observation.sources
                for source in SOURCES:
                    family.add_metric([pool, source], source in used)
            yield family

    def _desired(self) -> Metric:
        kubernetes = self._kubernetes
        labels = ["scale_target", *(("deployment", "deployment_namespace") if kubernetes else ())]
        family = GaugeMetricFamily(
            "autoscaler_desired_replicas", "Workers that shall be there", labels=labels
        )
        for pool, tick in self._ticks().items():
            more = (kubernetes.deployments[pool], kubernetes.namespace) if kubernetes else ()
            family.add_metric([pool, *more], tick.decision.workers)
        return family

    def _slo(self) -> Iterable[Metric]:
        ticks = {pool: tick for pool, tick in self._ticks().items() if tick.scale.policy == "slo"}
        for name, (text, value) in _SLO_GAUGES.items():
            family = GaugeMetricFamily(f"autoscaler_{name}", text, labels=["scale_target"])
            for pool, tick in ticks.items():
                family.add_metric([pool], value(tick))
            yield family
        text = "Slots: the greater of keep and plan, but no more than cap, and no fewer than floor; and spare"
        for part in _parts(ticks):
            family = GaugeMetricFamily("autoscaler_term", text, labels=["scale_target", "term"])
            for pool, tick in part:
                for term in _TERMS:
                    family.add_metric([pool, term], _term(term)(tick))
            yield family


def _parts(of_pools: Mapping[str, _T]) -> Iterator[Sequence[tuple[str, _T]]]:
    """Take some pools after the others; one part at least, so that a family is there without any."""
    items = list(of_pools.items())
    for first in range(0, max(1, len(items)), POOLS_AT_ONCE):
        yield items[first : first + POOLS_AT_ONCE]
