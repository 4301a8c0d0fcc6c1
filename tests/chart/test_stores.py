"""RabbitMQ and MySQL: limits that fit their pods, probes that do no harm, or stores of the user's own."""

import subprocess
from decimal import Decimal

import pytest

from celerykit.settings import Database, Settings, load
from tests.chart.cases import CASES
from tests.chart.render import GIVEN

UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "M": 10**6, "G": 10**9, "": 1}


def in_bytes(quantity):
    number = quantity.rstrip("KMGTik")
    return int(Decimal(number) * UNITS[quantity.removeprefix(number)])


def rabbitmq_config(objects):
    lines = objects.data("kit-rabbitmq")["kit.conf"].splitlines()
    pairs = (line.split(" = ") for line in lines if line and not line.startswith("#"))
    return dict(pairs)


@pytest.mark.parametrize("memory", ["512Mi", "1Gi", "1.5Gi", "800M", "2G", "786432Ki", "536870912"])
@pytest.mark.parametrize("size", ["8Gi", "1Gi", "0.5G"])
@pytest.mark.behaviour("C16")
def test_the_brokers_watermarks_follow_from_its_limits(helm, memory, size):
    values = {"rabbitmq": {"resources": {"limits": {"memory": memory}}, "persistence": {"size": size}}}
    config = rabbitmq_config(helm.render(GIVEN, values))
    assert int(config["vm_memory_high_watermark.absolute"]) == int(in_bytes(memory) * 0.6)
    assert int(config["disk_free_limit.absolute"]) == min(in_bytes(memory), in_bytes(size) // 2)


@pytest.mark.behaviour("C16")
def test_a_limit_in_plain_bytes_is_a_number_as_well(each_helm):
    values = {"rabbitmq": {"resources": {"limits": {"memory": 2**30}}}}
    config = rabbitmq_config(each_helm.render(GIVEN, values))
    assert int(config["vm_memory_high_watermark.absolute"]) == int(2**30 * 0.6)
    assert int(config["disk_free_limit.absolute"]) == 2**30


def test_a_large_buffer_is_written_out(helm):
    config = helm.render(GIVEN, {"mysql": {"bufferPoolMiB": 2**20}}).data("kit-mysql")["kit.cnf"]
    assert "innodb_buffer_pool_size = 1048576M\n" in config


def test_the_broker_waits_longer_for_an_acknowledgement_than_a_task_may_take(kit):
    limit = kit.variables("kit-worker-default/worker")["CELERYKIT_TASK_TIME_LIMIT"]
    assert int(rabbitmq_config(kit)["consumer_timeout"]) / 1000 >= int(limit) + 60


def test_more_lines_of_the_user_come_last(helm):
    config = rabbitmq_config(helm.render(GIVEN, CASES["much"]))
    assert list(config)[-1] == "heartbeat"


@pytest.mark.behaviour("C16")
def test_the_broker_is_probed_without_being_asked_anything_and_never_killed_for_it(kit):
    broker = kit.container("kit-rabbitmq/rabbitmq")
    assert "livenessProbe" not in broker
    assert broker["readinessProbe"]["tcpSocket"] == broker["startupProbe"]["tcpSocket"] == {"port": "amqp"}
    assert kit.get("StatefulSet", "kit-rabbitmq")["spec"]["podManagementPolicy"] == "Parallel"


@pytest.mark.behaviour("S9")
def test_the_login_of_the_programs_watches_the_broker_and_does_not_rule_it(kit):
    tags = {key: value for key, value in rabbitmq_config(kit).items() if key.startswith("default_user_tags")}
    assert tags == {"default_user_tags.monitoring": "true"}


@pytest.mark.behaviour("S9")
def test_the_brokers_first_user_is_ours_and_not_guest(kit):
    variables = kit.variables("kit-rabbitmq/rabbitmq")
    assert {"RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS"} <= set(variables)
    assert "guest" not in str([*kit])


def test_the_brokers_name_stays_when_more_nodes_join(kit):
    name = kit.variables("kit-rabbitmq/rabbitmq")["RABBITMQ_NODENAME"]
    assert name == "rabbit@$(POD_NAME).kit-rabbitmq-headless.team.svc.cluster.local"


@pytest.mark.behaviour("C17")
def test_mysql_is_probed_by_tcp(kit):
    mysql = kit.container("kit-mysql/mysql")
    for probe in ("startupProbe", "readinessProbe"):
        assert "--host=127.0.0.1" in mysql[probe]["exec"]["command"][-1]
    assert mysql["livenessProbe"]["tcpSocket"] == {"port": "mysql"}
    assert mysql["startupProbe"]["periodSeconds"] * mysql["startupProbe"]["failureThreshold"] >= 300


@pytest.mark.behaviour("C17")
def test_root_comes_into_mysql_from_within_its_pod_only(kit):
    assert kit.variables("kit-mysql/mysql")["MYSQL_ROOT_HOST"] == "localhost"
    told = {
        path.partition("/")[0] for path, container in kit.containers() if "root-password" in str(container)
    }
    assert told == {"kit-mysql"}


def test_the_exporter_does_not_decide_whether_mysql_is_ready(kit):
    exporter = kit.container("kit-mysql/exporter")
    assert not {"readinessProbe", "startupProbe"} & set(exporter)
    assert "password" not in str(exporter["args"])


@pytest.mark.parametrize(
    "password", ["plain", "it's", 'a"b', "back\\slash", "\\'; DROP", "$(id) `id` $HOME", "p@ss:/#%"]
)
def test_any_password_of_the_exporter_survives_shell_and_sql(kit, tmp_path, password):
    script = kit.container("kit-mysql/keeper")["command"][-1]
    for client, does in {"mysqladmin": "true", "mysql": "cat\nkill $PPID"}.items():
        (tmp_path / client).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / client).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "EXPORTER_PASSWORD": password},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    assert f"IDENTIFIED BY '{quoted}' WITH MAX_USER_CONNECTIONS 3;" in done.stdout
    assert "GRANT PROCESS, REPLICATION CLIENT ON *.* TO 'exporter'@'127.0.0.1';" in done.stdout


