"""The budgets on a real API server: who drains a node is never told to wait for a pod that is alone."""

import json

import pytest

from tests.e2e.cluster import RELEASE, WORKERS

EVICTION = {"apiVersion": "policy/v1", "kind": "Eviction"}


@pytest.mark.behaviour("C23", "S27")
@pytest.mark.timeout(900)
def test_each_pod_may_be_evicted(kit):
    budgets = kit.get("poddisruptionbudgets")["items"]
    assert {budget["metadata"]["name"] for budget in budgets} >= {f"{RELEASE}-gateway", WORKERS}
    for pod in kit.get("pods", "-l", f"app.kubernetes.io/instance={RELEASE}")["items"]:
        name = pod["metadata"]["name"]
        path = f"/api/v1/namespaces/{kit.namespace}/pods/{name}/eviction?dryRun=All"
        answer = kit.cluster.kubectl(
            "create", "--raw", path, "-f", "-", text=json.dumps(EVICTION | {"metadata": {"name": name}})
        )
        assert json.loads(answer)["status"] == "Success", name
