"""What several policies answer with."""

from collections.abc import Mapping

from autoscaler.model import Action, Estimate, Observation, Reason


def hold(seen: Observation) -> Estimate:
    """Ask for nothing, as the observation has a problem."""
    return Estimate(seen, reason=seen.problem or Reason.HOLD_STALE_METRICS, words=seen.detail)


def towards(
    seen: Observation,
    workers: int,
    words: str,
    terms: Mapping[str, float],
    otherwise: Reason = Reason.DEADBAND,
) -> Estimate:
    """Ask for a number; `otherwise` says why, if it is the number that is wanted already."""
    wanted = seen.fleet.wanted
    if workers > wanted:
        return Estimate(seen, workers, Action.UP, Reason.DRAIN_BACKLOG, words, terms)
    if workers < wanted:
        return Estimate(seen, workers, Action.DOWN, Reason.IDLE, words, terms)
    return Estimate(seen, workers, Action.HOLD, otherwise, words, terms)