@pytest.mark.parametrize("store", ["rabbitmq", "mysql"])
def test_names_of_digits_stay_text(helm, store):
    values = {
        "global": {"imagePullSecrets": ["123"]},
        "mysql": {"database": "123"},
    }
    own = {store: {"auth": {"existingSecret": "123"}, "persistence": {"storageClass": "123"}}}
    objects = helm.render(GIVEN, values, own)
    spec = objects.get("StatefulSet", f"kit-{store}")["spec"]
    assert spec["template"]["spec"]["imagePullSecrets"] == [{"name": "123"}]
    assert spec["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "123"
    assert objects.variables("kit-mysql/mysql")["MYSQL_DATABASE"] == "123"
    for path, container in objects.containers():
        for variable in container.get("env", []):
            reference = variable.get("valueFrom", {}).get("secretKeyRef", {"name": ""})
            assert isinstance(reference["name"], str), path


@pytest.mark.parametrize("store", ["rabbitmq", "mysql"])
def test_volumes_are_claimed_unless_they_are_given_or_not_wanted(helm, store):
    def data(**persistence):
        """The claim that is made, and the volume that is named."""
        values = {store: {"persistence": persistence}}
        spec = helm.render(GIVEN, values).get("StatefulSet", f"kit-{store}")["spec"]
        volumes = [v for v in spec["template"]["spec"]["volumes"] if v["name"] == "data"]
        return [claim["spec"] for claim in spec.get("volumeClaimTemplates", [])], volumes

    assert data(size="3Gi", storageClass="fast") == (
        [
            {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "fast",
                "resources": {"requests": {"storage": "3Gi"}},
            }
        ],
        [],
    )
    assert data(existingClaim="old") == (
        [],
        [{"name": "data", "persistentVolumeClaim": {"claimName": "old"}}],
    )
    assert data(enabled=False) == ([], [{"name": "data", "emptyDir": {}}])


@pytest.mark.behaviour("C28")
def test_stores_of_the_user_take_the_place_of_ours(helm):
    objects = helm.render(GIVEN, CASES["external"])
    components = {o["metadata"]["labels"]["app.kubernetes.io/component"] for o, _ in objects.pods()}
    assert components == {"gateway", "worker", "autoscaler", "flower", "test"}
    worker = objects.variables("kit-worker-default/worker")
    assert worker["CELERYKIT_BROKER_URL"] == "amqp://broker.example:5672/%2Fteam%20a"
    assert worker["CELERYKIT_DATABASE_URL"] == "mysql://db.example:3306/tasks"
    flower = objects.variables("kit-flower/flower")
    assert flower["CELERYKIT_FLOWER_BROKER_API"] == "http://broker.example:15672/api/"
    config = objects.data("kit-autoscaler")["autoscaler.yaml"]
    assert "vhost: /team a" in config
    assert "prometheusUrl: http://prometheus.example:9090" in config


@pytest.mark.parametrize("case", ["default", "external"])
@pytest.mark.parametrize("password", ["p@ss:/#%", "plain"])
@pytest.mark.behaviour("C28")
def test_the_programs_accept_the_addresses_with_any_password(helm, case, password):
    variables = helm.render(GIVEN, CASES[case]).variables("kit-gateway/gateway")
    login = {name: password for name in variables if name.endswith(("USERNAME", "PASSWORD"))}
    environ = {name: value for name, value in variables.items() if value is not None} | login
    assert load(Settings, environ).broker_url.startswith("amqp://p")
    assert load(Database, environ).database_url.startswith("mysql://p")
