"""The simulation itself: discrete events on a virtual clock, with the live `decide()` at every tick."""

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import accumulate, count, cycle
from typing import Any

from autoscaler.decide import decide
from autoscaler.model import Decision, Fleet, Flow, Observation, Reason, Signal, State, Worker
from autoscaler.simulator.contenders import Contender
from autoscaler.simulator.faults import Crash, Outage, Restart, Slow, Stale
from autoscaler.simulator.loads import DEFAULT_QUEUE, Load
from autoscaler.simulator.setting import Setting

PATIENCE = 2 * 86400.0  # seconds after the last arrival, beside all of the work: then nothing will end

# What happens at one and the same moment, happens in this order.
FINISH, READY, ARRIVAL, KILL, FAULT, COUNT, SAMPLE, SEEN, TICK = range(9)


class NeverEnds(RuntimeError):
    """The policy leaves tasks without a worker for ever."""


@dataclass(frozen=True, slots=True)
class Life:
    """One worker; times are seconds from the start of the run."""

    created: float
    ready: float  # infinite, if it went before
    removed: float


@dataclass(frozen=True, slots=True)
class Run:
    """What happened to a load under a policy.

    `starts` are those of the attempts that ended: a task that was cut short has not begun in earnest.
    """

    starts: tuple[float, ...]
    ends: tuple[float, ...]
    attempts: tuple[int, ...]
    lives: tuple[Life, ...]
    backlog: tuple[tuple[float, int], ...]  # at each sample: ready and unacknowledged
    wanted: tuple[tuple[float, int], ...]  # from the start, and at each change
    interrupted: int
    end: float  # when the last task ended

    @property
    def workers(self) -> tuple[tuple[float, int], ...]:
        """How many workers there are after each change; one that goes as another comes, goes first."""
        changes = sorted(change for life in self.lives for change in ((life.created, 1), (life.removed, -1)))
        numbers = accumulate(change for _, change in changes)
        return tuple((when, number) for (when, _), number in zip(changes, numbers, strict=True))


class _Worker:
    """A worker as the broker and the cluster see it."""

    __slots__ = (
        "created", "draining", "heard", "held", "listed", "name", "number", "ready", "running",
        "stopping", "taken", "uid",
    )  # fmt: skip

    def __init__(self, number: int, created: float, queues: int, uid: float) -> None:
        self.number, self.name, self.created, self.uid = number, f"w{number}", created, uid
        self.ready = math.inf
        self.draining: float | None = None  # since when it takes no more tasks
        self.heard: float | None = None  # when it was told so and could hear it
        self.stopping = False  # told to end: it is none any more for whoever counts
        self.running: dict[int, None] = {}  # tasks, in the order of their start
        self.held: deque[int] = deque()  # taken, and no slot was free
        self.taken = [0] * queues  # messages of each queue that it has not acknowledged
        self.listed = [False] * queues  # where it is among those who get the next message


class _Queue:
    """A queue of the broker, with its consumers that take more."""

    __slots__ = ("arrived", "consumers", "ended", "ready", "unacknowledged")

    def __init__(self, delivery: str) -> None:
        self.ready: deque[int] = deque()
        self.unacknowledged = self.arrived = self.ended = 0
        # workers, round robin; or a heap of (number, worker)
        self.consumers: Any = [] if delivery == "priority" else deque()


@dataclass(frozen=True, slots=True)
class _Sample:
    """What the broker said of its queues, each in the order of their names."""

    at: float
    ready: tuple[int, ...]
    unacknowledged: tuple[int, ...]
    arrived: tuple[int, ...]
    ended: tuple[int, ...]
    oldest: float


@dataclass(frozen=True, slots=True)
class Phases:
    """When scrapes, ticks and counts begin: they know nothing of each other, nor of the load."""

    scrape: float
    tick: float
    statistics: float


def phases(contender: Contender, setting: Setting) -> Phases:
    """Draw them by the seed."""
    dice = random.Random(f"{setting.seed} phases")
    return Phases(
        dice.uniform(0, setting.scrape),
        dice.uniform(0, contender.period),
        dice.uniform(0, setting.statistics),
    )


def rank(ready: float, uid: float) -> tuple[bool, int, float]:
    """Order as ReplicaSets do: not ready, then ready for less time by powers of two, then by chance.

    `ready` are the seconds for which it is; below 0: it is not yet.
    """
    return (False, 0, uid) if ready < 0 else (True, int(math.log2(max(1.0, ready))), uid)


