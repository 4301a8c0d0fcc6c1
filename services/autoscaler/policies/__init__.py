"""The policies: each turns one observation into the number of workers that it would have."""

from collections.abc import Callable, Mapping

from autoscaler.config import Autoscale
from autoscaler.model import Estimate, Observation
from autoscaler.policies import threshold

POLICIES: Mapping[str, Callable[[Observation, Autoscale], Estimate]] = {"threshold": threshold.estimate}


def estimate(observation: Observation, scale: Autoscale) -> Estimate:
    """Ask the configured policy; none is asked about an observation that has a problem."""
    if observation.problem is not None:
        return Estimate(observation, reason=observation.problem, words=observation.detail)
    return POLICIES[scale.policy](observation, scale)
