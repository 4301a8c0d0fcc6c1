"""Every setting and key refuses what it cannot be, in one line that names it; none is left out."""

import copy
import math
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import pytest

from autoscaler import config
from celerykit.settings import PREFIX, Settings, SettingsError, load
from gateway import catalogue
from gateway.settings import GatewaySettings
from worker.settings import WorkerSettings

REQUIRED = {"broker_url": "amqp://u:p@h:1/v", "database_url": "mysql://u:p@h:1/d"}
PROGRAMS = [
    (Settings, PREFIX),
    (WorkerSettings, f"{PREFIX}WORKER_"),
    (GatewaySettings, f"{PREFIX}GATEWAY_"),
]
GOOD = {
    "prometheusUrl": "http://h:1",
    "worker": {"pools": {"p": {"queues": ["q"], "autoscale": {}}}},
}
ACTUATORS: list[dict[str, Any]] = [
    {
        "kind": "processes",
        "directory": "d",
        "command": ["c"],
        "logDirectory": "l",
        "ports": {"from": 1, "to": 100},
        "host": "h",
    },
    {"kind": "kubernetes", "namespace": "n", "lease": "l", "deployments": {"p": "d"}, "workerPort": 1},
]


def bare(kind: Any) -> Any:
    """A type without its annotations."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def settings():
    """Every setting that is more than a text."""
    for kind, prefix in PROGRAMS:
        for field in msgspec.structs.fields(kind):
            if bare(field.type) in (int, float, bool) or get_origin(bare(field.type)) is Literal:
                yield pytest.param(kind, prefix, field.name, id=prefix + field.name.upper())


def keys(kind: Any, path: tuple[str, ...] = ()):
    """Every key of the autoscaler's file, as a path."""
    for field in msgspec.structs.fields(kind):
        below, key = bare(field.type), (*path, field.encode_name)
        if isinstance(below, UnionType):
            for section in get_args(below):
                yield from keys(section, key)
        elif get_origin(below) is dict and bare(get_args(below)[1]) is not str:
            yield from keys(bare(get_args(below)[1]), (*key, "p"))
        elif isinstance(below, type) and issubclass(below, msgspec.Struct):
            yield from keys(below, key)
        else:
            yield key


@pytest.mark.parametrize(("kind", "prefix", "name"), list(settings()))
def test_a_setting_refuses_what_it_cannot_be(kind, prefix, name):
    variable = prefix + name.upper()
    good = {PREFIX + field.upper(): value for field, value in REQUIRED.items()} if kind is Settings else {}
    with pytest.raises(SettingsError) as refused:
        load(kind, good | {variable: "?"}, prefix=prefix)
    assert str(refused.value).startswith(f"{variable}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", list(keys(config.Config)), ids=".".join)
def test_a_key_of_the_autoscaler_refuses_what_it_cannot_be(path):
    text: dict[str, Any] = copy.deepcopy(GOOD | {"actuator": ACTUATORS[0]})
    if path[0] == "actuator":
        text["actuator"] = copy.deepcopy(next(good for good in ACTUATORS if path[1] in good))
    section: Any = text
    for key in path[:-1]:
        section = section.setdefault(key, {})
    section[path[-1]] = {"no": ["such"]}
    with pytest.raises(config.ConfigError) as refused:
        config.parse(msgspec.yaml.encode(text))
    assert str(refused.value).startswith(".".join(path))
    assert "\n" not in str(refused.value)