def simulate(load: Load, contender: Contender, setting: Setting) -> Run:
    """Replay a load under a policy until its last task has ended.

    At the start `min_workers` workers are ready. Raises NeverEnds if the policy gives up.
    """
    return _Simulation(load, contender, setting).run()


class _Simulation:
    def __init__(self, load: Load, contender: Contender, setting: Setting) -> None:
        self.load, self.contender, self.setting = load, contender, setting
        self.now = 0.0
        self.names = tuple(dict.fromkeys(load.queues)) or (DEFAULT_QUEUE,)
        index = {name: number for number, name in enumerate(self.names)}
        self.queue_of = [index[name] for name in load.queues] or [0] * len(load.arrivals)
        self.queues = [_Queue(setting.delivery) for _ in self.names]
        self.credit = setting.concurrency * setting.prefetch  # of each consumer: of each worker and queue
        self.starts = [math.nan] * len(load.arrivals)
        self.ends = [math.nan] * len(load.arrivals)
        self.attempts = [0] * len(load.arrivals)
        self.interrupted = 0
        self.left = len(load.arrivals)
        self.workers: dict[str, _Worker] = {}
        self.lives: dict[int, Life] = {}
        self.dice = random.Random(f"{setting.seed} workers")
        self.boots = cycle(setting.boots or (setting.boot,))
        self.numbers, self.order = count(), count()
        self.events: list[tuple[float, int, int, Any]] = []
        self.counted = self._count_now()
        self.sample: _Sample | None = None
        self.state = State()
        self.backlog: list[tuple[float, int]] = []
        self.wanted = [(0.0, setting.min_workers)]
        self.slow = sorted((f.begin, f.end, f.factor) for f in setting.faults if isinstance(f, Slow))

    def run(self) -> Run:
        """Go from event to event."""
        setting, load = self.setting, self.load
        for _ in range(setting.min_workers):
            worker = self._create()
            worker.ready = 0.0
            self._listen(worker)
        first = phases(self.contender, setting)
        self._at(first.scrape, SAMPLE, None)
        self._at(first.tick, TICK, None)
        if setting.statistics:
            self._at(first.statistics, COUNT, None)
        for fault in setting.faults:
            if isinstance(fault, (Crash, Restart)):
                self._at(fault.at, FAULT, fault)
        handlers: dict[int, Callable[[Any], None]] = {
            FINISH: self._finish,
            READY: self._boot,
            KILL: self._kill,
            FAULT: self._fault,
            COUNT: self._count,
            SAMPLE: self._sample,
            SEEN: self._see,
            TICK: self._tick,
        }
        limit = load.arrivals[-1] + load.work + PATIENCE if load.arrivals else 0.0
        arrivals = load.arrivals
        following, tasks = 0, len(arrivals)
        while self.left:
            if following < tasks and (arrivals[following], ARRIVAL) < self.events[0][:2]:
                self.now = arrivals[following]
                self._arrive(following)
                following += 1
                continue
            self.now, kind, _, subject = heappop(self.events)
            if self.now > limit:
                raise NeverEnds(f"{self.contender.name}: {self.left} tasks have no worker, for two days")
            handlers[kind](subject)
        for worker in self.workers.values():
            self._note(worker, self.now)
        lives = tuple(self.lives[number] for number in sorted(self.lives))
        return Run(
            tuple(self.starts),
            tuple(self.ends),
            tuple(self.attempts),
            lives,
            tuple(self.backlog),
            tuple(self.wanted),
            self.interrupted,
            self.now,
        )

    def _at(self, when: float, kind: int, subject: Any) -> None:
        heappush(self.events, (when, kind, next(self.order), subject))

    # messages

    def _arrive(self, task: int) -> None:
        queue = self.queue_of[task]
        self.queues[queue].ready.append(task)
        self.queues[queue].arrived += 1
        self._deliver(queue)

    def _deliver(self, number: int) -> None:
        """Give what is ready to the consumers that take more, as long as there are both."""
        queue = self.queues[number]
        ready, consumers = queue.ready, queue.consumers
        by_age = self.setting.delivery == "priority"
        while ready and consumers:
            worker = consumers[0][1] if by_age else consumers[0]
            if worker.draining is not None or worker.taken[number] >= self.credit:
                heappop(consumers) if by_age else consumers.popleft()
                worker.listed[number] = False
                continue
            if not by_age:
                consumers.rotate(-1)
            worker.taken[number] += 1
            queue.unacknowledged += 1
            task = ready.popleft()
            if len(worker.running) < self.setting.concurrency:
                self._start(worker, task)
            else:
                worker.held.append(task)

    def _listen(self, worker: _Worker) -> None:
        """Have it among the consumers of all queues, and be given what waits."""
        for number in range(len(self.queues)):
            self._list(worker, number)
            self._deliver(number)

    def _list(self, worker: _Worker, number: int) -> None:
        if worker.listed[number] or worker.draining is not None or worker.taken[number] >= self.credit:
            return
        worker.listed[number] = True
        if self.setting.delivery == "priority":
            heappush(self.queues[number].consumers, (worker.number, worker))
        else:
            self.queues[number].consumers.append(worker)

    def _start(self, worker: _Worker, task: int) -> None:
        self.starts[task] = self.now
        self.attempts[task] += 1
        worker.running[task] = None
        service = self.load.services[task]
        for begin, end, factor in self.slow:
            if begin <= self.now < end:
                service *= factor
        self._at(self.now + service + self.setting.overhead, FINISH, (worker, task))

    def _finish(self, subject: tuple[_Worker, int]) -> None:
        worker, task = subject
        if task not in worker.running:
            return  # it was cut short
        del worker.running[task]
        self.ends[task] = self.now
        self.left -= 1
        number = self.queue_of[task]
        self.queues[number].unacknowledged -= 1
        self.queues[number].ended += 1
        worker.taken[number] -= 1
        if worker.held:
            self._start(worker, worker.held.popleft())
        self._list(worker, number)
        self._deliver(number)
        if worker.stopping and not worker.running:
            self._remove(worker)

    def _return(self, worker: _Worker, tasks: list[int]) -> None:
        """Put messages back where they were, and have them delivered again."""
        for task in sorted(tasks, reverse=True):
            number = self.queue_of[task]
            worker.taken[number] -= 1
            self.queues[number].unacknowledged -= 1
            self.queues[number].ready.appendleft(task)
        for number in {self.queue_of[task] for task in tasks}:
            self._deliver(number)

    # workers

    def _create(self) -> _Worker:
        worker = _Worker(next(self.numbers), self.now, len(self.queues), self.dice.random())
        self.workers[worker.name] = worker
        return worker

    def _begin(self, workers: int) -> None:
        for _ in range(workers):
            self._at(self.now + next(self.boots), READY, self._create())

    def _boot(self, worker: _Worker) -> None:
        if worker.name in self.workers:
            worker.ready = self.now
            self._listen(worker)

    def _take_no_more(self, worker: _Worker) -> None:
        """Stop consuming, and give back what no slot has begun with."""
        worker.draining = self.now
        tasks = list(worker.held)
        worker.held.clear()
        self._return(worker, tasks)

    def _stop(self, worker: _Worker) -> None:
        """SIGTERM: it ends once its tasks have, or when the grace is over."""
        self._take_no_more(worker)
        worker.stopping = True
        if not worker.running:
            self._remove(worker)
        else:
            self._at(self.now + self.contender.grace, KILL, worker)

    def _kill(self, worker: _Worker) -> None:
        """SIGKILL: the broker gives its messages to others."""
        if worker.name not in self.workers:
            return
        worker.draining, worker.stopping = self.now, True
        tasks = [*worker.running, *worker.held]
        self.interrupted += len(worker.running)
        worker.running.clear()
        worker.held.clear()
        self._remove(worker)
        self._return(worker, tasks)

    def _remove(self, worker: _Worker) -> None:
        del self.workers[worker.name]
        self._note(worker, self.now)

    def _note(self, worker: _Worker, removed: float) -> None:
        self.lives[worker.number] = Life(worker.created, worker.ready, removed)

    def _fault(self, fault: Crash | Restart) -> None:
        if isinstance(fault, Restart):
            self.state = State()
            return
        there = [worker for worker in self.workers.values() if not worker.stopping]
        chosen = self.dice.sample(there, min(fault.workers, len(there)))
        for worker in chosen:
            self._kill(worker)
        self._begin(len(chosen))

    # the autoscaler

    def _suffers(self, kind: type[Outage | Stale]) -> bool:
        faults = self.setting.faults
        return any(isinstance(fault, kind) and fault.begin <= self.now < fault.end for fault in faults)

    def _count(self, _: None) -> None:
        """The broker looks at its queues, and says the same until it does so again."""
        self.counted = self._count_now()
        self._at(self.now + self.setting.statistics, COUNT, None)

    def _count_now(self) -> _Sample:
        queues = self.queues
        heads = [self.load.arrivals[queue.ready[0]] for queue in queues if queue.ready]
        return _Sample(
            self.now,
            tuple(len(queue.ready) for queue in queues),
            tuple(queue.unacknowledged for queue in queues),
            tuple(queue.arrived for queue in queues),
            tuple(queue.ended for queue in queues),
            self.now - min(heads) if heads else 0.0,
        )

    def _sample(self, _: None) -> None:
        """What the broker says of its queues; Prometheus has it after the delay, as of then."""
        current = self._count_now()
        self.backlog.append((self.now, sum(current.ready) + sum(current.unacknowledged)))
        if not self._suffers(Stale):
            told = self.counted if self.setting.statistics else current
            sample = replace(told, at=self.now + self.setting.metric_delay)
            self._at(sample.at, SEEN, sample)
        self._at(self.now + self.setting.scrape, SAMPLE, None)

    def _see(self, sample: _Sample) -> None:
        self.sample = sample

    def _observe(self) -> Observation:
        workers = tuple(self._seen(worker) for worker in self.workers.values() if not worker.stopping)
        fleet = Fleet(workers, slots=self.setting.concurrency)
        if self._suffers(Outage):
            return Observation((), Reason.QUERY_ERROR, "Prometheus does not answer", fleet)
        if self.sample is None:
            return Observation((), Reason.HOLD_STALE_METRICS, "no sample yet", fleet)
        sample = self.sample
        age = self.now - sample.at
        signals = []
        for name, waiting, taken in zip(self.names, sample.ready, sample.unacknowledged, strict=True):
            signals.append(Signal(name, "ready", waiting, age))
            signals.append(Signal(name, "unacknowledged", taken, age))
        flows = tuple(
            Flow(name, ended, arrived, source="broker")
            for name, ended, arrived in zip(self.names, sample.ended, sample.arrived, strict=True)
        )
        if age > self.contender.scale.metric_max_age_seconds:
            words = f"the newest sample is {age:.0f} s old"
            return Observation(tuple(signals), Reason.HOLD_STALE_METRICS, words, fleet)
        return Observation(
            tuple(signals), fleet=fleet, flows=flows, at=self.now, oldest_seconds=sample.oldest
        )

    def _seen(self, worker: _Worker) -> Worker:
        return Worker(
            worker.name,
            worker.created,
            ready=worker.ready <= self.now,
            active=len(worker.running),
            reserved=len(worker.held),
            draining_seconds=None if worker.draining is None else self.now - worker.draining,
        )

    def _tick(self, _: None) -> None:
        scale = self.contender.scale
        seen = self._observe()
        asked, memory = self.contender.policy(self.state.memory, seen, scale, self.now)
        decision, state = decide(replace(self.state, memory=memory), asked, scale, self.now)
        self.state = state
        if self.contender.victims == "drain":
            self._act(decision)
        else:
            self._set(decision.workers - seen.fleet.wanted)
        wanted = sum(worker.draining is None for worker in self.workers.values())
        if wanted != self.wanted[-1][1]:
            self.wanted.append((self.now, wanted))
        self._at(self.now + self.contender.period, TICK, None)

    def _act(self, decision: Decision) -> None:
        """Do as our actuators do; a worker that boots is told to drain when it has."""
        for name in decision.recall:
            worker = self.workers[name]
            worker.draining = worker.heard = None
            if worker.ready <= self.now:
                self._listen(worker)
        for name in decision.drain:
            self._take_no_more(self.workers[name])
        self._begin(decision.start)
        drained = [worker for worker in self.workers.values() if worker.draining is not None]
        for worker in [worker for worker in drained if self._found_empty(worker)]:
            self._remove(worker)

    def _found_empty(self, worker: _Worker) -> bool:
        """Tell whether one that was told to drain at an earlier tick has no tasks; tell it, if it was not."""
        if worker.heard is None:
            worker.heard = self.now if worker.ready <= self.now else None
            return False
        return not worker.running

    def _set(self, more: int) -> None:
        """Set the number, and leave it to the ReplicaSet to pick who goes."""
        self._begin(max(0, more))
        if more < 0:
            there = [worker for worker in self.workers.values() if not worker.stopping]
            for worker in sorted(there, key=lambda one: rank(self.now - one.ready, one.uid))[:-more]:
                self._stop(worker)
