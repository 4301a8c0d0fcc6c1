"""What the policy `slo` learns of a pool from tick to tick: arrivals, service times, and what a boot takes.

Tasks start in the order of their arrival, so the tasks that wait are the last ones that arrived: the curve of
all arrivals so far tells how long each of them has waited.
"""

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from autoscaler.model import Fleet, Flow, Observation, Worker
from autoscaler.policies.profile import Profile
from autoscaler.policies.rows import Rows
from autoscaler.policies.troubles import Look, Watch

ARRIVALS_SECONDS = 300.0  # over which arrivals are averaged; longer where tasks are longer
ARRIVALS_SERVICES = 5.0  # so many times as long as a task takes
RECENT_SECONDS = 60.0
CURVE_SECONDS = 3600.0  # that arrivals are remembered at most
SERVICE_HALF_SECONDS = 600.0  # in which what was learned of service times loses half of its weight
LEAST_SERVICE_SECONDS = 0.001  # where no sample finds any at work for days
SERVICE_TASKS = 20  # that are remembered in any case
BOOT_SECONDS = 20.0  # until one was seen
BACK_SECONDS = 60.0  # in which workers take again what a lost broker has put back
# without a look, after which nobody knows when a worker became ready; more than the longest tick
GAP_SECONDS = 90.0
BOOTS = 20  # the last so many count
BOOT_PART = 0.9  # of all boots take no longer than what is reckoned with
NO_CURVE = Rows(2)


@dataclass(frozen=True, slots=True)
class Line:
    """One queue and its tasks; totals count from when it was first seen, times are the steady clock's."""

    waiting: float = 0.0  # tasks that no slot has begun with
    busy: float = 0.0  # slots that are at work on its tasks
    ended: float = 0.0
    told: float = math.nan  # what the flow's own total was
    curve: Rows = NO_CURVE  # when, and how many had arrived until then; at each sample
    busy_seconds: float = 0.0  # decays, as do
    tasks: float = 0.0  # the tasks that ended within

    @property
    def seen(self) -> float:
        """When it was last sampled."""
        return self.curve[-1][0] if self.curve else -math.inf

    @property
    def window(self) -> float:
        """The seconds over which arrivals are averaged; what takes long has to be watched for longer."""
        return min(max(ARRIVALS_SECONDS, ARRIVALS_SERVICES * self.service), CURVE_SECONDS)

    @property
    def service(self) -> float:
        """Seconds that a task takes: all slots' busy time by the tasks that ended.

        With exponential times this is the likeliest mean, however many still run. Epstein and Sobel, Life
        Testing, Journal of the American Statistical Association 48, 1953.
        """
        return max(LEAST_SERVICE_SECONDS, self.busy_seconds / self.tasks)

    def rate(self, seconds: float) -> float:
        """Arrivals a second over the last so many, or since it is watched.

        A burst in the first seconds of the watch is no rate yet: it counts as if over a minute.
        """
        now, arrived = self.curve[-1]
        since, before = self.curve[self.curve.first(now - seconds)]
        return (arrived - before) / max(now - since, min(seconds, RECENT_SECONDS))

    def ages(self, now: float) -> Iterator[tuple[float, float]]:
        """How long tasks have waited, and how many of them so long; the longest first."""
        times, arrived = self.curve.column(0), self.curve.column(1)
        counted = arrived[-1] - self.waiting
        for number in range(bisect_right(arrived, counted), len(arrived)):
            if arrived[number] > counted:
                # Those of the first sample are older than what is remembered.
                yield now - times[max(0, number - 1)], arrived[number] - counted
                counted = arrived[number]


