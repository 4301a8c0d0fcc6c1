"""Every setting and key refuses what it cannot be, in one line that names it; none is left out."""

import copy
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
    "actuator": {
        "kind": "processes",
        "directory": "d",
        "command": ["c"],
        "logDirectory": "l",
        "ports": {"from": 1, "to": 100},
    },
}


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
        if get_origin(below) is dict:
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
    text = copy.deepcopy(GOOD)
    section: Any = text
    for key in path[:-1]:
        section = section.setdefault(key, {})
    section[path[-1]] = {"no": "such"}
    with pytest.raises(config.ConfigError) as refused:
        config.parse(msgspec.yaml.encode(text))
    assert str(refused.value).startswith(".".join(path))
    assert "\n" not in str(refused.value)


def test_the_keys_above_are_good_where_nothing_is_wrong():
    assert config.parse(msgspec.yaml.encode(GOOD)).worker.pools["p"].queues == ("q",)


@pytest.mark.parametrize("field", msgspec.structs.fields(catalogue.Task), ids=lambda field: field.encode_name)
def test_a_key_of_the_catalogue_refuses_what_it_cannot_be(field, tmp_path):
    file = tmp_path / "catalogue.yaml"
    entry = {"queue": "q", field.encode_name: ["wrong"]}
    file.write_bytes(msgspec.yaml.encode({"tasks": {"t": entry}}))
    with pytest.raises(catalogue.CatalogueError) as refused:
        catalogue.load(file)
    assert f"tasks.t.{field.encode_name}: " in str(refused.value)
    assert "\n" not in str(refused.value)
