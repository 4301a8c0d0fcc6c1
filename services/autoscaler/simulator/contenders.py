"""Who takes part in a comparison: policies as they are in use, with settings and a way to end workers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import msgspec

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

    name: str  # with its settings, if it has other ones than by default
    policy: Policy
    scale: Autoscale
    period: float  # seconds between two decisions
    victims: Victims
    grace: float  # seconds between the word to end and the end


def contender(text: str, setting: Setting) -> Contender:
    """Find a contender by its name and fit it to a setting.

    `NAME:KEY=VALUE:KEY=VALUE` gives it keys of `autoscale` that are other than the setting has them. Raises
    ValueError, one line that names the key and what would be right.
    """
    name, *words = text.split(":")
    if name not in CONTENDERS:
        raise ValueError(f"policies: {name!r} is not known; known are {', '.join(CONTENDERS)}")
    found = CONTENDERS[name](setting)
    if not words:
        return found
    scale = _given(text, found.scale, KEYS[name])
    grace = scale.drain_timeout_seconds if found.victims == "drain" else found.grace
    return replace(found, name=text, scale=scale, grace=grace)


def _given(text: str, scale: Autoscale, known: Sequence[str]) -> Autoscale:
    """Read the keys after a contender's name; they are checked as those of the configuration are."""
    name, *words = text.split(":")
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise ValueError(f"policies: {text!r}: {word!r} must look like KEY=VALUE")
        if key not in known:
            raise ValueError(f"policies: {text!r}: {key!r} is no key of {name}; known are {', '.join(known)}")
        if key in given:
            raise ValueError(f"policies: {text!r}: {key!r} is given twice")
        given[key] = value
    try:
        return msgspec.convert({**msgspec.to_builtins(scale), **given}, Autoscale, strict=False)
    except msgspec.ValidationError as error:
        what, _, key = str(error).partition(" - at `$.")
        key = key.rstrip("`")
        told = what.replace("got `str`", f"got {given.get(key)!r}")
        raise ValueError(
            f"policies: {text!r}: {key}: {told}" if key else f"policies: {text!r}: {what}"
        ) from None


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

_LIMITS = ("minWorkers", "maxWorkers")
_TARGET = "targetBacklogPerWorker"
_ALWAYS = (*_LIMITS, "downWindowSeconds", "cooldownSeconds", "metricMaxAgeSeconds", "drainTimeoutSeconds")
# the keys of `autoscale` that mean something to each
KEYS: Mapping[str, Sequence[str]] = {
    "slo": ("sloSeconds", "sloQuantile", "expectedTaskSeconds", "holdWhenUseless", *_ALWAYS),
    "threshold": (_TARGET, "upThreshold", "downThreshold", *_ALWAYS),
    "hpa": (_TARGET, *_LIMITS),
    "hpa-tuned": (_TARGET, *_LIMITS),
    "keda": (_TARGET, *_LIMITS),
    "kpa": (_TARGET, *_LIMITS),
    "step": _LIMITS,
}
