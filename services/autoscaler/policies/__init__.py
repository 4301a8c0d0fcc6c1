"""The policies: each turns what is seen of a pool into the number of workers that it would have."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from autoscaler.config import Autoscale
from autoscaler.model import Estimate, Observation, Reason
from autoscaler.policies import slo, threshold
from autoscaler.policies.answers import hold

# (memory, seen, scale, now) -> (what it asks for, its new memory); now is in seconds of a steady clock
Policy = Callable[[Any, Observation, Autoscale, float], tuple[Estimate, Any]]

# (what was seen at moments of that clock, scale) -> the memory of one who had watched; None: nothing is known
Recall = Callable[[Iterable[tuple[float, Observation]], Autoscale], Any]

POLICIES: Mapping[str, Policy] = {"slo": slo.estimate, "threshold": threshold.estimate}
MISSING = frozenset({Reason.QUERY_ERROR, Reason.HOLD_STALE_METRICS})
RECALLS: Mapping[str, Recall] = {"slo": slo.recall}  # of those that learn


def estimate(memory: Any, seen: Observation, scale: Autoscale, now: float) -> tuple[Estimate, Any]:
    """Ask the configured policy; where the metrics have a problem, only whether it knows without them."""
    if seen.problem in MISSING and scale.policy == "slo" and not seen.fleet.unknown:
        return slo.blind(memory, seen, now)
    if seen.problem is not None:
        return hold(seen), memory
    return POLICIES[scale.policy](memory, seen, scale, now)
