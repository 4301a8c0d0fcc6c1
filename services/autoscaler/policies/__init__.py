"""The policies: each turns what is seen of a pool into the number of workers that it would have."""

from collections.abc import Callable, Mapping
from typing import Any

from autoscaler.config import Autoscale
from autoscaler.model import Estimate, Observation
from autoscaler.policies import slo, threshold
from autoscaler.policies.answers import hold

# (memory, seen, scale, now) -> (what it asks for, its new memory); now is in seconds of a steady clock
Policy = Callable[[Any, Observation, Autoscale, float], tuple[Estimate, Any]]

POLICIES: Mapping[str, Policy] = {"slo": slo.estimate, "threshold": threshold.estimate}


def estimate(memory: Any, seen: Observation, scale: Autoscale, now: float) -> tuple[Estimate, Any]:
    """Ask the configured policy; none is asked about an observation that has a problem."""
    if seen.problem is not None:
        return hold(seen), memory
    return POLICIES[scale.policy](memory, seen, scale, now)
