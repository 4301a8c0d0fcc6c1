"""KEDA's ScaledObject with a Prometheus trigger: it goes between 0 and 1 itself, from there on an HPA does.

The trigger reads the backlog with `ignoreNullValues`: no sample is as good as zero. If Prometheus does not
answer at all, KEDA has an error and, as without a `fallback`, nothing moves.
"""

import math
from dataclasses import dataclass, replace

import msgspec

from autoscaler.config import Autoscale
from autoscaler.model import Estimate, Observation, Reason
from autoscaler.policies import hpa
from autoscaler.policies.answers import hold, towards

POLLING_SECONDS = 30.0
COOLDOWN_SECONDS = 300.0
ACTIVATION = 0.0


@dataclass(frozen=True, slots=True)
class Memory:
    """What the operator keeps of a ScaledObject, and the HPA that it made."""

    synced: hpa.Memory | None = None
    polled: float = -math.inf
    active: float = -math.inf  # when the trigger was last active


def estimate(
    memory: Memory | None, seen: Observation, scale: Autoscale, now: float
) -> tuple[Estimate, Memory]:
    """Ask for what the operator's poll sets, else for what the HPA does; call it at each sync of the HPA."""
    memory = memory or Memory()
    seen = _null_as_zero(seen, scale.metric_max_age_seconds)
    current = seen.fleet.wanted
    if now - memory.polled >= POLLING_SECONDS:
        memory = replace(memory, polled=now)
        if seen.problem is None and seen.backlog > ACTIVATION:
            memory = replace(memory, active=now)
            if current == 0:
                return _set(seen, max(1, scale.min_workers), "the trigger is active"), memory
        elif seen.problem is None and scale.min_workers == 0 and now - memory.active > COOLDOWN_SECONDS:
            return _set(seen, 0, f"the trigger was not active for {COOLDOWN_SECONDS:g} s"), memory
    if current == 0:  # an HPA whose minimum is 1 is switched off at zero
        if seen.problem is not None:
            return hold(seen), memory
        return _set(seen, 0, "at zero until a poll finds the trigger active"), memory
    least = msgspec.structs.replace(scale, min_workers=max(1, scale.min_workers))
    asked, kept = hpa.estimate(memory.synced, seen, least, now)
    return asked, replace(memory, synced=kept)


def _null_as_zero(seen: Observation, oldest_seconds: float) -> Observation:
    """Leave out what Prometheus would not answer with: a series that is stale, or that is no number."""
    if seen.problem is not Reason.HOLD_STALE_METRICS:
        return seen
    fresh = (one for one in seen.signals if one.age_seconds <= oldest_seconds and math.isfinite(one.value))
    return replace(seen, signals=tuple(fresh), problem=None, detail="")


def _set(seen: Observation, workers: int, words: str) -> Estimate:
    return towards(seen, workers, words, {"backlog": seen.backlog})
