"""Drives one policy as the simulator does, with a fleet that is there at once."""

import math
from collections.abc import Sequence
from typing import Any

from autoscaler.config import Autoscale
from autoscaler.decide import decide
from autoscaler.model import Estimate, Fleet, Observation, Reason, Signal, State, Worker
from autoscaler.policies import Policy


def observe(
    backlog: float | None, workers: int, ready: int | None = None, oldest: float = math.nan
) -> Observation:
    """See a backlog, or None: no fresh series."""
    there = range(workers)
    count = workers if ready is None else ready
    fleet = Fleet(tuple(Worker(f"w{n}", started=n, ready=n < count) for n in there))
    if backlog is None:
        return Observation((), Reason.HOLD_STALE_METRICS, "no fresh series", fleet)
    return Observation((Signal("default", "ready", backlog, 1.0),), fleet=fleet, oldest_seconds=oldest)


def ported(target: float = 10, low: int = 1, high: int = 1000) -> Autoscale:
    """The limits and the target, and no windows of our own."""
    return Autoscale(
        min_workers=low,
        max_workers=high,
        target_backlog_per_worker=target,
        down_window_seconds=0,
        cooldown_seconds=0,
    )


class Pool:
    """One pool under one policy, looked at again and again."""

    def __init__(self, policy: Policy, scale: Autoscale, workers: int) -> None:
        self.policy, self.scale, self.workers = policy, scale, workers
        self.memory: Any = None
        self.asked: Estimate | None = None
        self._state = State()

    def at(self, now: float, backlog: float | None, **seen: Any) -> int:
        """Decide once; the workers are there at once."""
        observation = observe(backlog, self.workers, **seen)
        self.asked, self.memory = self.policy(self.memory, observation, self.scale, now)
        decision, self._state = decide(self._state, self.asked, self.scale, now)
        self.workers = decision.workers
        return self.workers

    def course(self, backlogs: Sequence[float | None], every: float, start: float = 0) -> list[int]:
        """Decide once for each backlog."""
        return [self.at(start + every * index, backlog) for index, backlog in enumerate(backlogs)]
