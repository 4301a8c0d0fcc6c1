"""The contenders are what their users run, fitted to the setting."""

import re
from typing import Literal

import msgspec
import pytest

from autoscaler.config import Autoscale
from autoscaler.simulator.contenders import CONTENDERS, KEYS, contender
from autoscaler.simulator.setting import Setting
from tests.unit.autoscaler.simulator.replay import Pool

OURS = ("slo", "threshold")
SETTING = Setting(slo=30, concurrency=4, boot=20, tick=5, min_workers=1, max_workers=60)


def pool(name: str, workers: int = 1, setting: Setting = SETTING) -> Pool:
    found = contender(name, setting)
    return Pool(found.policy, found.scale, workers)


@pytest.mark.parametrize(
    ("name", "period", "victims", "grace"),
    [
        ("slo", 5, "drain", 600),
        ("threshold", 5, "drain", 600),
        ("hpa", 15, "replicaset", 30),
        ("hpa-tuned", 15, "replicaset", 600),
        ("keda", 15, "replicaset", 30),
        ("kpa", 2, "replicaset", 300),
        ("step", 10, "replicaset", 30),
    ],
)
def test_each_decides_and_ends_workers_as_its_users_know_it(
    name: str, period: float, victims: str, grace: float
) -> None:
    found = contender(name, SETTING)
    assert (found.name, found.period, found.victims, found.grace) == (name, period, victims, grace)


def test_an_unknown_name_is_told_with_those_that_are_known() -> None:
    with pytest.raises(
        ValueError, match="'vpa' is not known; known are slo, threshold, hpa, hpa-tuned, keda, kpa, step"
    ):
        contender("vpa", SETTING)


@pytest.mark.parametrize("name", CONTENDERS)
def test_all_have_the_limits_and_the_concurrency_of_the_setting(name: str) -> None:
    scale = contender(name, Setting(slo=30, concurrency=3, boot=20, min_workers=2, max_workers=7)).scale
    assert (scale.min_workers, scale.max_workers, scale.target_backlog_per_worker) == (2, 7, 3)


@pytest.mark.parametrize("name", [name for name in CONTENDERS if name not in OURS])
def test_ports_bring_their_own_windows(name: str) -> None:
    scale = contender(name, SETTING).scale
    assert (scale.down_window_seconds, scale.cooldown_seconds) == (0, 0)


@pytest.mark.parametrize("name", OURS)
def test_ours_have_what_they_have_by_default(name: Literal["slo", "threshold"]) -> None:
    setting = Setting(slo=45, quantile=0.9, concurrency=4, boot=20, max_workers=60)
    assert contender(name, setting).scale == Autoscale(
        policy=name, max_workers=60, slo_seconds=45, slo_quantile=0.9, target_backlog_per_worker=4
    )


def test_a_contender_takes_settings_of_its_own_and_is_named_by_them() -> None:
    text = "threshold:targetBacklogPerWorker=8:downWindowSeconds=120:drainTimeoutSeconds=90"
    found = contender(text, SETTING)
    assert (found.name, found.grace) == (text, 90)
    assert found.scale == Autoscale(
        policy="threshold",
        max_workers=60,
        slo_seconds=30,
        target_backlog_per_worker=8,
        down_window_seconds=120,
        drain_timeout_seconds=90,
    )
    assert contender("slo:holdWhenUseless=true:sloSeconds=20", SETTING).scale == Autoscale(
        max_workers=60, slo_seconds=20, hold_when_useless=True, target_backlog_per_worker=4
    )


@pytest.mark.parametrize("name", CONTENDERS)
def test_each_takes_the_keys_that_mean_something_to_it(name: str) -> None:
    defaults = contender(name, SETTING)
    fields = {field.encode_name: field.name for field in msgspec.structs.fields(Autoscale)}
    assert KEYS.keys() == CONTENDERS.keys()
    for key in KEYS[name]:
        value = {"holdWhenUseless": "true", "sloQuantile": "0.75", "downThreshold": "0.25"}.get(key, "7")
        scale = contender(f"{name}:{key}={value}", SETTING).scale
        changed = {one for one in fields.values() if getattr(scale, one) != getattr(defaults.scale, one)}
        assert changed == {fields[key]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("threshold:upThreshold", "'threshold:upThreshold': 'upThreshold' must look like KEY=VALUE"),
        ("slo:=3", "'slo:=3': '=3' must look like KEY=VALUE"),
        ("slo:", "'slo:': '' must look like KEY=VALUE"),
        (
            "hpa:sloSeconds=3",
            "'sloSeconds' is no key of hpa; known are targetBacklogPerWorker, minWorkers, maxWorkers",
        ),
        ("slo:policy=threshold", "'policy' is no key of slo; known are sloSeconds, sloQuantile"),
        ("slo:sloSeconds=3:sloSeconds=4", "'sloSeconds' is given twice"),
        ("slo:sloSeconds=soon", "'slo:sloSeconds=soon': sloSeconds: Expected `float`, got 'soon'"),
        ("threshold:upThreshold=0", "upThreshold: Expected `float` > 0.0"),
        ("threshold:upThreshold=nan", "upThreshold: Expected `float` > 0.0"),
        ("threshold:upThreshold=0.5", "downThreshold (0.5) must be below upThreshold (0.5)"),
        ("slo:minWorkers=61", "minWorkers (61) must not be above maxWorkers (60)"),
    ],
)
def test_a_wrong_setting_is_told_with_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        contender(text, SETTING)


@pytest.mark.parametrize(
    ("name", "workers"),
    [("slo", 60), ("threshold", 60), ("hpa", 5), ("hpa-tuned", 60), ("keda", 5), ("kpa", 60), ("step", 2)],
)
def test_a_burst_of_four_hundred_is_met_by_each_in_its_way(name: str, workers: int) -> None:
    assert pool(name).at(0, 400, oldest=16) == workers


@pytest.mark.parametrize("name", CONTENDERS)
def test_none_takes_a_silent_prometheus_for_an_idle_queue_at_once(name: str) -> None:
    assert pool(name, 8).course([22, 22, None, None], every=5)[-1] == 8


def test_keda_alone_shrinks_when_the_series_are_missing_for_long() -> None:
    end = {name: pool(name, 8).course([22] + [None] * 80, every=15)[-1] for name in CONTENDERS}
    assert end == dict.fromkeys(CONTENDERS, 8) | {"keda": 1}
