"""Secrets that the cluster has already: Helm asks for them, and nothing has to run for that."""

import base64
import hashlib
import json
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from tests.e2e.cluster import CHART, RELEASE, Cluster, Kit, passing

KEPT = {
    "rabbitmq": {"username": "celerykit", "password": "old-broker", "erlang-cookie": "old-cookie"},
    "mysql": {
        "username": "celerykit",
        "password": "old-database",
        "root-password": "old-root",
        "exporter-password": "old-exporter",
    },
    "gateway": {
        "api-key": "old-key",
        "api-keys": ",".join(
            f"{owner}:{hashlib.sha256(key.encode()).hexdigest()}"
            for owner, key in (("default", "old-key"), ("team", "team-key"), ("default", "second"))
        ),
    },
    "worker": {"drain-token": "old-token"},
    "flower": {"username": "flower", "password": "old-flower"},
    "grafana": {"admin-user": "admin", "admin-password": "old-grafana"},
}
# what an uninstall leaves to them
OWNED = {"meta.helm.sh/release-name": RELEASE}


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace with the Secrets of a release that was uninstalled."""
    with passing(cluster, "helm3") as kit:
        cluster.namespace(kit.namespace)
        for component, data in KEPT.items():
            made = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": f"{RELEASE}-{component}",
                    "labels": {"app.kubernetes.io/managed-by": "Helm"},
                    "annotations": OWNED | {"meta.helm.sh/release-namespace": kit.namespace},
                },
                "stringData": data,
            }
            cluster.kubectl("-n", kit.namespace, "apply", "-f", "-", text=json.dumps(made))
        yield kit.namespace


@pytest.fixture(params=["helm3", "helm4"])
def kit(cluster: Cluster, namespace: str, request: pytest.FixtureRequest) -> Kit:
    """A kit that is never installed for real."""
    return Kit(cluster, request.param, namespace)


def secrets(kit: Kit, *flags: str) -> dict[str, dict[str, str]]:
    """What an installation would write, by component."""
    said = kit.run_helm("install", RELEASE, str(CHART), "--dry-run=server", "--output=json", *flags)
    documents = yaml.load_all(json.loads(said)["manifest"], Loader=yaml.CSafeLoader)
    return {
        document["metadata"]["labels"]["app.kubernetes.io/component"]: {
            key: base64.b64decode(value).decode() for key, value in document["data"].items()
        }
        for document in documents
        if document and document["kind"] == "Secret"
    }


@pytest.mark.behaviour("C11", "S7")
def test_a_release_that_comes_back_takes_over_what_it_left(kit):
    assert secrets(kit) == KEPT


@pytest.mark.behaviour("C11", "S7")
def test_what_the_cluster_has_is_not_missing(kit):
    assert secrets(kit, "--set=secrets.onMissing=fail") == KEPT


@pytest.mark.behaviour("C10", "C4")
@pytest.mark.parametrize(
    "key",
    ["rabbitmq.auth.username", "rabbitmq.auth.password", "mysql.auth.password", "mysql.auth.rootPassword"],
)
def test_another_login_than_the_data_know_is_refused_by_its_key(kit, key):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        secrets(kit, f"--set={key}=another")
    said = refused.value.stderr
    assert f"{key}: is not what the Secret {RELEASE}-{key.partition('.')[0]} has" in said
    assert "old-" not in said


@pytest.mark.behaviour("C10")
def test_the_login_that_the_data_know_may_be_given(kit):
    assert secrets(kit, "--set=mysql.auth.password=old-database,rabbitmq.auth.password=old-broker") == KEPT


@pytest.mark.behaviour("C10", "S17")
def test_another_key_of_the_gateway_leaves_the_owners_that_were_added_by_hand(kit):
    made = secrets(kit, "--set=gateway.auth.apiKey=new-key")["gateway"]
    assert made["api-key"] == "new-key"
    old = KEPT["gateway"]["api-keys"].split(",")
    new = "default:" + hashlib.sha256(b"new-key").hexdigest()
    assert made["api-keys"].split(",") == [new, *old[1:]]