POOL = "worker.pools.p"
SCALE = f"{POOL}.autoscale"
PROCESSES, KUBERNETES = ACTUATORS
NO_TASKS = "holds no tasks for workers"
BAD_VALUES = [
    # key, value, where the error says it is, and what would be right
    (f"{SCALE}.policy", "luck", f"{SCALE}.policy", "known are slo, threshold"),
    (f"{SCALE}.minWorkers", -1, f"{SCALE}.minWorkers", ">= 0"),
    (f"{SCALE}.minWorkers", 11, SCALE, "minWorkers (11) must not be above maxWorkers (10)"),
    (f"{SCALE}.maxWorkers", 0, f"{SCALE}.maxWorkers", ">= 1"),
    (f"{SCALE}.maxWorkers", 1.5, f"{SCALE}.maxWorkers", "`int`"),
    (f"{SCALE}.targetBacklogPerWorker", 0, f"{SCALE}.targetBacklogPerWorker", "> 0"),
    (f"{SCALE}.upThreshold", 0, f"{SCALE}.upThreshold", "> 0"),
    (f"{SCALE}.upThreshold", -1, f"{SCALE}.upThreshold", "> 0"),
    (f"{SCALE}.upThreshold", math.inf, f"{SCALE}.upThreshold", "<= 1000"),
    (f"{SCALE}.upThreshold", math.nan, f"{SCALE}.upThreshold", "> 0"),
    (f"{SCALE}.upThreshold", 0.5, SCALE, "downThreshold (0.5) must be below upThreshold (0.5)"),
    (f"{SCALE}.downThreshold", 1.5, SCALE, "downThreshold (1.5) must be below upThreshold (1)"),
    (f"{SCALE}.downThreshold", -0.1, f"{SCALE}.downThreshold", ">= 0"),
    (f"{SCALE}.downWindowSeconds", -1, f"{SCALE}.downWindowSeconds", ">= 0"),
    (f"{SCALE}.cooldownSeconds", -1, f"{SCALE}.cooldownSeconds", ">= 0"),
    (f"{SCALE}.metricMaxAgeSeconds", 5, f"{SCALE}.metricMaxAgeSeconds", "must be above tickSeconds (5)"),
    (f"{SCALE}.metricMaxAgeSeconds", -1, f"{SCALE}.metricMaxAgeSeconds", "> 0"),
    (f"{SCALE}.drainTimeoutSeconds", 0, f"{SCALE}.drainTimeoutSeconds", "> 0"),
    (f"{SCALE}.drainTimeoutSeconds", 604801, f"{SCALE}.drainTimeoutSeconds", "<= 604800"),
    (f"{POOL}.queues", [], f"{POOL}.queues", "length >= 1"),
    (f"{POOL}.queues", [""], f"{POOL}.queues[0]", "length >= 1"),
    (f"{POOL}.queues", ["q", "q"], POOL, "queues: 'q' is named twice"),
    *((f"{POOL}.queues", [name], POOL, NO_TASKS) for name in ("a.dlq", "a.dlx", "gw.a", "amq.a", "a,b")),
    (f"{POOL}.queues", ["celery_delayed_1"], POOL, NO_TASKS),
    (f"{POOL}.queues", ["ä" * 126], POOL, "no more than 251 bytes"),
    (f"{POOL}.vhost", "", f"{POOL}.vhost", "length >= 1"),
    (f"{POOL}.concurrency", 0, f"{POOL}.concurrency", ">= 1"),
    (f"{POOL}.poolType", "solo", f"{POOL}.poolType", "known are prefork, threads, gevent"),
    ("worker.pools", {}, "worker.pools", "length >= 1"),
    ("worker.pools", {"No_Label": {"queues": ["q"]}}, "worker.pools", "matching regex"),
    ("tickSeconds", 0, "tickSeconds", "> 0"),
    ("tickSeconds", 61, "tickSeconds", "<= 60"),
    ("tickSeconds", 30, f"{SCALE}.metricMaxAgeSeconds", "must be above tickSeconds (30)"),
    ("host", "", "host", "length >= 1"),
    ("port", 0, "port", ">= 1"),
    ("port", 65536, "port", "<= 65535"),
    ("prometheusUrl", "h:1", "prometheusUrl", "must look like http://HOST:PORT"),
    ("prometheusUrl", "http://h:65536", "prometheusUrl", "must look like http://HOST:PORT"),
    ("prometheusLabels", {"no-label": "x"}, "prometheusLabels", "matching regex"),
    ("actuator", PROCESSES | {"kind": "magic"}, "actuator.kind", "known are processes, kubernetes"),
    ("actuator", PROCESSES | {"command": []}, "actuator.command", "length >= 1"),
    ("actuator", PROCESSES | {"ports": {"from": 2, "to": 1}}, "actuator.ports", "from (2) must not be above"),
    ("actuator", PROCESSES | {"ports": {"from": 1, "to": 9}}, "actuator.ports", "too few for 10 workers"),
    ("actuator", KUBERNETES | {"namespace": "No_Name"}, "actuator.namespace", "matching regex"),
    ("actuator", KUBERNETES | {"deployments": {}}, "actuator.deployments", "length >= 1"),
    ("actuator", KUBERNETES | {"deployments": {"o": "d"}}, "actuator.deployments", "of the pool 'p'"),
    ("actuator", KUBERNETES | {"workerPort": 0}, "actuator.workerPort", ">= 1"),
]


@pytest.mark.parametrize(
    ("key", "value", "where", "right"), BAD_VALUES, ids=[f"{bad[0]}={bad[1]}" for bad in BAD_VALUES]
)
def test_a_value_out_of_its_range_is_refused_with_its_key_and_what_would_be_right(key, value, where, right):
    text: dict[str, Any] = copy.deepcopy(GOOD | {"actuator": PROCESSES})
    section: Any = text
    *path, last = key.split(".")
    for step in path:
        section = section[step]
    section[last] = value
    with pytest.raises(config.ConfigError) as refused:
        config.parse(msgspec.yaml.encode(text))
    assert str(refused.value).startswith(where)
    assert right in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("actuator", ACTUATORS, ids=lambda actuator: actuator["kind"])
def test_the_keys_above_are_good_where_nothing_is_wrong(actuator):
    good = config.parse(msgspec.yaml.encode(GOOD | {"actuator": actuator}))
    assert good.worker.pools["p"].queues == ("q",)


@pytest.mark.parametrize("field", msgspec.structs.fields(catalogue.Task), ids=lambda field: field.encode_name)
def test_a_key_of_the_catalogue_refuses_what_it_cannot_be(field, tmp_path):
    file = tmp_path / "catalogue.yaml"
    entry = {"queue": "q", field.encode_name: ["wrong"]}
    file.write_bytes(msgspec.yaml.encode({"tasks": {"t": entry}}))
    with pytest.raises(catalogue.CatalogueError) as refused:
        catalogue.load(file)
    assert f"tasks.t.{field.encode_name}: " in str(refused.value)
    assert "\n" not in str(refused.value)
