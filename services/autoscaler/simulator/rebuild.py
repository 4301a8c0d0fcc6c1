"""From what was seen of queues to a load that may have been: when tasks arrived, and what each took.

Arrived is what ended and what is there. Within a step nobody knows when, so arrivals are spread over it at
random; nor what each task took, so that is drawn from how long tasks took about then.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from autoscaler.flows import Queue
from autoscaler.past import Histogram, Past
from autoscaler.simulator.loads import Load

UNLIKE_SECONDS = 15.0  # by which what is there and what ended may be of different moments
PATIENCE_SECONDS = 60.0  # after which messages that are gone without an end are taken to be lost
PART_SECONDS = 600.0  # in which tasks take about as long, if
PART_TASKS = 20  # so many ended in it; else they take what they take at all
Histograms = Mapping[Queue, Sequence[Histogram]]
Draw = Callable[[Random], float]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A load, and in words what it is made of."""

    load: Load
    words: tuple[str, ...]

    @property
    def service(self) -> float:
        """Seconds that a task takes on average."""
        return self.load.work / len(self.load.services) if self.load.services else 0.0


def rebuild(pasts: Mapping[Queue, Past], services: Histograms, seed: int) -> Rebuilt:
    """Make a load of what was seen; the same seed makes the same."""
    tasks: list[tuple[float, float, str]] = []
    words: list[str] = []
    begin = min(map(_known_from, pasts.values()))
    for queue, past in pasts.items():
        name = queue[1]
        random = Random(f"{seed} {name}")
        found = _arrivals(past, begin, random)
        measured = queue in services
        take = _measured(services[queue]) if measured else _busy(past, len(found.times))
        took = [take(at)(random) for at in found.times]
        tasks += [(at - begin, one, name) for at, one in zip(found.times, took, strict=True)]
        words += _words(name, past, found, math.fsum(took), measured)
    tasks.sort()
    names = tuple(name for *_, name in tasks) if len(pasts) > 1 else ()
    load = Load("history", tuple(at for at, *_ in tasks), tuple(one for _, one, _ in tasks), names)
    return Rebuilt(load, tuple(words))


@dataclass(frozen=True, slots=True)
class _Arrivals:
    times: Sequence[float]
    seconds: float  # in which they were counted
    lost: float  # messages that went without an end
    gaps: int
    gap_seconds: float


def _known_from(past: Past) -> float:
    return next(at for at, ready in zip(past.times, past.ready, strict=True) if not math.isnan(ready))


def _arrivals(past: Past, begin: float, random: Random) -> _Arrivals:
    times: list[float] = []
    patience = PATIENCE_SECONDS if past.sources else 0.0  # nobody tells of ends: they are what is gone
    most, level_at, lost = math.nan, 0.0, 0.0
    gaps, missing, seen, known = 0, 0, 0, True
    for at, there in zip(past.times, _curve(past), strict=True):
        if at < begin:
            continue
        if math.isnan(there):
            missing += 1
            gaps += known
            known = False
            continue
        seen += 1
        if not known or math.isnan(most):  # what is there already arrived before
            most, level_at = there, at
        elif there >= most:
            new = math.floor(there + 1e-6) - math.floor(most + 1e-6)
            times += sorted(random.uniform(at - past.step, at) for _ in range(new))
            most, level_at = there, at
        elif at - level_at >= patience:
            lost += most - there if past.sources else 0.0
            most, level_at = there, at
        known = True
    return _Arrivals(times, seen * past.step, lost, gaps, missing * past.step)


def _curve(past: Past) -> Iterator[float]:
    """Tell how many had arrived by each moment; NaN where it is not known.

    What ended is known a moment before or after what is there. Where it is before, tasks count twice for a
    moment: so what counts is the least of the next moments, as what arrived stays so.
    """
    raw, ended = [], 0.0
    for ready, taken, told in zip(past.ready, past.unacknowledged, past.ended, strict=True):
        ended = ended if math.isnan(told) else told
        raw.append(ready + taken + ended)
    ahead = math.ceil(UNLIKE_SECONDS / past.step) if past.sources and past.step else 0
    for number, now in enumerate(raw):
        least = now
        for later in raw[number + 1 : number + 1 + ahead]:
            if math.isnan(later) or math.isnan(now):
                break
            least = min(least, later)
        yield least


