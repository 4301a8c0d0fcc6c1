"""The policy `threshold`: as many workers as the backlog fills, between two thresholds."""

import math
from typing import Any

from autoscaler.config import Autoscale
from autoscaler.model import Action, Estimate, Observation, Reason


def estimate(memory: Any, observation: Observation, scale: Autoscale, _now: float) -> tuple[Estimate, Any]:
    """Up when B > up x target x N, down when B < down x target x N, with B the backlog, N the workers."""
    backlog = observation.backlog
    wanted = observation.fleet.wanted
    target = scale.target_backlog_per_worker
    workers = math.ceil(backlog / target)
    up_above = scale.up_threshold * target * wanted
    down_below = scale.down_threshold * target * wanted
    if backlog > up_above and workers > wanted:
        action, reason = Action.UP, Reason.DRAIN_BACKLOG
        compared = f"above {up_above:g} = {scale.up_threshold:g} x {target:g} x {wanted}"
    elif backlog < down_below:
        action, reason = Action.DOWN, Reason.IDLE
        compared = f"below {down_below:g} = {scale.down_threshold:g} x {target:g} x {wanted}"
    else:
        action, reason = Action.HOLD, Reason.DEADBAND
        compared = f"between {down_below:g} and {up_above:g}"
    words = f"backlog {backlog:g} is {compared}; ceil({backlog:g} / {target:g}) = {workers}"
    terms = {"backlog": backlog, "upAbove": up_above, "downBelow": down_below, "wanted": wanted}
    return Estimate(observation, workers, action, reason, words, terms), memory
