"""Secrets: given, taken over or made, the same for all who need them, and nowhere else."""

import base64
import hashlib

import pytest

from tests.chart.cases import CASES
from tests.chart.render import GIVEN

KEYS = {
    "kit-rabbitmq": {"username", "password", "erlang-cookie"},
    "kit-mysql": {"username", "password", "root-password", "exporter-password"},
    "kit-gateway": {"api-key", "api-keys"},
    "kit-worker": {"drain-token"},
    "kit-flower": {"username", "password"},
    "kit-grafana": {"admin-user", "admin-password"},
}
BROKER = {"kit-gateway/gateway", "kit-worker-default/worker", "kit-flower/flower"}
DATABASE = BROKER | {"kit-gateway/schema", "kit-worker-default/schema", "kit-test/test"}
READERS = {
    ("kit-rabbitmq", "username"): BROKER | {"kit-rabbitmq/rabbitmq"},
    ("kit-rabbitmq", "password"): BROKER | {"kit-rabbitmq/rabbitmq"},
    ("kit-mysql", "username"): DATABASE | {"kit-mysql/mysql"},
    ("kit-mysql", "password"): DATABASE | {"kit-mysql/mysql"},
    ("kit-mysql", "root-password"): {"kit-mysql/mysql"},
    ("kit-mysql", "exporter-password"): {"kit-mysql/mysql", "kit-mysql/exporter"},
    ("kit-gateway", "api-keys"): {"kit-gateway/gateway"},
    ("kit-gateway", "api-key"): {"kit-test/test"},
    ("kit-worker", "drain-token"): {"kit-worker-default/worker", "kit-autoscaler/autoscaler"},
    ("kit-flower", "username"): {"kit-flower/flower", "kit-test/test"},
    ("kit-flower", "password"): {"kit-flower/flower", "kit-test/test"},
    ("kit-grafana", "admin-user"): {"kit-grafana/grafana"},
    ("kit-grafana", "admin-password"): {"kit-grafana/grafana"},
}


def read_by(objects):
    """Which containers get which key of which Secret as a variable."""
    readers = {}
    for path, container in objects.containers():
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                readers.setdefault((reference["name"], reference["key"]), set()).add(path)
    return readers


def decoded(objects, name):
    data = objects.get("Secret", name)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def test_each_key_is_read_by_those_who_need_it_and_nobody_else(kit):
    assert read_by(kit) == READERS


def test_there_is_a_secret_for_each_component_that_needs_one(kit):
    assert {o["metadata"]["name"]: set(o["data"]) for o in kit.of("Secret")} == KEYS


def test_secrets_outlive_the_release(kit):
    for secret in kit.of("Secret"):
        assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_what_is_given_is_taken(kit):
    assert decoded(kit, "kit-rabbitmq") == {
        "username": "celerykit",
        "password": "canary-rabbitmq",
        "erlang-cookie": "canary-cookie",
    }
    digest = hashlib.sha256(b"canary-api-key").hexdigest()
    assert decoded(kit, "kit-gateway") == {"api-key": "canary-api-key", "api-keys": f"default:{digest}"}


def test_what_is_not_given_is_random_and_long(helm):
    objects = helm.render({})
    made = [
        value
        for name in KEYS
        for key, value in decoded(objects, name).items()
        if not key.endswith(("username", "user", "api-keys"))
    ]
    assert len(made) == len(set(made)) == 9
    assert all(len(value) == 32 and value.isalnum() for value in made)
    key = decoded(objects, "kit-gateway")
    assert key["api-keys"] == "default:" + hashlib.sha256(key["api-key"].encode()).hexdigest()


@pytest.mark.parametrize("password", ["p@ss:/#% '\"\\$(X)`", "pä§wörd", " leading", "0123", "true", "null"])
def test_any_password_arrives_as_it_was_given(helm, password):
    objects = helm.render({"mysql": {"auth": {"password": password}}})
    assert decoded(objects, "kit-mysql")["password"] == password


def test_no_secret_is_anywhere_but_in_a_secret(kit):
    for object_ in kit:
        if object_["kind"] != "Secret":
            assert "canary" not in str(object_), object_["metadata"]["name"]


def test_secrets_of_the_user_take_the_place_of_all(helm):
    objects = helm.render(CASES["own secrets"])
    assert not objects.of("Secret")
    assert {name for name, _ in read_by(objects)} == {"own"}
    cookie = objects.get("StatefulSet", "kit-rabbitmq")["spec"]["template"]["spec"]["volumes"]
    assert [volume["secret"]["secretName"] for volume in cookie if "secret" in volume] == ["own"]


def test_without_keys_the_gateway_has_no_secret(helm):
    objects = helm.render(GIVEN, {"gateway": {"auth": {"enabled": False}}})
    assert "kit-gateway" not in {secret["metadata"]["name"] for secret in objects.of("Secret")}
    assert ("kit-gateway", "api-key") not in read_by(objects)
