"""The policy `slo`: the fewest workers with which a part of all tasks starts within a promise, in seconds.

It reckons in slots, in three numbers: the greater of the first two counts, but never more than the third.

keep   for tasks as they arrive. Erlang's C gives the slots with which too many wait too long for no more than
       the part that may. Long tasks do better by what is at work now: until a worker that is ordered now
       serves, each task of today ends with the probability 1 - exp(-seconds / service), and others arrive;
       while a task may still wait, a slot gets free for it, or a worker that is ordered later is in time.
       A backlog that stands is worked off on top of it, within twice the promise. The further a promise is
       below what a boot takes, the nearer this comes to a slot for every task that is there.
plan   for those that wait. Each has a deadline, its arrival + the promise; slots that are there work from
       now on, those that boot from when they come, new ones a boot later. A slot starts with a task at once,
       and with one more in each service time. The fewest new slots with which all deadlines are met.
cap    what can be there to do: waiting, at work, and arriving until new workers serve.

What came at this time on the days before is a floor under all of it.

Down it goes to the most of a window that follows from what a boot costs, as an idle worker soon costs as much
as its boots; it stays for longer where the promise leaves no time to get it back. And only if slots are to
spare: the number of tasks spreads about its mean by the root of it, and is soon back.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from autoscaler.config import Autoscale
from autoscaler.model import Action, Estimate, Observation, Reason, Worker
from autoscaler.policies import learning
from autoscaler.policies.answers import hold
from autoscaler.policies.learning import RECENT_SECONDS, Memory, learn, put_back
from autoscaler.policies.queueing import slots_for
from autoscaler.policies.troubles import STALLED_SECONDS

RELAXED = 0.5  # the part that may wait too long where there is time to order more, then
STANDING = 0.5  # of the promise: a backlog that is worked off in less may stand
WORK_OFF = 2.0  # promises within which the rest of it goes
BOOTS_IDLE = 3.5  # that a worker stays for
SPREAD = 0.25  # root mean numbers of tasks that slots are to spare before there are fewer
LENIENT = 1.0  # seconds by which a promise may be too short
BLIND_STEP = 0.25  # more workers, where nothing but their own word tells that there are too few


class _Known(NamedTuple):
    """What the numbers follow from; times in seconds, numbers are of slots and tasks."""

    now: float
    boot: float
    reaction: float  # from when something happens to when a worker that is ordered for it serves
    load: float  # slots that would be busy on average
    arrivals: float  # a second, lately
    service: float  # on average over the tasks that arrive
    waiting: tuple[tuple[float, float, float], ...]  # deadline, tasks, seconds of work; by deadline
    busy: float
    slots: int  # of a worker
    present: int  # workers that serve
    coming: tuple[float, ...]  # when those serve that boot

    @property
    def stay(self) -> float:
        """The part of the tasks at work that still is when a worker that is ordered now serves."""
        return math.exp(-self.reaction / self.service) if self.service else 0.0

    @property
    def queued(self) -> float:
        """How many tasks wait."""
        return math.fsum(tasks for _, tasks, _ in self.waiting)

    @property
    def backlog(self) -> float:
        """How long all of them take, in seconds of a slot."""
        return math.fsum(work for _, _, work in self.waiting)


def estimate(
    memory: Memory | None, seen: Observation, scale: Autoscale, now: float
) -> tuple[Estimate, Memory]:
    """Ask for the number of workers that keeps `scale.slo_seconds` for `scale.slo_quantile` of all tasks."""
    memory = learn(memory or Memory(), seen, scale.expected_task_seconds, now)
    known = _known(memory, seen, scale, now)
    slack = scale.slo_seconds - known.reaction
    possible = slack > -LENIENT  # as no boot and no tick is that exact
    keep = _steady(known, scale, slack) + _standing(known, scale)
    plan = _plan(known, memory.interval)
    expected = known.arrivals * known.reaction
    cap = known.queued + known.busy + expected + math.sqrt(expected)
    floor = 0.0 if math.isnan(seen.at) else memory.profile.expected(seen.at + known.reaction)
    slots = max(min(max(keep, plan), cap), floor)
    workers = needed = _workers(slots, known)
    spare = min(slots, SPREAD * math.sqrt(known.load))
    if workers < seen.fleet.wanted:
        workers = min(seen.fleet.wanted, _workers(min(slots + spare, max(cap, floor)), known))
    window = BOOTS_IDLE * known.boot + max(0.0, known.reaction - max(0.0, slack))
    words = (
        f"{known.load:.4g} slots of work arrive, a task takes {known.service:.3g} s, a boot"
        f" {known.boot:.3g} s: keep {keep:.4g}, for those that wait {plan:.4g}, at most {cap:.4g}, by the"
        f" hour {floor:.4g} slots, {spare:.3g} more before fewer: {workers} workers"
    )
    if not possible:
        words += f"; {scale.slo_seconds:g} s cannot be promised, {known.reaction:.3g} s could"
    if workers > scale.max_workers:
        words += f"; {_at_most(known, scale)}"
    terms = {
        "keep": keep,
        "plan": plan,
        "cap": cap,
        "floor": floor,
        "spare": spare,
        "offeredLoad": known.load,
        "serviceSeconds": known.service,
        "bootSeconds": known.boot,
        "feasibleSeconds": known.reaction,
        "feasible": float(possible),
        "oldestSeconds": max((now + scale.slo_seconds - one[0] for one in known.waiting), default=0.0),
        "windowSeconds": window,
    }
    capped = cap < max(keep, plan) and workers == needed
    action, reason = _direction(workers, seen.fleet.wanted, backlog=plan > keep, capped=capped)
    if action is Action.HOLD and not possible:
        reason = Reason.SLO_INFEASIBLE
    if action is Action.UP and (stalled := memory.watch.stalled) >= STALLED_SECONDS:
        # More of what takes nothing would take nothing; tasks that arrive may still be many.
        workers = max(seen.fleet.wanted, min(workers, math.ceil(known.load / known.slots)))
        action = Action.UP if workers > seen.fleet.wanted else Action.HOLD
        reason = Reason.STALLED_CONSUMERS
        words += f"; no worker has taken a task for {stalled:.0f} s, though some are ready and tasks wait"
    elif action is Action.UP and memory.watch.useless:
        reason = Reason.EFFICACY_LIMITED
        words += "; half as many workers more have not ended more tasks: what they call may be slow"
        if scale.hold_when_useless:
            workers, action = seen.fleet.wanted, Action.HOLD
    return Estimate(seen, workers, action, reason, words, terms, window), memory


def blind(memory: Memory | None, seen: Observation, now: float) -> tuple[Estimate, Memory]:
    """Go by what the workers say while there are no metrics; they can only say that they are too few.

    When every slot has been busy for as long as a worker takes to come, there will be a quarter more of them.
    """
    memory = replace(memory or Memory(), looked=now)
    serving = seen.fleet.serving
    full = bool(serving) and all(one.ready and one.active >= seen.fleet.slots for one in serving)
    since = (now if memory.full_since is None else memory.full_since) if full else None
    if since is None or now - since < memory.boot + 2 * memory.interval:
        return hold(seen), replace(memory, full_since=since)
    workers = seen.fleet.wanted + math.ceil(BLIND_STEP * len(serving))
    words = f"{seen.detail}; but every slot has been busy for {now - since:.0f} s, the workers say"
    asked = Estimate(seen, workers, Action.UP, Reason.FALLBACK_REPLICAS, words)
    return asked, replace(memory, full_since=now)


def recall(looks: Iterable[tuple[float, Observation]], scale: Autoscale) -> Memory | None:
    """Learn from what was, without workers, at moments of the steady clock; None if nothing is known."""
    return learning.recall(looks, scale.expected_task_seconds)


def _workers(slots: float, known: _Known) -> int:
    return math.ceil(slots / known.slots - 1e-9)


def _at_most(known: _Known, scale: Autoscale) -> str:
    """What can be kept with as many workers as are allowed."""
    slots = scale.max_workers * known.slots
    seconds = known.backlog / slots
    longer = ", and ever longer" if known.load >= slots else ""
    return f"with {scale.max_workers} of them what comes now starts in about {seconds:.3g} s{longer}"


def _direction(workers: int, wanted: int, *, backlog: bool, capped: bool) -> tuple[Action, Reason]:
    if workers > wanted:
        return Action.UP, Reason.DRAIN_BACKLOG if backlog else Reason.KEEP_UP
    if workers < wanted:
        return Action.DOWN, Reason.IDLE
    return Action.HOLD, Reason.CAPPED_BY_WORK if capped else Reason.DEADBAND


def _known(memory: Memory, seen: Observation, scale: Autoscale, now: float) -> _Known:
    fleet, lines = seen.fleet, memory.lines.values()
    rates = [line.rate(line.window) for line in lines]
    load = math.fsum(rate * line.service for rate, line in zip(rates, lines, strict=True))
    arriving = math.fsum(rates)
    service = load / arriving if arriving else max(line.service for line in lines)
    back = put_back(memory, now)
    waiting = sorted(
        (now - age + scale.slo_seconds, tasks, tasks * line.service)
        for name, line in memory.lines.items()
        for age, tasks in replace(line, waiting=line.waiting - back.get(name, 0.0)).ages(now)
    )
    boot = memory.boot
    return _Known(
        now,
        boot,
        boot + 2 * memory.interval + max(0.0, seen.age_seconds - memory.interval),
        load,
        math.fsum(line.rate(RECENT_SECONDS) for line in lines),
        service,
        tuple(waiting),
        math.fsum((*(line.busy for line in lines), *back.values())),
        fleet.slots,
        sum(worker.ready for worker in fleet.serving),
        # One that is late may come at any moment.
        tuple(now + max(1.0, boot - _age(worker, seen)) for worker in fleet.serving if not worker.ready),
    )


def _age(worker: Worker, seen: Observation) -> float:
    return 0.0 if math.isnan(seen.at) else seen.at - worker.started


def _steady(known: _Known, scale: Autoscale, slack: float) -> float:
    """Slots for tasks as they arrive."""
    part = 1 - scale.slo_quantile
    relaxed = min(1.0, max(0.0, slack / known.reaction))
    part = part ** (1 - relaxed) * max(part, RELAXED) ** relaxed
    keep: float = slots_for(known.load, known.service, scale.slo_seconds, part)
    may_wait = min(max(0.0, slack), STANDING * scale.slo_seconds)
    turns = 1 + may_wait / known.service if known.service else 1.0  # tasks that a slot takes meanwhile
    urgent = math.fsum(
        tasks for deadline, tasks, _ in known.waiting if deadline <= known.now + known.reaction
    )
    there = (known.busy + urgent) * known.stay / turns
    in_time = min(keep, there + known.load * (1 - known.stay))
    # The shorter the promise, the fewer can be ordered when tasks are there: at last a slot for each of them.
    short = min(1.0, max(0.0, -slack) / scale.slo_seconds)
    tasks = known.busy + known.queued
    return (1 - short) * in_time + short * max(keep, tasks, known.arrivals * known.service)


def _standing(known: _Known, scale: Autoscale) -> float:
    """Slots that work off a backlog, beside them; long tasks count among those that are there."""
    may_stand = STANDING * scale.slo_seconds * known.slots * max(1, known.present)
    return (1 - known.stay) * max(0.0, known.backlog - may_stand) / (WORK_OFF * scale.slo_seconds)


def _plan(known: _Known, interval: float) -> float:
    if not known.waiting:
        return 0.0
    present = known.slots * known.present
    start = known.now + known.boot + interval  # of new slots
    one = known.backlog / known.queued
    idle = max(0.0, present - known.busy)
    missing = enough = due = 0.0
    for deadline, _, work in known.waiting:
        due += work
        at = max(deadline, start)
        done = present * (at - known.now) + idle * one
        done += known.slots * _by(known.coming, at, one)
        missing = max(missing, (due - done) / _good_for(at - start, one))
        # and if all were there already:
        enough = max(enough, due / (max(deadline, known.now + interval) - known.now + one))
    if missing > 0:
        return present + known.slots * len(known.coming) + missing
    return enough


def _by(starts: Iterable[float], at: float, one: float) -> float:
    """Seconds of work that slots, of which each begins with a task at once, are good for until then."""
    return math.fsum(_good_for(at - start, one) for start in starts if start < at)


def _good_for(seconds: float, one: float) -> float:
    """Seconds of work that a slot begins within so many: where all take the same time, no part of a task."""
    return one * (1 + math.floor(seconds / one))
