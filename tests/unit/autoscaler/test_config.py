"""The configuration file: defaults, and one clear line for everything that is wrong."""

from typing import Any

import msgspec
import pytest

from autoscaler.config import Autoscale, Config, ConfigError, Kubernetes, parse


def config(**changes: Any) -> dict[str, Any]:
    """A small good configuration with changes by dotted key; `...` takes a key away."""
    whole: dict[str, Any] = {
        "prometheusUrl": "http://127.0.0.1:9090",
        "worker": {
            "pools": {"default": {"queues": ["default"], "autoscale": {}}, "gpu": {"queues": ["gpu"]}}
        },
        "actuator": {
            "kind": "processes",
            "directory": "workers",
            "logDirectory": "log",
            "command": ["python"],
            "ports": {"from": 17100, "to": 17199},
        },
    }
    for dotted, value in changes.items():
        *path, key = dotted.split(".")
        section = whole
        for name in path:
            section = section[name]
        if value is ...:
            del section[key]
        else:
            section[key] = value
    return whole


def parsed(**changes: Any) -> Config:
    return parse(msgspec.yaml.encode(config(**changes)))


def test_what_is_not_written_has_the_documented_default() -> None:
    assert parsed().worker.pools["gpu"].autoscale == Autoscale(
        policy="slo",
        slo_seconds=30,
        slo_quantile=0.95,
        expected_task_seconds=5,
        min_workers=1,
        max_workers=10,
        target_backlog_per_worker=10,
        up_threshold=1.0,
        down_threshold=0.5,
        down_window_seconds=None,
        cooldown_seconds=30,
        metric_max_age_seconds=30,
        drain_timeout_seconds=600,
    )
    assert (parsed().port, parsed().tick_seconds, parsed().worker.pools["gpu"].vhost) == (8002, 5, "/")


