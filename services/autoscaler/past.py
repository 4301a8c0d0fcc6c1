"""What was: queues at past moments, for those who did not watch them then."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from autoscaler.config import Pool
from autoscaler.flows import Queue
from autoscaler.model import Flow, Observation, Signal


@dataclass(frozen=True, slots=True)
class Past:
    """One queue at evenly spaced moments; NaN is what is not known."""

    times: Sequence[float]  # unix seconds
    ready: Sequence[float]
    unacknowledged: Sequence[float]
    ended: Sequence[float]  # tasks since the first moment: a total that only rises
    sources: frozenset[str] = frozenset()  # who told of ends: broker, workers
    resets: int = 0  # counters that began anew

    @property
    def step(self) -> float:
        """Seconds from one moment to the next."""
        return self.times[1] - self.times[0] if len(self.times) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Histogram:
    """Seconds that tasks took which ended within a part of the time."""

    until: float  # unix seconds
    upper: tuple[float, ...]  # bounds, ascending; the last one is infinite
    counts: tuple[float, ...]  # tasks up to each bound
    seconds: float  # of all together


def looks(pool: Pool, pasts: Mapping[Queue, Past], now: float) -> Iterator[tuple[float, Observation]]:
    """See a pool as it was, without its workers, at each moment at which all its queues are known.

    Times are the steady clock's, of which `now` is the present: the last moment is a step ago. A sample is
    up to a step older than its moment, and the last moment up to a step older than now: so it is neither
    taken for too old nor, by and large, for too young.
    """
    queues = {queue: pasts[pool.vhost, queue] for queue in pool.queues if (pool.vhost, queue) in pasts}
    if len(queues) < len(pool.queues):
        return
    first = next(iter(queues.values()))
    for number, at in enumerate(first.times):
        signals, flows = [], []
        for name, past in queues.items():
            signals.append(Signal(name, "ready", past.ready[number], 0.0))
            signals.append(Signal(name, "unacknowledged", past.unacknowledged[number], 0.0))
            if not math.isnan(past.ended[number]):
                flows.append(Flow(name, past.ended[number]))
        if not any(math.isnan(signal.value) for signal in signals):
            when = now - (first.times[-1] - at) - first.step
            yield when, Observation(tuple(signals), flows=tuple(flows))
