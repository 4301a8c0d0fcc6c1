"""Who takes part in a comparison: policies as they are in use, with settings and a way to end workers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from autoscaler import policies
from autoscaler.config import Autoscale
from autoscaler.policies import Policy, hpa, keda, kpa, step
from autoscaler.simulator.setting import Setting

HPA_SYNC_SECONDS = 15.0  # --horizontal-pod-autoscaler-sync-period
KPA_TICK_SECONDS = 2.0
STEP_CHECK_SECONDS = 10.0  # Judoscale's; HireFire's is 60
POD_GRACE_SECONDS = 30.0  # terminationGracePeriodSeconds of a pod, and what a dyno is given
REVISION_GRACE_SECONDS = 300.0  # Knative gives a pod what its longest request may take
TUNED_GRACE_SECONDS = 600.0

# drain: the victims that are decided on take no more tasks and go when they are empty.
# replicaset: only the number is set; the ReplicaSet picks who goes, and kills it after the grace.
Victims = Literal["drain", "replicaset"]


@dataclass(frozen=True, slots=True)
class Contender:
    """A policy as somebody would run it."""

    name: str
    policy: Policy
    scale: Autoscale
    period: float  # seconds between two decisions
    victims: Victims
    grace: float  # seconds between the word to end and the end


def contender(name: str, setting: Setting) -> Contender:
    """Find a contender by its name and fit it to a setting."""
    if name not in CONTENDERS:
        raise ValueError(f"policies: {name!r} is not known; known are {', '.join(CONTENDERS)}")
    return CONTENDERS[name](setting)


def _ours(name: Literal["slo", "threshold"], setting: Setting) -> Contender:
    scale = Autoscale(
        policy=name,
        min_workers=setting.min_workers,
        max_workers=setting.max_workers,
        slo_seconds=setting.slo,
        slo_quantile=setting.quantile,
        target_backlog_per_worker=setting.concurrency,
    )
    return Contender(name, policies.estimate, scale, setting.tick, "drain", scale.drain_timeout_seconds)


def _port(name: str, policy: Policy, period: float, grace: float, setting: Setting) -> Contender:
    """Leave windows and rates to the policy: all that `decide()` does for it is to keep the limits."""
    scale = Autoscale(
        min_workers=setting.min_workers,
        max_workers=setting.max_workers,
        target_backlog_per_worker=setting.concurrency,
        down_window_seconds=0,
        cooldown_seconds=0,
    )
    return Contender(name, policy, scale, period, "replicaset", grace)


def _step(setting: Setting) -> Contender:
    """Step up at half of the promise, as a step helps a boot later, and not before the last one helps."""
    within = step.Range(
        up_above_seconds=setting.slo / 2,
        down_below_seconds=setting.slo / 10,
        up_every_seconds=max(setting.boot, STEP_CHECK_SECONDS),
    )
    policy = partial(step.estimate, within=within)
    return _port("step", policy, STEP_CHECK_SECONDS, POD_GRACE_SECONDS, setting)


CONTENDERS: Mapping[str, Callable[[Setting], Contender]] = {
    "slo": partial(_ours, "slo"),
    "threshold": partial(_ours, "threshold"),
    "hpa": partial(_port, "hpa", hpa.estimate, HPA_SYNC_SECONDS, POD_GRACE_SECONDS),
    "hpa-tuned": partial(
        _port,
        "hpa-tuned",
        partial(hpa.estimate, behavior=hpa.TUNED),
        HPA_SYNC_SECONDS,
        TUNED_GRACE_SECONDS,
    ),
    "keda": partial(_port, "keda", keda.estimate, HPA_SYNC_SECONDS, POD_GRACE_SECONDS),
    "kpa": partial(_port, "kpa", kpa.estimate, KPA_TICK_SECONDS, REVISION_GRACE_SECONDS),
    "step": _step,
}
