"""From what a policy asks for to how many workers there shall be, and which; the same for all policies."""

from dataclasses import replace

from autoscaler.config import Autoscale
from autoscaler.model import Action, Decision, Estimate, Fleet, Reason, State

DOWN_WINDOW_SECONDS = 60.0  # where neither the configuration nor the policy says one


def decide(state: State, estimate: Estimate, scale: Autoscale, now: float) -> tuple[Decision, State]:
    """Decide for one pool at one tick. `now` is in seconds of the steady clock that `state` is in.

    The number never falls without fresh data over the whole down window, falls at most once in a cooldown,
    and stays within the minimum and maximum, except that a hold keeps what is there.
    """
    fleet = estimate.observation.fleet
    wanted = fleet.wanted
    state = watch(state, estimate, scale, now)
    number, reason, why = _number(state, estimate, wanted, scale, now)
    if fleet.manual_seconds is not None and fleet.manual_seconds < scale.manual_hold_seconds:
        number, reason, why = _kept(fleet, estimate, scale, (number, reason, why))
    words = f"{estimate.words}; {why}" if estimate.words else why
    action = Action.UP if number > wanted else Action.DOWN if number < wanted else Action.HOLD
    if obstacle := fleet.obstacle(action):
        # Workers that drain may be recalled all the same: they are there.
        number = min(number, wanted + len(fleet.draining)) if action is Action.UP else wanted
        but = "" if action is Action.HOLD else f", but {number} for now"
        reason, words = obstacle.reason, f"{obstacle.words}; {words}{but}"
    if number > wanted:
        return _more(fleet, number - wanted, reason, words), state
    if number < wanted:
        # An idle worker goes at once; of two alike the newer, as it has warmed up less.
        victims = sorted(fleet.serving, key=lambda w: (w.ready, w.active, w.reserved, -w.started))
        drain = tuple(worker.name for worker in victims[: wanted - number])
        return Decision(number, Action.DOWN, reason, words, drain=drain), replace(state, stepped_down=now)
    late = [w for w in fleet.draining if (w.draining_seconds or 0) > scale.drain_timeout_seconds]
    if late:
        why = f"{len(late)} did not become empty within {scale.drain_timeout_seconds:g} s and go on"
        names = tuple(worker.name for worker in late)
        decision = Decision(number + len(late), Action.UP, Reason.RECALLED, f"{words}; {why}", recall=names)
        return decision, replace(state, stepped_down=now)  # so that they are not drained again at once
    return Decision(number, Action.HOLD, reason, words), state


def watch(state: State, estimate: Estimate, scale: Autoscale, now: float) -> State:
    """Remember what was asked for; a gap in the data begins a new watch."""
    if estimate.workers is None:
        return state
    gap = bool(state.asked) and now - state.asked[-1][0] > scale.metric_max_age_seconds
    if gap or not state.asked:
        return replace(state, asked=((now, estimate.workers),), watched_since=now, after_gap=gap)
    window = down_window(estimate, scale)
    # What is no more than now is no longer the most, whatever comes.
    kept = [(when, asked) for when, asked in state.asked if now - when <= window and asked > estimate.workers]
    return replace(state, asked=(*kept, (now, estimate.workers)))


def down_window(estimate: Estimate, scale: Autoscale) -> float:
    """Over how many seconds the most that was asked for counts on the way down."""
    if scale.down_window_seconds is not None:
        return scale.down_window_seconds
    return DOWN_WINDOW_SECONDS if estimate.window_seconds is None else estimate.window_seconds


def _number(
    state: State, estimate: Estimate, wanted: int, scale: Autoscale, now: float
) -> tuple[int, Reason, str]:
    low, high, asked = scale.min_workers, scale.max_workers, estimate.workers
    if asked is None:
        if wanted < low:
            return low, Reason.AT_MIN, f"{wanted} is below the minimum {low}"
        return wanted, estimate.reason, f"hold {wanted}"
    if estimate.action is Action.UP and wanted < high:
        number = min(max(asked, low), high)
        return number, estimate.reason, f"from {wanted} to {number}, within {low} to {high}"
    if wanted < low:
        return low, Reason.AT_MIN, f"{wanted} is below the minimum {low}"
    if wanted <= high and estimate.action is not Action.DOWN:
        reason = Reason.AT_MAX if estimate.action is Action.UP else estimate.reason
        return wanted, reason, f"hold {wanted}, within {low} to {high}"
    if wanted == low:
        return wanted, Reason.AT_MIN, f"{wanted} is the minimum"
    watched = now - state.watched_since
    window = down_window(estimate, scale)
    if watched < window:
        reason = Reason.STABILIZING if state.after_gap else Reason.RESTART_HOLD
        return wanted, reason, f"watched for {watched:g} of {window:g} s"
    most = max(number for _, number in state.asked)
    number = min(max(most, low), high)
    if number >= wanted:
        return wanted, Reason.STABILIZING, f"{most} were asked for within {window:g} s"
    if now - state.stepped_down < scale.cooldown_seconds:
        since = now - state.stepped_down
        return wanted, Reason.COOLDOWN, f"the last step down is {since:g} of {scale.cooldown_seconds:g} s ago"
    reason = estimate.reason if wanted <= high else Reason.AT_MAX
    return number, reason, f"from {wanted} to {number}, the most of the last {window:g} s"


def _kept(
    fleet: Fleet, estimate: Estimate, scale: Autoscale, otherwise: tuple[int, Reason, str]
) -> tuple[int, Reason, str]:
    """Keep the number that somebody else has set, as far as the limits let it be; then none drains."""
    low, high, there = scale.min_workers, scale.max_workers, len(fleet.workers)
    if there < low:
        return low, Reason.AT_MIN, f"{there} is below the minimum {low}"
    number, reason, why = otherwise
    if there > high:  # by the usual way, so that it is seen first whether they are needed
        return max(number, high), reason, f"{why}; no fewer than {high}, as somebody else has set {there}"
    ago, hold = fleet.manual_seconds or 0.0, scale.manual_hold_seconds
    # What is wrong with the data is told before.
    reason = estimate.reason if estimate.workers is None else Reason.MANUAL_HOLD
    return there, reason, f"somebody else has set {there} {ago:.0f} s ago, which is kept for {hold:g} s"


def _more(fleet: Fleet, missing: int, reason: Reason, words: str) -> Decision:
    """Recall draining workers first: they are warm, and a new one takes seconds to come."""
    latest_first = sorted(fleet.draining, key=lambda w: w.draining_seconds or 0)
    recall = tuple(worker.name for worker in latest_first[:missing])
    start = missing - len(recall)
    if recall:
        reason, words = Reason.RECALLED, f"{words}; {len(recall)} recalled, {start} new"
    number = fleet.wanted + missing
    return Decision(number, Action.UP, reason, words, start=start, recall=recall)