@dataclass(frozen=True, slots=True)
class Memory:
    """All that is learned of one pool."""

    lines: Mapping[str, Line] = field(default_factory=dict)
    boots: tuple[float, ...] = ()  # seconds, of the last workers that came
    coming: Mapping[str, float] = field(default_factory=dict)  # workers that are not ready yet: when created
    known: frozenset[str] | None = None  # the workers of the last look
    ready: frozenset[str] = frozenset()  # those of them that were ready
    lost: float = -math.inf  # when workers that were ready lost their broker, and what they had
    had: Mapping[str, float] = field(default_factory=dict)
    profile: Profile = field(default_factory=Profile)
    watch: Watch = field(default_factory=Watch)
    full_since: float | None = None  # while there are no metrics: when every slot began to be busy
    ticked: float = math.nan  # when it was last learned from
    looked: float = math.nan  # and when there was a tick, with metrics or without
    interval: float = 0.0  # seconds between the last two ticks

    @property
    def boot(self) -> float:
        """Seconds from the creation of a worker to its first task that most do not exceed."""
        if not self.boots:
            return BOOT_SECONDS
        return sorted(self.boots)[math.ceil(BOOT_PART * len(self.boots)) - 1]


def put_back(memory: Memory, now: float) -> Mapping[str, float]:
    """How many tasks of each queue wait only because their workers lost the broker a moment ago.

    They go back to the head of the queue, and those who come back take as many: they are as good as at work.
    """
    if now - memory.lost > BACK_SECONDS:
        return {}
    return {
        name: max(0.0, min(memory.had.get(name, 0.0) - line.busy, line.waiting))
        for name, line in memory.lines.items()
    }


def learn(memory: Memory, seen: Observation, prior: float, now: float) -> Memory:
    """Take in one observation without a problem; `prior` are the seconds that a task may take."""
    flows = {flow.queue: flow for flow in seen.flows}
    numbers: dict[str, dict[str, float]] = {}
    for signal in seen.signals:
        numbers.setdefault(signal.queue, {})[signal.name] = signal.value
    taken = math.fsum(one.get("unacknowledged", 0.0) for one in numbers.values())
    # Workers may hold more messages than they have slots: what no slot has begun with, waits.
    part = min(1.0, _slots(seen.fleet) / taken) if taken else 1.0
    lines = {}
    for name, one in numbers.items():
        line = memory.lines.get(name) or Line(busy_seconds=prior, tasks=1.0)
        busy = part * one.get("unacknowledged", 0.0)
        waiting = math.fsum(one.values()) - busy
        lines[name] = _sample(line, waiting, busy, flows.get(name, Flow(name)), now - seen.age_seconds)
    work = math.fsum(
        (line.curve[-1][1] - memory.lines[name].curve[-1][1]) * line.service
        for name, line in lines.items()
        if name in memory.lines
    )
    profile = memory.profile if math.isnan(seen.at) else memory.profile.add(seen.at, work)
    gap = now - memory.ticked  # NaN at first
    if seen.fleet.unknown or not gap <= GAP_SECONDS:
        memory = replace(memory, known=None, coming={})
    step = now - memory.looked
    interval = step if 0 < step <= GAP_SECONDS else memory.interval
    return replace(
        memory if seen.fleet.unknown else _watch_broker(_watch_boots(memory, seen), seen, now),
        lines=lines,
        profile=profile,
        watch=memory.watch.add(_look(lines.values(), seen.fleet, now)),
        full_since=None,
        ticked=now,
        looked=now,
        interval=interval,
    )


def recall(looks: Iterable[tuple[float, Observation]], prior: float) -> Memory | None:
    """Learn from what was before anybody watched; times are the steady clock's. None if nothing is known.

    Who worked then is not known. The totals of who watches from now on begin anew, and so do troubles, which
    are of workers.
    """
    memory = None
    for now, seen in looks:
        memory = learn(memory or Memory(), replace(seen, fleet=Fleet(unknown="not watched")), prior, now)
    if memory is None:
        return None
    lines = {name: replace(line, told=math.nan) for name, line in memory.lines.items()}
    return replace(memory, lines=lines, watch=Watch())


