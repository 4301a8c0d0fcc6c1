"""The Kubernetes HorizontalPodAutoscaler (autoscaling/v2), following one external metric.

The metric is the backlog with an AverageValue target per worker, as `GetExternalPerPodMetricReplicas` and
`normalizeDesiredReplicasWithBehaviors` of its controller treat it.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from autoscaler.config import Autoscale
from autoscaler.model import Estimate, Observation, Reason
from autoscaler.policies.answers import hold, towards

TOLERANCE = 0.1
UNLIMITED = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """How far the number may move within a period: by so many pods, or by so many percent."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_seconds: float


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """How the number moves in one direction."""

    policies: tuple[ScalingPolicy, ...]
    stabilization_window_seconds: float = 0
    select_policy: Literal["Max", "Min", "Disabled"] = "Max"


@dataclass(frozen=True, slots=True)
class Behavior:
    """The field `behavior` of an HPA; what is not given is Kubernetes' default."""

    scale_up: ScalingRules = ScalingRules((ScalingPolicy("Percent", 100, 15), ScalingPolicy("Pods", 4, 15)))
    scale_down: ScalingRules = ScalingRules((ScalingPolicy("Percent", 100, 15),), 300)


DEFAULT = Behavior()
TUNED = Behavior(
    scale_up=ScalingRules((ScalingPolicy("Pods", UNLIMITED, 15),)),
    scale_down=replace(DEFAULT.scale_down, stabilization_window_seconds=120),
)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the controller keeps of each HPA; every entry is a time and a number."""

    recommendations: tuple[tuple[float, int], ...] = ()  # what the metric called for
    changes: tuple[tuple[float, int], ...] = ()  # by how much the number was changed


def estimate(
    memory: Memory | None, seen: Observation, scale: Autoscale, now: float, behavior: Behavior = DEFAULT
) -> tuple[Estimate, Memory]:
    """Ask for what one sync of the controller would set; without a metric it leaves the number alone."""
    current = seen.fleet.wanted
    memory = memory or Memory(recommendations=((now, current),))
    allowed = min(max(current, scale.min_workers), scale.max_workers)
    if allowed != current:  # the controller does not even look at the metric
        words = f"{current} is outside {scale.min_workers} to {scale.max_workers}"
        asked = towards(seen, allowed, words, {})
        return asked, _remember(memory, (), allowed - current, behavior, now)
    if seen.problem is not None:
        return hold(seen), memory
    metric, target = seen.backlog, scale.target_backlog_per_worker
    wanted = recommend(metric, target, current)
    stabilized = _stabilize(memory, current, wanted, behavior, now)
    limited = _limit_rate(memory, current, stabilized, behavior, now)
    workers = min(max(limited, scale.min_workers), scale.max_workers)
    words = (
        f"backlog {metric:g} / {target:g} a worker calls for {wanted}; within the window {stabilized},"
        f" within the rate {limited}"
    )
    terms = {"backlog": metric, "recommended": wanted, "stabilized": stabilized, "limited": limited}
    reason = Reason.DEADBAND if wanted == current else Reason.STABILIZING
    asked = towards(seen, workers, words, terms, reason)
    return asked, _remember(memory, ((now, wanted),), workers - current, behavior, now)


def recommend(metric: float, target: float, current: int) -> int:
    """Divide the metric by the target per worker, but stay if what is there is within the tolerance."""
    if current and 1 - TOLERANCE <= metric / (target * current) <= 1 + TOLERANCE:
        return current
    return math.ceil(metric / target)


def _stabilize(memory: Memory, current: int, wanted: int, behavior: Behavior, now: float) -> int:
    """Go up to the least, and down to the most, that was called for within the window of that direction."""
    up_since = now - behavior.scale_up.stabilization_window_seconds
    down_since = now - behavior.scale_down.stabilization_window_seconds
    least = min([wanted, *(number for when, number in memory.recommendations if when > up_since)])
    most = max([wanted, *(number for when, number in memory.recommendations if when > down_since)])
    return min(max(current, least), most)


def _limit_rate(memory: Memory, current: int, wanted: int, behavior: Behavior, now: float) -> int:
    """Move no further from the number at the start of each policy's period than the policies allow."""
    up = wanted > current
    rules = behavior.scale_up if up else behavior.scale_down
    if wanted == current or rules.select_policy == "Disabled":
        return current
    limits = [_limit(policy, memory, current, up, now) for policy in rules.policies]
    limit = max(limits) if up == (rules.select_policy == "Max") else min(limits)
    return min(wanted, max(limit, current)) if up else max(wanted, min(limit, current))


def _limit(policy: ScalingPolicy, memory: Memory, current: int, up: bool, now: float) -> int:
    since = now - policy.period_seconds
    start = current - sum(change for when, change in memory.changes if when > since)
    if policy.kind == "Pods":
        return start + policy.value if up else start - policy.value
    # Rounded up on the way up, else one pod would never become two.
    return math.ceil(start * (1 + policy.value / 100)) if up else int(start * (1 - policy.value / 100))


def _remember(
    memory: Memory, recommended: tuple[tuple[float, int], ...], change: int, behavior: Behavior, now: float
) -> Memory:
    both = (behavior.scale_up, behavior.scale_down)
    window = max(rules.stabilization_window_seconds for rules in both)
    period = max((policy.period_seconds for rules in both for policy in rules.policies), default=0)
    recommendations = tuple(one for one in memory.recommendations if one[0] > now - window)
    changes = tuple(one for one in memory.changes if one[0] > now - period)
    return Memory(recommendations + recommended, (*changes, (now, change)) if change else changes)