def _measured(parts: Sequence[Histogram]) -> Callable[[float], Draw]:
    """Tell by the time of its arrival how long a task may take, by the workers' histogram."""
    whole = _Buckets(parts)
    untils = [part.until for part in parts]
    draws = [_Buckets([part]) if part.counts[-1] >= PART_TASKS else whole for part in parts]
    return _by_part(untils, draws, whole)


def _busy(past: Past, arrived: int) -> Callable[[float], Draw]:
    """Tell it by Little: the time that tasks were at work, by the tasks that ended."""
    untils: list[float] = []
    parts: list[tuple[float, float]] = []  # seconds at work, and ends
    before = math.nan
    for at, taken, ended in zip(past.times, past.unacknowledged, past.ended, strict=True):
        if not untils or at > untils[-1]:
            untils.append(at + PART_SECONDS)
            parts.append((0.0, 0.0))
        busy, ends = parts[-1]
        busy += 0.0 if math.isnan(taken) else past.step * taken
        ends += 0.0 if math.isnan(ended - before) else ended - before
        before = before if math.isnan(ended) else ended
        parts[-1] = busy, ends
    ends = math.fsum(one for _, one in parts)
    whole = _exponential(math.fsum(busy for busy, _ in parts) / (ends or arrived or 1))
    draws = [_exponential(busy / ends) if ends >= PART_TASKS else whole for busy, ends in parts]
    return _by_part(untils, draws, whole)


def _by_part(untils: Sequence[float], draws: Sequence[Draw], whole: Draw) -> Callable[[float], Draw]:
    def find(at: float) -> Draw:
        number = bisect_left(untils, at)
        return draws[number] if number < len(draws) and untils[number] - at <= PART_SECONDS else whole

    return find


def _exponential(mean: float) -> Draw:
    return lambda random: random.expovariate(1 / mean) if mean else 0.0


class _Buckets:
    """Draws service times as histograms have them, evenly within a bucket and with their mean."""

    def __init__(self, histograms: Sequence[Histogram]) -> None:
        self._upper = histograms[0].upper
        alike = [one for one in histograms if one.upper == self._upper]
        counts = map(math.fsum, zip(*(one.counts for one in alike), strict=True))
        self._counts = list(accumulate(counts, max))
        seconds = math.fsum(one.seconds for one in alike)
        drawn = math.fsum(
            (count - before) * sum(self._bounds(number)) / 2
            for number, (before, count) in enumerate(zip([0.0, *self._counts], self._counts, strict=False))
        )
        self._scale = seconds / drawn if drawn and seconds else 1.0

    def __call__(self, random: Random) -> float:
        at = random.uniform(0, self._counts[-1])
        number = min(bisect_left(self._counts, at), len(self._counts) - 1)
        low, high = self._bounds(number)
        before = self._counts[number - 1] if number else 0.0
        inside = self._counts[number] - before
        return self._scale * (low + (high - low) * ((at - before) / inside if inside else 1.0))

    def _bounds(self, number: int) -> tuple[float, float]:
        """Of a bucket; what is above the last bound is taken to be at it."""
        low = self._upper[number - 1] if number else 0.0
        return low, self._upper[number] if math.isfinite(self._upper[number]) else low


def _words(name: str, past: Past, found: _Arrivals, work: float, measured: bool) -> Iterator[str]:
    arrived = len(found.times)
    by = " and ".join(sorted(past.sources))
    ends = {
        "broker": "the broker tells what ended",
        "workers": "the workers tell what ended",
        "broker and workers": "the broker, and else the workers, tell what ended",
    }.get(by, "nobody tells what ended: by the backlog alone there are too few tasks, and they take too long")
    took = f"a task takes {work / arrived:.3g} s on average" if arrived else "none"
    how = "the workers' histogram" if measured else "slots' busy time, with exponential times"
    yield f"{name}: {arrived} tasks in {found.seconds / 3600:.3g} h, {took} by {how}; {ends}"
    if (unknown := len(past.times) * past.step - found.seconds - found.gap_seconds) > past.step:
        yield f"{name}: nothing is known of the {unknown / 3600:.3g} h before"
    if found.gaps:
        yield f"{name}: {found.gap_seconds / 60:.3g} min are not known and left out; gaps: {found.gaps}"
    if past.resets:
        yield f"{name}: counters began anew {past.resets} times, and were followed"
    if found.lost >= 1:
        yield f"{name}: {found.lost:.0f} messages went without an end, purged or expired, and are left out"
