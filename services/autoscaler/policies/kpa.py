"""Knative's pod autoscaler (KPA): follows the average concurrency, and panics when it doubles.

Concurrency is what is ready and unacknowledged, as Knative counts the requests that wait for a pod too.
"""

import math
from dataclasses import dataclass, replace

from autoscaler.config import Autoscale
from autoscaler.model import Estimate, Observation
from autoscaler.policies.answers import hold, towards


@dataclass(frozen=True, slots=True)
class Spec:
    """The settings of `config-autoscaler`, by their defaults."""

    target_utilization: float = 0.7
    stable_window_seconds: float = 60
    panic_window_seconds: float = 6
    panic_threshold: float = 2.0
    max_scale_up_rate: float = 1000
    max_scale_down_rate: float = 2


DEFAULT = Spec()


@dataclass(frozen=True, slots=True)
class Panic:
    """While it lasts the number only rises."""

    since: float | None = None  # when the threshold was last reached; None: no panic
    most: int = 0  # what was asked for at most since the panic began


@dataclass(frozen=True, slots=True)
class Memory:
    """What the autoscaler keeps of a revision."""

    panic: Panic
    samples: tuple[tuple[float, float], ...] = ()  # when, and how much concurrency


def estimate(
    memory: Memory | None, seen: Observation, scale: Autoscale, now: float, spec: Spec = DEFAULT
) -> tuple[Estimate, Memory]:
    """Ask for what one tick sets; with no sample in the whole stable window it leaves the number alone."""
    ready = seen.fleet.ready
    memory = memory or Memory(begin(ready, now))
    fresh = ((now, seen.backlog),) if seen.problem is None else ()
    samples = tuple(one for one in memory.samples if one[0] > now - spec.stable_window_seconds) + fresh
    memory = replace(memory, samples=samples)
    if not samples:
        return hold(seen), memory
    stable = _average(samples)
    burst = _average(tuple(one for one in samples if one[0] > now - spec.panic_window_seconds))
    target = spec.target_utilization * scale.target_backlog_per_worker
    workers, panic = desired(memory.panic, stable, burst, target, ready, now, spec)
    workers = min(max(workers, scale.min_workers), scale.max_workers)
    mode = "stable" if panic.since is None else "panic"
    words = (
        f"{mode}: concurrency {stable:g} in the stable, {burst:g} in the panic window, {target:g} a worker"
    )
    terms = {"stable": stable, "burst": burst, "target": target, "ready": ready}
    return towards(seen, workers, words, terms), replace(memory, panic=panic)


def begin(ready: int, now: float) -> Panic:
    """Begin in panic if there are several pods: what was seen of them is lost, so none may go yet."""
    return Panic(now if ready > 1 else None, ready)


def desired(
    panic: Panic, stable: float, burst: float, target: float, ready: int, now: float, spec: Spec = DEFAULT
) -> tuple[int, Panic]:
    """Give the number that the averages of both windows call for, and whether that is in panic."""
    pods = max(1, ready)
    most = math.ceil(spec.max_scale_up_rate * pods)
    least = math.floor(pods / spec.max_scale_down_rate)
    for_stable = min(max(math.ceil(stable / target), least), most)
    for_burst = min(max(math.ceil(burst / target), least), most)
    if math.ceil(burst / target) / pods >= spec.panic_threshold:
        panic = replace(panic, since=now)
    elif panic.since is not None and panic.since + spec.stable_window_seconds < now:
        panic = Panic()  # the surge is in the stable average by now
    if panic.since is None:
        return for_stable, panic
    panic = replace(panic, most=max(panic.most, for_stable, for_burst))
    return panic.most, panic


def _average(samples: tuple[tuple[float, float], ...]) -> float:
    """Average what was sampled; a gap makes an average of fewer, not a smaller one."""
    return math.fsum(value for _, value in samples) / len(samples) if samples else 0.0
