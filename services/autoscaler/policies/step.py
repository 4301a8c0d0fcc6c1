"""One worker more or less at a time by the age of the oldest waiting task, as Judoscale and HireFire do.

These hosted autoscalers ask the queue itself for that age, which RabbitMQ does not tell of every kind of
queue: it is `oldest_seconds` of the observation, and where that is not known the number is held.
"""

import math
from dataclasses import dataclass, replace

from autoscaler.config import Autoscale
from autoscaler.model import Estimate, Observation, Reason
from autoscaler.policies.answers import hold, towards


@dataclass(frozen=True, slots=True)
class Range:
    """The ages between which the number stays, and the least time between two steps."""

    up_above_seconds: float
    down_below_seconds: float
    up_every_seconds: float
    down_every_seconds: float = 600


@dataclass(frozen=True, slots=True)
class Memory:
    """When there were steps, and since when the age is low."""

    low_since: float | None = None
    stepped_up: float = -math.inf
    stepped_down: float = -math.inf


def estimate(
    memory: Memory | None, seen: Observation, scale: Autoscale, now: float, *, within: Range
) -> tuple[Estimate, Memory]:
    """Ask for one more if the oldest task waits too long, for one less if none did for long."""
    memory = memory or Memory()
    age = seen.oldest_seconds
    if seen.problem is not None:
        return hold(seen), memory
    if math.isnan(age):
        return hold(replace(seen, detail="the age of the oldest task is not known")), memory
    wanted = seen.fleet.wanted
    low_since = (
        None if age >= within.down_below_seconds else now if memory.low_since is None else memory.low_since
    )
    memory = replace(memory, low_since=low_since)
    workers, reason = wanted, Reason.DEADBAND
    if age > within.up_above_seconds:
        reason = Reason.COOLDOWN
        if now - memory.stepped_up >= within.up_every_seconds and wanted < scale.max_workers:
            workers, memory = wanted + 1, replace(memory, stepped_up=now)
    elif low_since is not None:
        reason = Reason.STABILIZING
        calm = now - max(low_since, memory.stepped_down)
        if calm >= within.down_every_seconds and wanted > scale.min_workers:
            workers, memory = wanted - 1, replace(memory, stepped_down=now)
    low, high = within.down_below_seconds, within.up_above_seconds
    words = f"the oldest task waits {age:g} s; {low:g} to {high:g} s is right"
    terms = {"backlog": seen.backlog, "oldestSeconds": age, "wanted": wanted}
    return towards(seen, workers, words, terms, reason), memory