POOL = "worker.pools.default"
SCALE = f"{POOL}.autoscale"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (f"{SCALE}.minWorkers", "two", f"{SCALE}.minWorkers: Expected `int`, got `str`"),
        (f"{SCALE}.minWorkers", -1, f"{SCALE}.minWorkers: Expected `int` >= 0"),
        (f"{SCALE}.minWorkers", 11, f"{SCALE}: minWorkers (11) must not be above maxWorkers (10)"),
        (f"{SCALE}.maxWorkers", 0, f"{SCALE}.maxWorkers: Expected `int` >= 1"),
        (f"{SCALE}.targetBacklogPerWorker", 0, f"{SCALE}.targetBacklogPerWorker: Expected `float` > 0"),
        (f"{SCALE}.cooldownSeconds", float("inf"), f"{SCALE}.cooldownSeconds: Expected `float` <= 604800"),
        (f"{SCALE}.downThreshold", float("nan"), f"{SCALE}.downThreshold: Expected `float` >= 0"),
        (f"{SCALE}.downThreshold", 1, f"{SCALE}: downThreshold (1) must be below upThreshold (1)"),
        (f"{SCALE}.policy", "magic", f"{SCALE}.policy: Invalid enum value 'magic'"),
        (
            f"{SCALE}.minworkers",
            1,
            f"{SCALE}: unknown field `minworkers`; known are policy, sloSeconds, sloQuantile",
        ),
        (f"{SCALE}.metricMaxAgeSeconds", 5, f"{SCALE}.metricMaxAgeSeconds (5) must be above tickSeconds (5)"),
        (f"{POOL}.queues", [], f"{POOL}.queues: Expected `array` of length >= 1"),
        (f"{POOL}.queues", ["a", "a"], f"{POOL}: queues: 'a' is named twice"),
        (f"{POOL}.queues", ["a.dlq"], f"{POOL}: queues: 'a.dlq' holds no tasks for workers"),
        (f"{POOL}.queues", ["a,b"], f"{POOL}: queues: 'a,b' holds no tasks for workers"),
        (f"{POOL}.queues", ..., f"{POOL}: Object missing required field `queues`"),
        (f"{POOL}.queue", "a", f"{POOL}: unknown field `queue`; known are queues, vhost, concurrency"),
        (f"{POOL}.concurrency", 0, f"{POOL}.concurrency: Expected `int` >= 1"),
        (f"{POOL}.poolType", "solo", f"{POOL}.poolType: Invalid enum value 'solo'"),
        ("actuator.concurrency", 2, "actuator: unknown field `concurrency`; known are "),
        ("worker.pools.Big", {"queues": ["a"]}, "worker.pools: Expected `str` matching regex"),
        ("worker.pools", {}, "worker.pools: Expected `object` of length >= 1"),
        ("worker.extra", 1, "worker: unknown field `extra`; known are pools"),
        ("actuator.kind", "magic", "actuator.kind: Invalid value 'magic'"),
        ("actuator.ports.from", 70000, "actuator.ports.from: Expected `int` <= 65535"),
        ("actuator.ports.to", 17000, "actuator.ports: from (17100) must not be above to (17000)"),
        ("actuator.ports.to", 17110, "actuator.ports: 11 ports are too few for 20 workers"),
        ("actuator.ports.too", 1, "actuator.ports: unknown field `too`; known are from, to"),
        ("actuator.command", [], "actuator.command: Expected `array` of length >= 1"),
        ("port", 0, "port: Expected `int` >= 1"),
        ("tickSeconds", 0, "tickSeconds: Expected `float` > 0"),
        ("mode", "off", "mode: Invalid enum value 'off'; known are act, dryRun, advise"),
        (
            f"{POOL}.queues",
            ["mine", "gpu"],
            "worker.pools.gpu.queues: 'gpu' is a queue of the pool 'default' too; its backlog can call",
        ),
        (
            "prometheusUrl",
            "127.0.0.1:9090",
            "prometheusUrl: '127.0.0.1:9090' must look like http://HOST:PORT",
        ),
        ("prometheusUrl", "http://prometheus:99999", "prometheusUrl: 'http://prometheus:99999' must look"),
        ("prometheusUrl", "http://[::1", "prometheusUrl: 'http://[::1' must look like http://HOST:PORT"),
        ("prometheusUrl", ..., "Object missing required field `prometheusUrl`"),
        ("prometheusURL", "x", "unknown field `prometheusURL`; known are prometheusUrl, worker, actuator"),
    ],
)
def test_a_wrong_key_is_named_in_one_line(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parsed(**{key: value})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"worker: [", "not YAML: "), (b"", "Expected `object`, got `null`"), (b"\xff\xfe\x00", "not YAML: ")],
)
def test_what_is_no_configuration_at_all_is_said_in_one_line(text: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_the_message_names_the_pool_that_is_wrong_and_not_the_first() -> None:
    with pytest.raises(ConfigError, match=r"^worker\.pools\.gpu\.autoscale\.maxWorkers: "):
        parsed(**{"worker.pools.gpu.autoscale": {"maxWorkers": "x"}})


KUBERNETES = {
    "kind": "kubernetes",
    "namespace": "kit",
    "lease": "kit-autoscaler",
    "deployments": {"default": "kit-worker-default", "gpu": "kit-worker-gpu"},
}


def test_workers_may_be_the_pods_of_deployments() -> None:
    actuator = parsed(actuator=KUBERNETES).actuator
    assert isinstance(actuator, Kubernetes)
    assert (actuator.worker_port, actuator.deployments["gpu"]) == (8001, "kit-worker-gpu")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("namespace", ..., "actuator: Object missing required field `namespace`"),
        ("namespace", "Kit", "actuator.namespace: Expected `str` matching regex"),
        ("lease", "", "actuator.lease: Expected `str` matching regex"),
        ("workerPort", 0, "actuator.workerPort: Expected `int` >= 1"),
        ("ports", {}, "actuator: unknown field `ports`; known are namespace, lease, deployments, workerPort"),
        ("deployments", {}, "actuator.deployments: Expected `object` of length >= 1"),
        ("deployments", {"default": "a"}, "actuator.deployments: must name the Deployment of the pool 'gpu'"),
        (
            "deployments",
            {"default": "a", "gpu": "A"},
            "actuator.deployments.gpu: Expected `str` matching regex",
        ),
        ("deployments", {"default": "a", "gpu": "a"}, "actuator.deployments: 'a' is named for two pools"),
    ],
)
def test_a_wrong_key_of_the_cluster_is_named_in_one_line(key: str, value: Any, message: str) -> None:
    actuator = {k: v for k, v in (KUBERNETES | {key: value}).items() if v is not ...}
    with pytest.raises(ConfigError) as error:
        parsed(actuator=actuator)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_queues_of_the_same_name_on_two_virtual_hosts_are_two() -> None:
    pools = {"a": {"queues": ["q"], "vhost": "one"}, "b": {"queues": ["q"], "vhost": "two"}}
    assert set(parsed(**{"worker.pools": pools}).worker.pools) == {"a", "b"}
