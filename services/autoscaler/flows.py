"""What went through each queue since it is watched: totals that only rise, of counters that come and go."""

import math
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from autoscaler.model import Flow

FORGOTTEN_SECONDS = 3600.0  # a process that was not read for so long is not waited for

Queue = tuple[str, str]  # virtual host, name


class Process(NamedTuple):
    """Who counts: a node of the broker, or one life of a worker."""

    name: tuple[str, ...]
    started: float = math.nan  # unix seconds; NaN: not known, and it may begin anew under the same name


class Counter(NamedTuple):
    """What is counted. Several of a queue in one process add up."""

    what: str  # ended | arrived | busy
    queue: Queue
    part: str = ""  # tells it from others of the same queue


Reading = Mapping[Process, Mapping[Counter, float]]  # all that a source tells at one moment
NOTHING = array("d")
Totals = Mapping[tuple[str, Queue], float]  # by what and queue


@dataclass(slots=True)
class _Life:
    """What one process counted when it was last read, in as little as thousands of them may take."""

    read: float = math.nan  # when
    turn: int = -2  # and in which reading; before all that there were
    counters: tuple[Counter, ...] = ()
    values: "array[float]" = field(default_factory=lambda: NOTHING)  # of these; never changed

    def counts(self) -> dict[Counter, float]:
        """Give the last value of each counter."""
        return dict(zip(self.counters, self.values, strict=True))


class _Totals:
    """The totals of one source over all its processes.

    A counter that shows up is counted whole if it began under our eyes: its queue is watched, and its
    process was just read without it, or started since we watch. Else it may be as old as any, and only what
    it gains from now on counts.
    """

    def __init__(self) -> None:
        self._began = math.nan
        self._lives: dict[Process, _Life] = {}
        self._shapes: dict[tuple[Counter, ...], tuple[Counter, ...]] = {}  # one for all workers of a pool
        self._turn = 0
        self._queues: Collection[Queue] = ()
        self._totals: dict[tuple[str, Queue], float] = {}

    def read(self, queues: Collection[Queue], reading: Reading, now: float) -> Totals:
        """Take in what is told now; returns the totals of what is told now, and of nothing else."""
        if math.isnan(self._began):
            self._began = now
        young = max(self._began, now - FORGOTTEN_SECONDS)
        told: dict[tuple[str, Queue], float] = {}
        for process, counters in reading.items():
            life = self._lives.setdefault(process, _Life())
            seen = life.turn == self._turn - 1 or young < process.started <= now
            life.read, life.turn, last = now, self._turn, life.counts()
            for counter, value in counters.items():
                if not (math.isfinite(value) and value >= 0):
                    continue
                whole = seen and counter.queue in self._queues
                before = last.get(counter, 0.0 if whole else value)
                gain = value if value < before else value - before  # less than before: it began anew
                last[counter] = value
                key = (counter.what, counter.queue)
                told[key] = self._totals[key] = self._totals.get(key, 0.0) + gain
            self._put(life, last)
        self._turn += 1
        for process in [one for one, life in self._lives.items() if now - life.read > FORGOTTEN_SECONDS]:
            del self._lives[process]
        if queues != self._queues:
            self._keep(queues)
        return told

    def _keep(self, queues: Collection[Queue]) -> None:
        """Forget all other queues."""
        self._queues = queues
        self._totals = {key: total for key, total in self._totals.items() if key[1] in queues}
        for life in self._lives.values():
            self._put(life, {counter: n for counter, n in life.counts().items() if counter.queue in queues})

    def _put(self, life: _Life, last: Mapping[Counter, float]) -> None:
        counters = tuple(last)
        if counters != life.counters:
            life.counters = self._shapes.setdefault(counters, counters)
            if len(self._shapes) > len(self._lives):  # some are of nobody any more
                self._shapes = {one.counters: one.counters for one in self._lives.values()}
        life.values = array("d", last.values())


@dataclass(slots=True)
class _Ended:
    """How many tasks of a queue ended, whoever told of it."""

    total: float = 0.0
    source: str = ""
    last: dict[str, float] = field(default_factory=dict)  # the total of each source when it last told

    def follow(self, told: Mapping[str, float]) -> None:
        """Add what was gained since the last time.

        One source hands over to another without a jump: it counts once more, as it knows where it was. If
        the other was read a moment later and so knows of more ends, these count too, but none twice.
        """
        if not told:
            return
        if self.source in told:
            self.total += told[self.source] - self.last[self.source]
        best = "broker" if "broker" in told else "workers"
        if best != self.source:
            gain = told[best] - self.last.get(best, 0.0)
            self.total = max(self.total, min(told[best], self.total + gain))
        self.source = best
        self.last |= told


class Flows:
    """What went through all queues. The broker is asked first, as it knows of workers that tell nothing."""

    def __init__(self) -> None:
        self._broker, self._workers = _Totals(), _Totals()
        self._ended: dict[Queue, _Ended] = {}

    def update(
        self, queues: Collection[Queue], now: float, broker: Reading, workers: Reading
    ) -> Mapping[Queue, Flow]:
        """Take in what both tell now; returns the flow of each queue of which anything is told now."""
        return self.follow(queues, now, self.broker(queues, now, broker), workers)

    def broker(self, queues: Collection[Queue], now: float, reading: Reading) -> Totals:
        """Take in what the broker tells, to be followed by what the workers do."""
        return self._broker.read(frozenset(queues), reading, now)

    def follow(
        self, queues: Collection[Queue], now: float, by_broker: Totals, workers: Reading
    ) -> Mapping[Queue, Flow]:
        """Take in what the workers tell beside the broker."""
        queues = frozenset(queues)
        if queues != self._ended.keys():
            self._ended = {queue: self._ended.get(queue, _Ended()) for queue in queues}
        by_workers = self._workers.read(queues, workers, now)
        flows: dict[Queue, Flow] = {}
        for queue, ended in self._ended.items():
            told = {
                source: totals["ended", queue]
                for source, totals in (("broker", by_broker), ("workers", by_workers))
                if ("ended", queue) in totals
            }
            ended.follow(told)
            arrived = by_broker.get(("arrived", queue), math.nan)
            if told or not math.isnan(arrived):
                flows[queue] = Flow(
                    queue[1],
                    ended.total if told else math.nan,
                    arrived,
                    by_workers.get(("busy", queue), math.nan),
                    ended.source if told else "broker",
                )
        return flows
