"""The words of the autoscaler: what is seen, what a policy asks for, what is decided and why."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec


class Action(StrEnum):
    """What a decision does to the number of workers."""

    UP = "up"
    DOWN = "down"
    HOLD = "hold"


class Reason(StrEnum):
    """Why a decision is what it is; also the label `reason` of `autoscaler_decisions_total`."""

    KEEP_UP = "KeepUp"  # up: more work arrives than the workers get done in time
    DRAIN_BACKLOG = "DrainBacklog"  # up: what waits would start too late; or is above the upper threshold
    CAPPED_BY_WORK = "CappedByWork"  # hold: for more workers there would be nothing to do
    STALLED_CONSUMERS = "StalledConsumers"  # tasks wait, and workers that are ready take none
    EFFICACY_LIMITED = "EfficacyLimited"  # the last workers that came have not ended more tasks
    SLO_INFEASIBLE = "SLOInfeasible"  # hold: nobody can keep the promise, as a boot takes longer
    RECALLED = "Recalled"  # draining workers were told to go on: instead of new ones, or after their time
    IDLE = "Idle"  # down: the backlog is below the lower threshold
    AT_MIN = "AtMin"  # no fewer are allowed; with `up`: fewer than the minimum were there
    AT_MAX = "AtMax"  # no more are allowed; with `down`: more than the maximum were there
    DEADBAND = "Deadband"  # the backlog is between the thresholds
    STABILIZING = "Stabilizing"  # as many were needed a moment ago, within the down window
    COOLDOWN = "Cooldown"  # the last step down was a moment ago
    MANUAL_HOLD = "ManualHold"  # somebody else has set the number, a while ago
    RESTART_HOLD = "RestartHold"  # the autoscaler has not watched for a whole down window yet
    FALLBACK_REPLICAS = "FallbackReplicas"  # up: no metrics, but all slots are busy, as the workers say
    HOLD_STALE_METRICS = "HoldStaleMetrics"  # a series is missing, too old, or no number
    QUERY_ERROR = "QueryError"  # Prometheus did not answer, or not with data
    SEVERAL_SERIES = "SeveralSeries"  # two series claim to be the same queue
    FLEET_UNKNOWN = "FleetUnknown"  # the workers could not be looked at
    VICTIMS_AMBIGUOUS = "VictimsAmbiguous"  # fewer replicas could end another pod than the drained ones
    PAUSED = "Paused"  # something else scales the same Deployment
    UNSCHEDULABLE = "Unschedulable"  # no node has room for a new worker
    NOT_STARTING = "NotStarting"  # new workers have no image, or end again and again before they are ready


# Holds that somebody should look at.
TROUBLES = frozenset(
    {
        Reason.HOLD_STALE_METRICS,
        Reason.QUERY_ERROR,
        Reason.SEVERAL_SERIES,
        Reason.FLEET_UNKNOWN,
        Reason.VICTIMS_AMBIGUOUS,
        Reason.PAUSED,
        Reason.UNSCHEDULABLE,
        Reason.NOT_STARTING,
        Reason.STALLED_CONSUMERS,
    }
)


@dataclass(frozen=True, slots=True)
class Signal:
    """The newest sample of one series of one queue."""

    queue: str
    name: str  # ready | unacknowledged
    value: float
    age_seconds: float


class Answer(msgspec.Struct, frozen=True):
    """What a worker says of itself."""

    ready: bool = False
    draining: bool = False
    active: int = 0
    reserved: int = 0
    slots: int = 0

    @property
    def drained(self) -> bool:
        """It takes no tasks and has none."""
        return self.draining and self.active == 0 and self.reserved == 0


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker that is there or on its way; a worker told to end is none any more."""

    name: str
    started: float  # unix seconds; orders workers by age
    ready: bool = False
    active: int = 0
    reserved: int = 0
    draining_seconds: float | None = None  # since it was told to drain; None: it was not
    slots: int = 0  # tasks that it runs at once; 0: it did not say


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a pool's number must not rise, fall or, with HOLD, why it is held whatever the backlog says."""

    reason: Reason
    words: str
    bars: frozenset[Action]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers of one pool."""

    workers: tuple[Worker, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    unknown: str = ""  # why the workers could not be looked at; they are then those of the last look
    planned: int | None = None  # how many there would be, where what is decided is not done here
    slots: int = 1  # tasks that one worker runs at once
    manual_seconds: float | None = None  # since somebody else set the number; None: nobody did

    @property
    def serving(self) -> tuple[Worker, ...]:
        """The workers that shall go on."""
        return tuple(worker for worker in self.workers if worker.draining_seconds is None)

    @property
    def wanted(self) -> int:
        """The number that is wanted now."""
        return len(self.serving) if self.planned is None else self.planned

    @property
    def draining(self) -> tuple[Worker, ...]:
        """The workers that take no more tasks and end when they are empty."""
        return tuple(worker for worker in self.workers if worker.draining_seconds is not None)

    def obstacle(self, action: Action) -> Obstacle | None:
        """Find what bars an action."""
        return next((obstacle for obstacle in self.obstacles if action in obstacle.bars), None)

    @property
    def ready(self) -> int:
        """How many say that they consume."""
        return sum(worker.ready for worker in self.workers)


@dataclass(frozen=True, slots=True)
class Flow:
    """What went through one queue since it is watched: totals that only rise, as of the queue's signals.

    NaN where it is not known. Only differences mean something: the watch may begin anywhere.
    """

    queue: str
    ended: float = math.nan  # tasks that were acknowledged
    arrived: float = math.nan  # tasks that were published to it at once; one with a countdown is not known
    busy_seconds: float = math.nan  # that the tasks took which ended
    source: str = ""  # who says so: broker | workers


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of one pool at one tick; with a problem, the signals are not to be trusted."""

    signals: tuple[Signal, ...] = ()
    problem: Reason | None = None
    detail: str = ""
    fleet: Fleet = Fleet()
    flows: tuple[Flow, ...] = ()  # none: nobody tells
    at: float = math.nan  # when it was looked at, by the clock of `Worker.started`
    oldest_seconds: float = math.nan  # how long the oldest task waits; 0: none waits; NaN: not known

    @property
    def backlog(self) -> float:
        """Messages ready and unacknowledged, over all queues of the pool."""
        return math.fsum(signal.value for signal in self.signals)

    @property
    def age_seconds(self) -> float:
        """The age of the oldest signal; NaN if there is none."""
        return max((signal.age_seconds for signal in self.signals), default=math.nan)

    @property
    def sources(self) -> frozenset[str]:
        """Who tells what went through the queues: broker, workers, or of some queue only the backlog."""
        told = {flow.queue: flow.source for flow in self.flows}
        return frozenset(told.get(signal.queue, "backlog") for signal in self.signals)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a policy makes of an observation: a number before limits, and whether to move towards it."""

    observation: Observation
    workers: int | None = None  # None: the observation has a problem
    action: Action = Action.HOLD
    reason: Reason = Reason.DEADBAND
    words: str = ""
    terms: Mapping[str, float] = field(default_factory=dict)
    window_seconds: float | None = None  # fewer only to the most that was asked for in it


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers a pool shall have, which of them go or stay, and why."""

    workers: int
    action: Action
    reason: Reason
    words: str
    start: int = 0
    recall: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered of a pool from tick to tick; times are seconds of one steady clock."""

    # What the policy asked for over the down window, where it has not asked for as many since.
    asked: tuple[tuple[float, int], ...] = ()
    watched_since: float = math.inf  # since when there was no gap
    after_gap: bool = False  # the watch began again after a gap, not at the start
    stepped_down: float = -math.inf
    memory: Any = None  # what the policy itself remembers; only it knows what that is
