"""Two releases share a namespace, one with the longest name there is; wrong values are refused by name."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from k8s.render import key
from tests.e2e.cluster import CHART, Kit, passing
from tests.e2e.conftest import FLAGS

MINIMAL = f"--values={CHART}/ci/minimal-values.yaml"
LONG = "a-release-whose-name-is-as-long-as-helm-lets-it-be-xx"
KINDS = (
    "deployments,statefulsets,services,configmaps,secrets,serviceaccounts,roles,rolebindings"
    ",leases,networkpolicies"
)
WRONG = [
    ("gateway.replica=2", "additional properties 'replica' not allowed"),
    ("gateway.replicas=many", "at '/gateway/replicas': got string, want integer"),
    ("worker.pools.fast.concurrency=2", "missing property 'queues'"),
    ("worker.autoscale.minWorkers=11", "minWorkers: 11 must not be above maxWorkers, which is 10"),
    ("worker.terminationGracePeriodSeconds=10", "must be at least 30 above taskTimeLimitSeconds"),
    ("rabbitmq.enabled=false", "rabbitmq.external.host: is required where rabbitmq.enabled is false"),
    ("mysql.persistence.siez=1Gi", "additional properties 'siez' not allowed"),
]
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def two(cluster, tell):
    """Two minimal kits in one namespace."""
    assert len(LONG) == 53
    with passing(cluster, "helm3") as short, closing(Kit(cluster, "helm4", short.namespace, LONG)) as long:
        kits = [short, long]
        cluster.namespace(short.namespace)
        with ThreadPoolExecutor() as pool:
            took = list(pool.map(lambda kit: kit.install(MINIMAL, *FLAGS), kits))
        tell(f"two minimal kits installed at once and ready in {max(took):.0f} s")
        yield kits


def names(kit):
    of_it = kit.get(KINDS, "-l", f"app.kubernetes.io/instance={kit.release}")["items"]
    return set(map(key, of_it))


@pytest.mark.behaviour("C34", "C35")
def test_two_releases_in_a_namespace_share_no_object(two):
    short, long = map(names, two)
    assert len(short) == len(long) > 20
    assert not short & long


@pytest.mark.behaviour("C34", "C35", "C36", "C37")
def test_each_of_two_releases_works_and_sees_nothing_of_the_other(two):
    with ThreadPoolExecutor() as pool:
        said = list(pool.map(lambda kit: kit.run_helm("test", kit.release, seconds=200), two))
    assert all("Succeeded" in text for text in said), said
    for kit in two:
        answer = kit.gateway("/v1/tasks/task.echo", "POST", {"args": [kit.release]}, Prefer="wait=50")
        assert (answer.status, answer.json["result"]) == (200, kit.release)
    first, second = two
    task = first.gateway("/v1/tasks/task.echo", "POST", {"args": [1]}, Prefer="respond-async").json["id"]
    assert first.gateway(f"/v1/operations/{task}").status == 200
    assert second.gateway(f"/v1/operations/{task}").status == 404


@pytest.mark.behaviour("C4")
@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_wrong_values_fail_at_install_with_a_message_that_names_the_key(cluster, helm):
    for value, says in WRONG:
        with pytest.raises(subprocess.CalledProcessError) as refused:
            cluster.run(helm, "install", "wrong", str(CHART), "-n", "default", "--set", value)
        assert says in refused.value.stderr, value
    with pytest.raises(subprocess.CalledProcessError) as refused:
        cluster.run(helm, "install", "my.kit", str(CHART), "-n", "default")
    assert "must begin with a letter and have no dots" in refused.value.stderr
    assert not cluster.run(helm, "list", "-n", "default", "--short").strip()
