"""`helm install`, `helm test` and `helm uninstall`, as a user does them first."""

import time

import pytest

from tests.e2e.cluster import CHART, RELEASE, eventually
from tests.e2e.conftest import FLAGS, ON_NODE
from tests.e2e.load import settled

KINDS = "deployments,statefulsets,services,configmaps,serviceaccounts,roles,rolebindings,pods,leases,jobs"
OF_THE_RELEASE = f"app.kubernetes.io/instance={RELEASE}"
OF_THE_CLUSTER = {"default", "kube-root-ca.crt"}
SECRETS = {f"{RELEASE}-{name}" for name in ("rabbitmq", "mysql", "gateway", "worker", "flower")}
if not ON_NODE:
    SECRETS.add(f"{RELEASE}-grafana")
MINIMAL = f"--values={CHART}/ci/minimal-values.yaml"
READY_SECONDS = 120


@pytest.mark.timeout(900)
@pytest.mark.parametrize("helm", ["helm3", "helm4"])
@pytest.mark.behaviour("C12", "C36", "C37", "S1")
def test_what_is_installed_proves_itself_and_leaves_only_what_it_says(fresh, tell, helm):
    kit = fresh(helm)
    tell(f"{helm} install --wait {' '.join(FLAGS)}: {kit.install(*FLAGS):.0f} s")
    notes = kit.run_helm("get", "notes", RELEASE)
    for name in SECRETS:
        assert kit.secret(name.removeprefix(f"{RELEASE}-"), some_key(kit, name)) not in notes

    began = time.monotonic()
    said = kit.run_helm("test", RELEASE, seconds=300)
    assert "Succeeded" in said, said
    tell(f"{helm} test: succeeded in {time.monotonic() - began:.0f} s")

    claims = kit.names("pvc")
    kit.run_helm("uninstall", RELEASE, "--wait", seconds=300)
    eventually(lambda: not left(kit), 120, lambda: f"{left(kit)} is gone")
    told = f"kubectl get secrets,persistentvolumeclaims -n {kit.namespace} -l {OF_THE_RELEASE}"
    assert told in notes, "NOTES do not say how to see what stays"
    kept = kit.get("secrets,persistentvolumeclaims", "-l", OF_THE_RELEASE)["items"]
    assert {item["metadata"]["name"] for item in kept} == SECRETS | claims
    assert kit.names("secrets") == SECRETS
    assert claims
    assert kit.names("pvc") == claims


@pytest.mark.timeout(600)
@pytest.mark.skipif(not ON_NODE, reason="elsewhere the time is that of pulling images")
@pytest.mark.behaviour("C41")
def test_the_minimal_profile_is_ready_in_two_minutes_where_the_images_are(fresh, tell):
    kit = fresh("helm4")
    seconds = kit.install(MINIMAL, *FLAGS)
    tell(f"with minimal-values.yaml ready in {seconds:.0f} s")
    assert settled(kit)
    assert seconds < READY_SECONDS


def some_key(kit, name):
    return next(key for key in kit.get("secret", name)["data"] if "user" not in key)


def left(kit):
    return {
        f"{item['kind']}/{item['metadata']['name']}"
        for item in kit.get(KINDS)["items"]
        if item["metadata"]["name"] not in OF_THE_CLUSTER
    }
