"""Stores that are releases of their own, with TLS alone and awkward passwords, and a kit that uses them."""

import base64
import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.certificates import Authority
from tests.e2e.cluster import CHART, RELEASE, Kit, eventually
from tests.e2e.conftest import FLAGS

AWKWARD = 'p@ss:/#%&+ $HOME"{}"'
SECRETS = ("broker", "cookie", "db", "root", "exporter", "flower")
CANARIES = {name: AWKWARD.format(f"canary-{name}") for name in SECRETS} | {"key": "p@ss:/#%-canary-key"}
pytestmark = pytest.mark.timeout(600)  # three releases come and go
# beside another kit
SMALL = {"requests": {"cpu": "10m", "memory": "64Mi"}}
EXTERNAL = {
    "rabbitmq": {
        "enabled": False,
        "external": {
            "host": "broker-rabbitmq",
            "existingSecret": "broker-login",
            "managementUrl": "https://broker-rabbitmq:15671",
            "metricsUrl": "http://broker-rabbitmq-headless:15692",
            "tls": {"enabled": True, "caSecret": "stores-ca"},
        },
    },
    "mysql": {
        "enabled": False,
        "external": {
            "host": "db-mysql",
            "existingSecret": "db-login",
            "tls": {"enabled": True, "caSecret": "stores-ca"},
        },
    },
    "gateway": {"auth": {"apiKey": CANARIES["key"]}, "resources": SMALL},
    "flower": {"auth": {"password": CANARIES["flower"]}, "resources": SMALL},
    "worker": {"resources": SMALL},
    "prometheus": {"resources": SMALL},
}
PLAIN_BROKER = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 5672), 5)
except OSError as error:
    print(type(error).__name__)
"""
PLAIN_DATABASE = """
import os, pymysql
try:
    pymysql.connect(host="db-mysql", user=os.environ["CELERYKIT_DATABASE_USERNAME"],
                    password=os.environ["CELERYKIT_DATABASE_PASSWORD"], ssl_disabled=True)
except pymysql.MySQLError as error:
    print(error.args[0])
"""


def secret(kit: Kit, name: str, kind: str = "Opaque", **data: str | bytes) -> None:
    """Apply a Secret; in the names of its keys, `_` stands for a dash and `__` for a dot."""
    encoded = {
        key.replace("__", ".").replace("_", "-"): base64.b64encode(
            value if isinstance(value, bytes) else value.encode()
        ).decode()
        for key, value in data.items()
    }
    made = {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": name}, "data": encoded}
    kit.cluster.kubectl("-n", kit.namespace, "apply", "-f", "-", text=json.dumps(made))


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Whom the stores' clients trust."""
    return Authority()


def certify(kit: Kit, authority: Authority, name: str, host: str) -> None:
    certificate, key = authority.issue(host)
    secret(kit, name, "kubernetes.io/tls", tls__crt=certificate, tls__key=key, ca__crt=authority.certificate)


@pytest.fixture(scope="module")
def external(cluster, authority, tmp_path_factory) -> Iterator[Kit]:
    """A kit whose stores are two more releases beside it."""
    kit = Kit(cluster, "helm3", f"e2e-{uuid.uuid4().hex[:6]}")

    def values(name: str, content: object) -> str:
        file = tmp_path_factory.mktemp("values") / f"{name}.json"
        file.write_text(json.dumps(content))
        return f"--values={file}"

    try:
        cluster.namespace(kit.namespace)
        secret(kit, "broker-login", username="team", password=CANARIES["broker"],
               erlang_cookie=CANARIES["cookie"])  # fmt: skip
        secret(kit, "db-login", username="team", password=CANARIES["db"],
               root_password=CANARIES["root"], exporter_password=CANARIES["exporter"])  # fmt: skip
        secret(kit, "stores-ca", ca__crt=authority.certificate)
        for release, chart in (("broker", "rabbitmq"), ("db", "mysql")):
            certify(kit, authority, f"{release}-tls", f"{release}-{chart}")
            own = {
                "auth": {"existingSecret": f"{release}-login"},
                "tls": {"enabled": True, "existingSecret": f"{release}-tls"},
                "resources": SMALL,
            }
            kit.run_helm("install", release, str(CHART / "charts" / chart), values(release, own))
        kit.install(*FLAGS, values(RELEASE, EXTERNAL))
        yield kit
    finally:
        kit.close()
        with suppress(subprocess.CalledProcessError):
            # while there is a broker, the workers end sooner
            kit.run_helm("uninstall", RELEASE, "--wait", seconds=120)
        cluster.remove_namespace(kit.namespace)


def in_gateway(kit: Kit, program: str, *arguments: str) -> str:
    where = f"deployment/{RELEASE}-gateway"
    return kit.kubectl("exec", where, "-c", "gateway", "--", "python", "-c", program, *arguments).strip()


@pytest.mark.behaviour("C28", "C37", "S11")
def test_a_task_goes_all_the_way_over_tls_with_awkward_passwords(external):
    said = external.run_helm("test", RELEASE, seconds=300)
    assert re.search(r"Phase: +Succeeded", said)
    answer = external.gateway("/v1/tasks/task.echo", "POST", {"args": ["hello"]}, Prefer="wait=30")
    assert (answer.status, answer.json["result"]) == (200, "hello")


@pytest.mark.behaviour("S11")
def test_flower_asks_the_brokers_management_over_tls(external):
    def queues() -> list[str]:
        return [queue["name"] for queue in external.flower("/api/queues/length").json["active_queues"]]

    eventually(lambda: queues() == ["default"], 30, "the queue")


@pytest.mark.behaviour("S11")
def test_without_tls_neither_store_lets_anybody_in(external):
    address = external.get("pod", "broker-rabbitmq-0")["status"]["podIP"]
    assert in_gateway(external, PLAIN_BROKER, address) == "ConnectionRefusedError"
    assert in_gateway(external, PLAIN_DATABASE) == "3159"  # ER_SECURE_TRANSPORT_REQUIRED


@pytest.mark.behaviour("C10", "C32", "S8")
def test_no_password_is_in_a_configmap_an_argument_a_log_or_the_notes(external):
    places = {
        kind: json.dumps(external.get(kind))
        for kind in ("configmaps", "pods", "deployments", "statefulsets", "events")
    }
    for pod in external.names("pods"):
        places[f"log of {pod}"] = external.kubectl("logs", pod, "--all-containers")
    for release in (RELEASE, "broker", "db"):
        places[f"notes of {release}"] = external.run_helm("get", "notes", release)
    assert places["log of broker-rabbitmq-0"]
    assert [where for where, text in places.items() if "canary" in text] == []
