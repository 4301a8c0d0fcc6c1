"""What the autoscaler may do on a real API server: what its golden file says, and nothing else."""

import base64
import json
import ssl
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import pytest

from tests.e2e.cluster import RELEASE, WORKERS

GOLDEN = Path(__file__).with_name("autoscaler-rights.txt")
ACCOUNT = f"{RELEASE}-autoscaler"
APPS, CORE = "apis/apps/v1", "api/v1"
POOL = f"deployments/{WORKERS}"
TO_NOTHING = {"spec": {"replicas": 0}}
ANOTHER_IMAGE = {"spec": {"containers": [{"name": "worker", "image": "another"}]}}
pytestmark = pytest.mark.timeout(900)


class Api:
    """Kubernetes' API, asked with the autoscaler's token; what would change something is a dry run."""

    def __init__(self, kit):
        (cluster,) = json.loads(
            kit.cluster.kubectl("config", "view", "--raw", "--flatten", "--minify", "-o", "json")
        )["clusters"]
        authority = base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
        trust = HTTPSHandler(context=ssl.create_default_context(cadata=authority))
        self.server, self.namespace = cluster["cluster"]["server"], kit.namespace
        self.opener = build_opener(ProxyHandler({}), trust)
        self.token = kit.kubectl("create", "token", ACCOUNT).strip()

    def status(self, method, group, path, body=None, namespace=""):
        """The status of the answer."""
        url = f"{self.server}/{group}/namespaces/{namespace or self.namespace}/{path}?dryRun=All"
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        data = None if body is None else json.dumps(body).encode()
        try:
            with self.opener.open(Request(url, data, headers, method=method), timeout=30) as answer:
                return answer.status
        except HTTPError as error:
            error.close()
            return error.code


@pytest.fixture(scope="module")
def api(kit):
    return Api(kit)


def rights(kit, account):
    """A line for each right, as `kubectl auth can-i --list` tells them."""
    user = f"system:serviceaccount:{kit.namespace}:{account}"
    lines = kit.kubectl("auth", "can-i", "--list", "--no-headers", f"--as={user}").splitlines()
    return {" ".join(line.split()) for line in lines}


@pytest.mark.behaviour("C14", "S4")
def test_the_rights_of_the_autoscaler_are_those_of_the_golden_file(kit):
    # what every account may do differs with the cluster
    own = rights(kit, ACCOUNT) - rights(kit, "default")
    assert sorted(own) == GOLDEN.read_text().splitlines()


@pytest.mark.behaviour("C14", "S4")
@pytest.mark.parametrize(
    ("method", "group", "path", "body"),
    [
        ("GET", APPS, POOL, None),
        ("GET", APPS, f"{POOL}/scale", None),
        ("PATCH", APPS, f"{POOL}/scale", {"spec": {"replicas": 1}}),
        ("GET", CORE, "pods", None),
    ],
)
def test_what_it_needs_it_may_do(api, method, group, path, body):
    assert api.status(method, group, path, body) == 200


@pytest.mark.behaviour("C14", "S4", "S5")
@pytest.mark.parametrize(
    ("method", "group", "path", "body"),
    [
        ("PATCH", APPS, f"deployments/{RELEASE}-gateway/scale", TO_NOTHING),
        ("PATCH", APPS, f"deployments/{RELEASE}-autoscaler/scale", TO_NOTHING),
        ("PATCH", APPS, f"statefulsets/{RELEASE}-mysql/scale", TO_NOTHING),
        ("PATCH", APPS, POOL, {"spec": {"template": ANOTHER_IMAGE}}),
        ("DELETE", APPS, POOL, None),
        ("GET", APPS, "deployments", None),
        ("PATCH", CORE, "pods/WORKER", ANOTHER_IMAGE),
        ("PATCH", CORE, "pods/WORKER", {"metadata": {"annotations": {"a": "b"}}}),
        ("DELETE", CORE, "pods/WORKER", None),
        ("POST", CORE, "pods/WORKER/eviction", {}),
        ("POST", CORE, "pods/WORKER/exec", {}),
        ("GET", CORE, "pods/WORKER/log", None),
        ("POST", CORE, "pods", {"metadata": {"name": "more"}, **ANOTHER_IMAGE}),
        ("GET", CORE, "secrets", None),
        ("GET", CORE, f"secrets/{RELEASE}-mysql", None),
        ("GET", CORE, f"configmaps/{RELEASE}-autoscaler", None),
        ("DELETE", "apis/coordination.k8s.io/v1", f"leases/{ACCOUNT}", None),
        ("GET", "apis/coordination.k8s.io/v1", "leases/another", None),
        ("POST", "apis/rbac.authorization.k8s.io/v1", "rolebindings", {"metadata": {"name": "more"}}),
        ("POST", CORE, f"serviceaccounts/{ACCOUNT}/token", {}),
    ],
)
def test_what_it_does_not_need_is_denied(kit, api, method, group, path, body):
    pods = kit.get("pods", "-l", "celery-kit/pool=default")["items"]
    name = pods[0]["metadata"]["name"]
    assert api.status(method, group, path.replace("WORKER", name), body) == 403


@pytest.mark.behaviour("C14", "S4")
def test_it_sees_no_pod_of_another_namespace(api):
    assert api.status("GET", CORE, "pods", namespace="kube-system") == 403


@pytest.mark.behaviour("C13", "S3")
def test_no_other_pod_has_a_token(kit):
    look = "test -e /var/run/secrets/kubernetes.io/serviceaccount/token && echo yes || echo no"
    pods = [pod for pod in kit.get("pods")["items"] if pod["status"]["phase"] == "Running"]
    holders = set()
    for pod in pods:
        mounts = {
            mount["mountPath"]
            for container in pod["spec"]["containers"]
            for mount in container.get("volumeMounts", [])
        }
        if "/var/run/secrets/kubernetes.io/serviceaccount" in mounts:
            holders.add(pod["metadata"]["labels"]["app.kubernetes.io/component"])
    assert holders == {"autoscaler"}
    worker = next(p["metadata"]["name"] for p in pods if "-worker-" in p["metadata"]["name"])
    assert kit.kubectl("exec", worker, "--", "sh", "-c", look).strip() == "no"
