"""Secrets: given, taken over or made, the same for all who need them, and nowhere else."""

import base64
import hashlib

import pytest

from tests.chart.cases import CASES
from tests.chart.render import CHART, GIVEN, HelmError

KEYS = {
    "kit-rabbitmq": {"username", "password", "erlang-cookie"},
    "kit-mysql": {"username", "password", "root-password", "exporter-password"},
    "kit-gateway": {"api-key", "api-keys"},
    "kit-worker": {"drain-token"},
    "kit-flower": {"username", "password"},
    "kit-grafana": {"admin-user", "admin-password"},
}
BROKER = {"kit-gateway/gateway", "kit-worker-default/worker", "kit-flower/flower"}
DATABASE = BROKER - {"kit-flower/flower"} | {
    "kit-gateway/schema",
    "kit-worker-default/schema",
    "kit-test/test",
}
READERS = {
    ("kit-rabbitmq", "username"): BROKER | {"kit-rabbitmq/rabbitmq"},
    ("kit-rabbitmq", "password"): BROKER | {"kit-rabbitmq/rabbitmq"},
    ("kit-mysql", "username"): DATABASE | {"kit-mysql/mysql"},
    ("kit-mysql", "password"): DATABASE | {"kit-mysql/mysql"},
    ("kit-mysql", "root-password"): {"kit-mysql/mysql", "kit-mysql/keeper"},
    ("kit-mysql", "exporter-password"): {"kit-mysql/keeper", "kit-mysql/exporter"},
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


@pytest.mark.behaviour("C10", "C17", "S8", "S14")
def test_each_key_is_read_by_those_who_need_it_and_nobody_else(kit):
    assert read_by(kit) == READERS


def test_there_is_a_secret_for_each_component_that_needs_one(kit):
    assert {o["metadata"]["name"]: set(o["data"]) for o in kit.of("Secret")} == KEYS


@pytest.mark.behaviour("C11", "S7")
def test_secrets_outlive_the_release(kit):
    for secret in kit.of("Secret"):
        assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.behaviour("C10", "S17")
def test_what_is_given_is_taken(kit):
    assert decoded(kit, "kit-rabbitmq") == {
        "username": "celerykit",
        "password": "canary-rabbitmq",
        "erlang-cookie": "canary-cookie",
    }
    digest = hashlib.sha256(b"canary-api-key").hexdigest()
    assert decoded(kit, "kit-gateway") == {"api-key": "canary-api-key", "api-keys": f"default:{digest}"}


@pytest.mark.behaviour("C10", "S9", "S16", "S17")
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
@pytest.mark.behaviour("C28")
def test_any_password_arrives_as_it_was_given(helm, password):
    objects = helm.render({"rabbitmq": {"auth": {"password": password}}})
    assert decoded(objects, "kit-rabbitmq")["password"] == password


@pytest.mark.behaviour("C10", "S8")
def test_no_secret_is_anywhere_but_in_a_secret(kit):
    for object_ in kit:
        if object_["kind"] != "Secret":
            assert "canary" not in str(object_), object_["metadata"]["name"]


@pytest.mark.behaviour("C10", "S7")
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


@pytest.mark.behaviour("C10", "S7")
def test_where_nothing_may_be_made_up_all_that_is_missing_is_named(helm):
    fail = {"secrets": {"onMissing": "fail"}}
    said = helm.refusal(fail)
    given = [f"{component}.auth.{key}" for component, values in GIVEN.items() for key in values["auth"]]
    assert "secrets.onMissing: is fail, and neither values nor the cluster have" in said
    assert [key for key in given if key not in said] == []
    assert helm.render(fail, GIVEN) == helm.render(GIVEN)
    assert helm.render(fail, CASES["own secrets"])
    some = helm.refusal(fail, GIVEN, {"flower": {"auth": {"password": ""}}})
    assert "have flower.auth.password: give them" in some


@pytest.mark.behaviour("C10")
def test_secrets_of_what_does_not_run_are_not_missing(helm):
    fail = {"secrets": {"onMissing": "fail"}}
    assert helm.render(
        fail,
        CASES["external"],
        {
            "gateway": {"auth": {"enabled": False}},
            "worker": {"auth": {"drainToken": "t"}},
            "flower": {"enabled": False},
        },
    )


@pytest.mark.behaviour("C10", "C4")
@pytest.mark.parametrize("key", ["password", "rootPassword"])
@pytest.mark.parametrize("password", ["it's", "back\\slash", "two\nlines"])
def test_a_password_that_mysqls_image_would_not_start_with_is_refused_and_not_told(helm, key, password):
    said = helm.refusal({"mysql": {"auth": {key: password}}})
    assert f"mysql.auth.{key}: must not hold" in said
    assert password not in said


@pytest.mark.behaviour("C4")
@pytest.mark.parametrize(
    ("component", "name"),
    [
        ("gateway", "CELERYKIT_BROKER_URL"),
        ("gateway", "CELERYKIT_GATEWAY_API_KEYS"),
        ("worker", "CELERYKIT_QUEUES"),
        ("autoscaler", "CELERYKIT_DRAIN_TOKEN"),
        ("flower", "CELERYKIT_FLOWER_BASIC_AUTH"),
    ],
)
def test_a_variable_of_the_charts_own_cannot_be_set_once_more(helm, component, name):
    said = helm.refusal(GIVEN, {component: {"extraEnv": [{"name": name, "value": "x"}]}})
    assert f"{component}.extraEnv: {name} is a variable that the chart sets itself" in said


@pytest.mark.behaviour("C4")
def test_a_pools_variables_are_looked_at_as_well_and_its_own_may_not_repeat_each_other(helm):
    twice = [{"name": "MINE", "value": "a"}, {"name": "MINE", "value": "b"}]
    pools = {"mail": {"queues": ["mail"], "extraEnv": twice}}
    assert "worker.extraEnv: MINE" in helm.refusal(GIVEN, {"worker": {"pools": pools}})
    assert helm.render(GIVEN, {"worker": {"extraEnv": twice[:1]}})


@pytest.mark.behaviour("C10")
def test_without_its_exporter_mysql_needs_no_password_of_one(helm):
    off = {"mysql": {"exporter": {"enabled": False}, "auth": {"existingSecret": "own"}}}
    assert ("own", "exporter-password") not in read_by(helm.render(GIVEN, off))


@pytest.mark.behaviour("C4")
@pytest.mark.parametrize(
    ("chart", "key"), [("rabbitmq", "external"), ("mysql", "external"), ("grafana", "ingress")]
)
def test_a_chart_that_is_installed_alone_refuses_keys_that_would_do_nothing(helm, chart, key):
    with pytest.raises(HelmError, match=f"{key}: is a key of the chart celery-kit"):
        helm.render({key: {"enabled": True}}, chart=CHART / "charts" / chart)
