"""Pools of workers: each a Deployment with what it says itself and the defaults for the rest."""

import pytest

from tests.chart.cases import CASES
from tests.chart.render import GIVEN


def environment(container):
    return {variable["name"]: variable.get("value") for variable in container["env"]}


def of_pool(objects, name):
    return [o for o in objects if o["metadata"]["labels"].get("celery-kit/pool") == name]


@pytest.fixture
def pools(helm):
    return helm.render(GIVEN, CASES["pools"])


def test_a_pool_has_what_it_says_and_else_the_defaults(pools):
    slow = environment(pools.container("kit-worker-slow/worker"))
    assert slow["CELERYKIT_QUEUES"] == "reports,exports"
    assert slow["CELERYKIT_TASK_TIME_LIMIT"] == "60"
    assert slow["CELERYKIT_WORKER_CONCURRENCY"] == "4"
    assert slow["CELERYKIT_WORKER_POOL_TYPE"] == "prefork"
    fixed = environment(pools.container("kit-worker-fixed/worker"))
    assert fixed["CELERYKIT_POOL"] == "fixed"
    assert fixed["CELERYKIT_WORKER_CONCURRENCY"] == "100"
    assert fixed["CELERYKIT_WORKER_POOL_TYPE"] == "gevent"


def test_a_pool_that_scales_says_no_number(pools):
    assert "replicas" not in pools.get("Deployment", "kit-worker-default")["spec"]
    assert pools.get("Deployment", "kit-worker-fixed")["spec"]["replicas"] == 3


def test_without_an_autoscaler_every_pool_says_its_number(helm):
    objects = helm.render(CASES["no autoscaler"])
    assert objects.get("Deployment", "kit-worker-default")["spec"]["replicas"] == 2
    assert not [o for o in objects if o["metadata"]["labels"]["app.kubernetes.io/component"] == "autoscaler"]


def test_zero_is_a_number_of_workers(helm):
    objects = helm.render({"autoscaler": {"enabled": False}, "worker": {"replicas": 0}})
    assert objects.get("Deployment", "kit-worker-default")["spec"]["replicas"] == 0


def test_a_pool_that_is_taken_away_leaves_nothing_behind(helm, pools):
    assert {o["kind"] for o in of_pool(pools, "slow")} == {"Deployment", "Service"}
    without = helm.render(GIVEN, CASES["pools"], {"worker": {"pools": {"slow": None}}})
    assert not of_pool(without, "slow")
    assert "slow" not in str([*without])


def test_there_may_be_no_pool_at_all(helm):
    components = {
        o["metadata"]["labels"]["app.kubernetes.io/component"] for o in helm.render(CASES["no pool"])
    }
    assert "autoscaler" not in components


def test_a_worker_is_the_first_process_of_its_container_and_nobody_stands_between(pools):
    container = pools.container("kit-worker-default/worker")
    assert container["command"] == ["python", "-m", "worker"]
    assert "args" not in container


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 3660),
        ({"worker": {"taskTimeLimitSeconds": 100}}, 160),
        ({"worker": {"pools": {"default": {"taskTimeLimitSeconds": 100}}}}, 160),
        ({"worker": {"terminationGracePeriodSeconds": 4000}}, 4000),
    ],
)
def test_a_task_may_end_before_its_worker_is_killed(helm, values, seconds):
    pod = helm.render(values).get("Deployment", "kit-worker-default")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == seconds


def test_neither_life_nor_start_of_a_worker_depends_on_the_broker(kit):
    worker = kit.container("kit-worker-default/worker")
    for probe in ("livenessProbe", "startupProbe"):
        assert worker[probe]["httpGet"] == {"path": "/livez", "port": "http"}
    assert worker["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    patience = worker["livenessProbe"]["periodSeconds"] * worker["livenessProbe"]["failureThreshold"]
    assert patience >= 60


def test_tables_are_brought_up_to_date_before_gateways_and_workers_start(kit):
    for name in ("kit-gateway", "kit-worker-default"):
        pod = kit.get("Deployment", name)["spec"]["template"]["spec"]
        (schema,) = pod["initContainers"]
        assert schema["command"][:4] == ["python", "-m", "celerykit.schema", "upgrade"]
        assert schema["image"] == pod["containers"][0]["image"]


def test_a_rollout_takes_no_worker_away_before_its_successor_is_ready(kit):
    strategy = kit.get("Deployment", "kit-worker-default")["spec"]["strategy"]["rollingUpdate"]
    assert strategy["maxUnavailable"] == 0
