"""Stores that are releases of their own, with TLS alone and awkward passwords, and a kit that uses them.

The kit is installed with ci/external-values.yaml; the Prometheus that they name is nowhere.
"""

import base64
import json
import re
import ssl
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import yaml

from tests.certificates import Authority
from tests.e2e.cluster import CHART, RELEASE, Kit, eventually, passing
from tests.e2e.conftest import FLAGS

AWKWARD = 'p@ss:/#%&+ $HOME"{}"'
SECRETS = ("broker", "cookie", "db", "root", "exporter", "flower")
CANARIES = {name: AWKWARD.format(f"canary-{name}") for name in SECRETS} | {"key": "p@ss:/#%-canary-key"}
pytestmark = pytest.mark.timeout(600)  # three releases come and go
# beside another kit
SMALL = {"requests": {"cpu": "10m", "memory": "64Mi"}}
PROFILE = CHART / "ci/external-values.yaml"
BROKER, DATABASE = (yaml.safe_load(PROFILE.read_text())[store]["external"] for store in ("rabbitmq", "mysql"))
OURS = {
    "rabbitmq": {"external": {"host": "broker-rabbitmq", "managementUrl": "https://broker-rabbitmq:15671"}},
    "mysql": {"external": {"host": "db-mysql"}},
    "gateway": {"auth": {"apiKey": CANARIES["key"]}, "resources": SMALL},
    "flower": {"auth": {"password": CANARIES["flower"]}, "resources": SMALL},
    "worker": {"resources": SMALL},
}
RENEWAL_SECONDS = 300  # the kubelet, and then RabbitMQ, take up to two minutes each
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
BROKERS_CERTIFICATE = "import ssl; print(ssl.get_server_certificate(('broker-rabbitmq', 5671)))"
DATABASES_CERTIFICATE = """
import os, pymysql, ssl
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
connection = pymysql.connect(host="db-mysql", user=os.environ["CELERYKIT_DATABASE_USERNAME"],
                             password=os.environ["CELERYKIT_DATABASE_PASSWORD"], ssl=context)
print(ssl.DER_cert_to_PEM_cert(connection._sock.getpeercert(binary_form=True)))
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


class Certificates(NamedTuple):
    """Those of the broker and of the database."""

    broker: bytes
    database: bytes


def certify(kit: Kit, authority: Authority) -> Certificates:
    """Give both stores a certificate, if they have one, another."""

    def one(release: str, chart: str) -> bytes:
        certificate, key = authority.issue(f"{release}-{chart}")
        secret(kit, f"{release}-tls", "kubernetes.io/tls",
               tls__crt=certificate, tls__key=key, ca__crt=authority.certificate)  # fmt: skip
        return der(certificate)

    return Certificates(one("broker", "rabbitmq"), one("db", "mysql"))


def der(certificate: bytes | str) -> bytes:
    text = certificate if isinstance(certificate, str) else certificate.decode()
    return ssl.PEM_cert_to_DER_cert(text.strip())


def served(kit: Kit) -> Certificates:
    """What the stores show to who connects now."""
    programs = (BROKERS_CERTIFICATE, DATABASES_CERTIFICATE)
    return Certificates(*(der(in_gateway(kit, program)) for program in programs))


@pytest.fixture(scope="module")
def external(cluster, authority, tmp_path_factory) -> Iterator[Kit]:
    """A kit whose stores are two more releases beside it."""

    def values(name: str, content: object) -> str:
        file = tmp_path_factory.mktemp("values") / f"{name}.json"
        file.write_text(json.dumps(content))
        return f"--values={file}"

    with passing(cluster, "helm3") as kit:
        cluster.namespace(kit.namespace)
        secret(kit, BROKER["existingSecret"], username="team", password=CANARIES["broker"],
               erlang_cookie=CANARIES["cookie"])  # fmt: skip
        secret(kit, DATABASE["existingSecret"], username="team", password=CANARIES["db"],
               root_password=CANARIES["root"], exporter_password=CANARIES["exporter"])  # fmt: skip
        for authorities in {BROKER["tls"]["caSecret"], DATABASE["tls"]["caSecret"]}:
            secret(kit, authorities, ca__crt=authority.certificate)
        certify(kit, authority)
        for release, chart, store in (("broker", "rabbitmq", BROKER), ("db", "mysql", DATABASE)):
            own = {
                "auth": {"existingSecret": store["existingSecret"]},
                "tls": {"enabled": True, "existingSecret": f"{release}-tls"},
                "resources": SMALL,
            }
            kit.run_helm("install", release, str(CHART / "charts" / chart), values(release, own))
        add_virtual_host(kit)
        kit.install(f"--values={PROFILE}", *FLAGS, values(RELEASE, OURS))
        yield kit


def add_virtual_host(kit: Kit) -> None:
    """Make the one that the profile names, as its broker's administrator would."""
    kit.kubectl("rollout", "status", "statefulset/broker-rabbitmq", "--timeout=180s", seconds=190)
    for command in (
        ("add_vhost", BROKER["vhost"]),
        ("set_permissions", "-p", BROKER["vhost"], "team", ".*", ".*", ".*"),
    ):
        kit.kubectl("exec", "broker-rabbitmq-0", "-c", "rabbitmq", "--", "rabbitmqctl", *command)


class Renewal(NamedTuple):
    """Both stores' certificates, which others take the place of while tests run, and their containers."""

    old: Certificates
    new: Certificates
    containers: set[str]


@pytest.fixture(scope="module", autouse=True)
def renewal(external: Kit, authority: Authority) -> Renewal:
    """Begun with the first test, since it takes minutes."""
    return Renewal(served(external), certify(external, authority), containers(external))


def containers(kit: Kit) -> set[str]:
    """The ids of the stores' containers: a restart would bring others."""
    pods = [kit.get("pod", name) for name in ("broker-rabbitmq-0", "db-mysql-0")]
    return {container["containerID"] for pod in pods for container in pod["status"]["containerStatuses"]}


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


@pytest.mark.behaviour("C28", "S11")
def test_renewed_certificates_are_served_without_a_restart(external, renewal, tell):
    assert not set(renewal.old) & set(renewal.new)
    began = time.monotonic()
    eventually(lambda: served(external) == renewal.new, RENEWAL_SECONDS, "the new certificates", pause=3)
    tell(f"the stores serve their new certificates after {time.monotonic() - began:.0f} s more")
    assert containers(external) == renewal.containers
    answer = external.gateway("/v1/tasks/task.echo", "POST", {"args": ["renewed"]}, Prefer="wait=30")
    assert (answer.status, answer.json["result"]) == (200, "renewed")
