"""What is the same for all policies in one comparison."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from autoscaler.simulator.faults import Fault

Delivery = Literal["round-robin", "priority"]  # priority: the older worker first


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The promise, the workers, and how the metrics and the messages reach whom they are for.

    Times are in seconds. The promise: at most the part 1 - `quantile` of all tasks starts later than `slo`
    after its arrival.
    """

    slo: float
    quantile: float = 0.95
    concurrency: int
    boot: float  # from the creation of a worker to its first task
    boots: tuple[float, ...] = ()  # the same for one worker after the other, over and over; none: `boot`
    overhead: float = 0.0  # for which a slot is taken by each task beside what the task takes
    scrape: float = 5.0  # between two samples of the queues
    statistics: float = 0.0  # between two counts of the broker, which it tells until the next; 0: anew
    tick: float = 5.0  # between two decisions of ours; the ports have their sources' periods
    min_workers: int = 1
    max_workers: int = 60
    metric_delay: float = 0.0  # by which a sample is older than it says
    delivery: Delivery = "round-robin"
    prefetch: int = 1  # messages that a worker takes from a queue for each of its slots
    seed: int = 0
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        for name in ("slo", "scrape", "tick"):
            _check(name, getattr(self, name), getattr(self, name) > 0, "must be seconds above 0")
        for name in ("boot", "overhead", "statistics", "metric_delay"):
            _check(name, getattr(self, name), getattr(self, name) >= 0, "must be seconds, 0 or more")
        for boot in self.boots:
            _check("boots", boot, boot >= 0, "must be seconds, 0 or more")
        for name in ("concurrency", "max_workers", "prefetch"):
            _check(name, getattr(self, name), getattr(self, name) >= 1, "must be 1 or more")
        if self.delivery not in (ways := get_args(Delivery)):
            raise ValueError(f"delivery: {self.delivery!r} must be {' or '.join(ways)}")
        _check("quantile", self.quantile, 0 < self.quantile <= 1, "must be above 0 and at most 1")
        low = 0 <= self.min_workers <= self.max_workers
        _check("min_workers", self.min_workers, low, f"must be 0 to max_workers ({self.max_workers})")


def _check(name: str, value: float, good: bool, right: str) -> None:
    if not (good and math.isfinite(value)):
        raise ValueError(f"{name}: {value:g} {right}")