def _look(lines: Collection[Line], fleet: Fleet, now: float) -> Look:
    return Look(
        now,
        fleet.slots * sum(worker.ready for worker in fleet.serving),
        math.fsum(line.waiting for line in lines),
        math.fsum(line.busy for line in lines),
        math.fsum(line.ended for line in lines),
    )


def _slots(fleet: Fleet) -> float:
    if fleet.unknown and not fleet.workers:
        return math.inf  # all that is unacknowledged is taken to be at work
    return fleet.slots * len(fleet.serving) + sum(worker.active for worker in fleet.draining)


def _sample(line: Line, waiting: float, busy: float, flow: Flow, at: float) -> Line:
    if at <= line.seen:
        return line  # the same sample as at the last tick
    seconds = at - line.seen if line.curve else 0.0
    busy_seconds = (line.busy + busy) / 2 * seconds
    if math.isnan(flow.ended) or math.isnan(line.told):
        # Nobody counts: then as many as the time that slots were busy is good for.
        ended, learned = busy_seconds / line.service, False
    else:
        ended, learned = max(0.0, flow.ended - line.told), True
    arrived = line.ended + ended + waiting + busy
    window = line.window
    first = line.curve.first(at - window)
    before = line.curve[-1][1] if first < len(line.curve) else 0.0
    sampled = replace(
        line,
        waiting=waiting,
        busy=busy,
        ended=line.ended + ended,
        told=flow.ended,
        # Expired or purged messages leave without an end; arrivals never fall for that.
        curve=line.curve.add((at, max(arrived, before)), first),
    )
    if not learned:
        return sampled
    # After days without a sample the weights would be nothing, and their quotient no number.
    age = min(seconds, CURVE_SECONDS)
    kept = 0.5 ** (age / SERVICE_HALF_SECONDS) if line.tasks > SERVICE_TASKS else 1.0
    return replace(
        sampled, busy_seconds=kept * line.busy_seconds + busy_seconds, tasks=kept * line.tasks + ended
    )


def _watch_broker(memory: Memory, seen: Observation, now: float) -> Memory:
    """See who was ready before and is not now; `memory` has the queues as they were before."""
    serving = seen.fleet.serving
    lost = [worker for worker in serving if not worker.ready and worker.name in memory.ready]
    ready = frozenset(worker.name for worker in serving if worker.ready)
    # Mostly these are the same names as before.
    memory = memory if ready == memory.ready else replace(memory, ready=ready)
    if not lost:
        return memory
    most = float(seen.fleet.slots * len(lost))
    had = {name: min(line.busy, most) for name, line in memory.lines.items()}
    if now - memory.lost <= BACK_SECONDS:  # others were the first to notice
        had = {name: max(memory.had.get(name, 0.0), busy) for name, busy in had.items()}
        return replace(memory, had=had)
    return replace(memory, lost=now, had=had)


def _watch_boots(memory: Memory, seen: Observation) -> Memory:
    workers = seen.fleet.workers
    names = frozenset(worker.name for worker in workers)
    boots = tuple(max(0.0, seen.at - w.started) for w in workers if _is_new(w, memory))
    if math.isnan(seen.at):
        boots = ()
    coming = {w.name: w.started for w in workers if not w.ready and w.draining_seconds is None}
    # One that was ready before and is not now has lost its broker, and does not boot.
    again = {name for name in coming if memory.known and name in memory.known - memory.coming.keys()}
    # Nor is it known at a first look whether one that is not young was ready before.
    old = {name for name, created in coming.items() if seen.at - created > GAP_SECONDS}
    again |= old if memory.known is None else set()
    coming = {name: created for name, created in coming.items() if name not in again}
    known = memory.ready if names == memory.ready else names  # one for both
    return replace(memory, boots=(*memory.boots, *boots)[-BOOTS:], coming=coming, known=known)


def _is_new(worker: Worker, memory: Memory) -> bool:
    """Whether it became ready since the last look."""
    if not worker.ready or memory.known is None:
        return False
    return worker.name in memory.coming or worker.name not in memory.known
