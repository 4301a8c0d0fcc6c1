"""TLS of the stores: nothing but TLS is spoken, and whoever speaks it has what to trust."""

import pytest

from celerykit.settings import Database, Settings, load
from tests.chart.cases import CASES
from tests.chart.render import CHART, GIVEN, HelmError
from tests.chart.test_stores import rabbitmq_config

CLIENTS = ("kit-gateway/gateway", "kit-worker-default/worker", "kit-flower/flower")
MIGRATIONS = ("kit-gateway/schema", "kit-worker-default/schema")


def ports(objects, name):
    return {port["name"]: port["port"] for port in objects.get("Service", name)["spec"]["ports"]}


def trusted(objects, path):
    """The Secrets with CAs that a container has, by where it finds them."""
    kit = path.partition("/")[0]
    (pod,) = (pod for object_, pod in objects.pods() if object_["metadata"]["name"] == kit)
    container = objects.container(path)
    volumes = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    return {
        f"{mount['mountPath']}/{item['path']}": volumes[mount["name"]]["secretName"]
        for mount in container.get("volumeMounts", [])
        if mount["name"] in volumes
        for item in volumes[mount["name"]].get("items", [])
    }


@pytest.mark.behaviour("S11")
@pytest.mark.parametrize(("case", "secret"), [("tls", "kit-{}-tls"), ("own certificates", "own")])
def test_every_client_trusts_the_certificates_authority_and_speaks_tls_only(helm, case, secret):
    objects = helm.render(GIVEN, CASES[case])
    for path in (*CLIENTS, *MIGRATIONS, "kit-test/test"):
        variables = objects.variables(path)
        assert variables["CELERYKIT_DATABASE_URL"] == "mysqls://kit-mysql:3306/celerykit"
        if path != "kit-flower/flower":  # which never opens it
            assert trusted(objects, path)[variables["CELERYKIT_DATABASE_CA_FILE"]] == secret.format("mysql")
        if path in CLIENTS:
            assert variables["CELERYKIT_BROKER_URL"] == "amqps://kit-rabbitmq:5671/%2F"
            assert trusted(objects, path)[variables["CELERYKIT_BROKER_CA_FILE"]] == secret.format("rabbitmq")
    flower = objects.variables("kit-flower/flower")
    assert flower["CELERYKIT_FLOWER_BROKER_API"] == "https://kit-rabbitmq:15671/api/"


@pytest.mark.behaviour("S11")
def test_the_key_of_a_certificate_is_with_its_server_alone(helm):
    objects = helm.render(GIVEN, CASES["tls"])
    for object_, pod in objects.pods():
        for volume in pod.get("volumes", []):
            if volume.get("secret", {}).get("secretName", "").endswith("-tls"):
                keys = {item["key"] for item in volume["secret"].get("items", [])}
                store = object_["kind"] == "StatefulSet"
                assert keys == (set() if store else {"ca.crt"})


@pytest.mark.behaviour("S11")
def test_the_broker_listens_for_nothing_but_tls_of_today(helm):
    objects = helm.render(GIVEN, CASES["tls"])
    config = rabbitmq_config(objects)
    assert config["listeners.tcp"] == "none"
    assert config["listeners.ssl.default"] == "5671"
    assert config["management.ssl.port"] == "15671"
    assert "management.tcp.port" not in config
    for where in ("ssl_options", "management.ssl"):
        assert {config[f"{where}.versions.{n}"] for n in (1, 2)} == {"tlsv1.3", "tlsv1.2"}
    assert ports(objects, "kit-rabbitmq") == {"amqp": 5671, "management": 15671, "metrics": 15692}
    broker = objects.container("kit-rabbitmq/rabbitmq")
    assert {"name": "amqp", "containerPort": 5671} in broker["ports"]


@pytest.mark.behaviour("S11")
def test_mysql_takes_no_connection_without_tls_and_its_exporter_comes_by_it(helm):
    objects = helm.render(GIVEN, CASES["tls"])
    lines = objects.data("kit-mysql")["kit.cnf"].splitlines()
    assert "require_secure_transport = ON" in lines
    assert "tls_version = TLSv1.2,TLSv1.3" in lines
    assert "--tls.insecure-skip-verify" in objects.container("kit-mysql/exporter")["args"]


def test_mysql_is_told_of_a_certificate_that_was_renewed(helm):
    told = helm.render(GIVEN, CASES["tls"]).container("kit-mysql/keeper")
    assert "ALTER INSTANCE RELOAD TLS" in told["command"][-1]
    assert {mount["name"] for mount in told["volumeMounts"]} == {"run", "tls"}


@pytest.mark.behaviour("S11")
def test_cert_manager_makes_what_is_not_given_for_the_names_of_the_service(helm):
    objects = helm.render(GIVEN, CASES["tls"])
    assert {o["metadata"]["name"] for o in objects.of("Certificate")} == {"kit-rabbitmq", "kit-mysql"}
    spec = objects.get("Certificate", "kit-mysql")["spec"]
    assert spec["secretName"] == "kit-mysql-tls"
    assert spec["dnsNames"] == ["kit-mysql", "kit-mysql.team", "kit-mysql.team.svc"]
    assert spec["issuerRef"] == {"name": "team-ca", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    assert not helm.render(GIVEN, CASES["own certificates"]).of("Certificate")
    assert not helm.render(GIVEN, {"certManager": {"issuerRef": {"name": "ca"}}}).of("Certificate")


@pytest.mark.behaviour("S11", "C28")
def test_stores_of_the_user_are_trusted_by_a_secret_or_by_the_systems_authorities(helm):
    objects = helm.render(GIVEN, CASES["external tls"])
    for path in CLIENTS:
        variables = objects.variables(path)
        assert variables["CELERYKIT_BROKER_URL"] == "amqps://broker.example:5671/%2F"
        assert variables["CELERYKIT_DATABASE_URL"] == "mysqls://db.example:3306/celerykit"
        assert trusted(objects, path) == {variables["CELERYKIT_BROKER_CA_FILE"]: "broker-ca"}
        assert "CELERYKIT_DATABASE_CA_FILE" not in variables
    port = {"rabbitmq": {"external": {"port": 5700}}}
    gateway = helm.render(GIVEN, CASES["external tls"], port).variables("kit-gateway/gateway")
    assert gateway["CELERYKIT_BROKER_URL"] == "amqps://broker.example:5700/%2F"


@pytest.mark.behaviour("C28")
@pytest.mark.parametrize("case", ["external", "external tls"])
def test_the_programs_accept_what_the_chart_tells_them_of_stores(helm, case, monkeypatch):
    monkeypatch.setattr("celerykit.tls.context", lambda _: None)  # the file is in the pod
    variables = helm.render(GIVEN, CASES[case]).variables("kit-gateway/gateway")
    environ = {name: value for name, value in variables.items() if value is not None}
    secure = "s" if case.endswith("tls") else ""
    assert load(Settings, environ).broker_url.startswith(f"amqp{secure}://")
    assert load(Database, environ).database_url.startswith(f"mysql{secure}://")


@pytest.mark.parametrize("store", ["rabbitmq", "mysql"])
def test_a_store_alone_needs_a_certificate_that_is_given(helm, store):
    chart = CHART / "charts" / store
    with pytest.raises(HelmError, match=r"tls\.existingSecret: is required where tls\.enabled is true"):
        helm.render({"tls": {"enabled": True}}, chart=chart)
    assert helm.render({"tls": {"enabled": True, "existingSecret": "own"}}, chart=chart)
