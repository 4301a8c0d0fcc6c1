"""Pools of workers: each a Deployment with what it says itself and the defaults for the rest."""

import pytest

from celerykit.settings import load
from tests.chart.cases import CASES
from tests.chart.render import GIVEN
from worker.settings import PREFIX, WorkerSettings


def of_pool(objects, name):
    return [o for o in objects if o["metadata"]["labels"].get("celery-kit/pool") == name]


@pytest.fixture
def pools(helm):
    return helm.render(GIVEN, CASES["pools"])


@pytest.mark.behaviour("C19", "C22")
def test_a_pool_has_what_it_says_and_else_the_defaults(pools):
    slow = pools.variables("kit-worker-slow/worker")
    assert slow["CELERYKIT_QUEUES"] == "reports,exports"
    assert slow["CELERYKIT_TASK_TIME_LIMIT"] == "60"
    assert slow["CELERYKIT_WORKER_CONCURRENCY"] == "4"
    assert slow["CELERYKIT_WORKER_POOL_TYPE"] == "prefork"
    fixed = pools.variables("kit-worker-fixed/worker")
    assert fixed["CELERYKIT_POOL"] == "fixed"
    assert fixed["CELERYKIT_WORKER_CONCURRENCY"] == "100"
    assert fixed["CELERYKIT_WORKER_POOL_TYPE"] == "gevent"


@pytest.mark.behaviour("C19")
def test_a_pool_that_is_fast_tells_its_workers_so_and_no_other_does(helm):
    objects = helm.render(GIVEN, CASES["fast"])
    quick = objects.variables("kit-worker-quick/worker")
    assert quick["CELERYKIT_PROFILE"] == "fast"
    assert load(WorkerSettings, quick, PREFIX).pool_type == "threads"
    assert "CELERYKIT_PROFILE" not in objects.variables("kit-worker-default/worker")


@pytest.mark.behaviour("C19")
def test_the_workers_of_a_pool_that_is_packed_consume_by_their_age_and_no_others(helm):
    objects = helm.render(GIVEN, CASES["fast"])
    assert objects.variables("kit-worker-quick/worker")["CELERYKIT_PACKING"] == "true"
    assert "CELERYKIT_PACKING" not in objects.variables("kit-worker-default/worker")


@pytest.mark.behaviour("C8")
def test_a_pool_that_scales_says_no_number(pools):
    assert "replicas" not in pools.get("Deployment", "kit-worker-default")["spec"]
    assert pools.get("Deployment", "kit-worker-fixed")["spec"]["replicas"] == 3


@pytest.mark.behaviour("C8")
def test_without_an_autoscaler_every_pool_says_its_number(helm):
    objects = helm.render(CASES["no autoscaler"])
    assert objects.get("Deployment", "kit-worker-default")["spec"]["replicas"] == 2
    assert not [o for o in objects if o["metadata"]["labels"]["app.kubernetes.io/component"] == "autoscaler"]


@pytest.mark.behaviour("C8")
def test_zero_is_a_number_of_workers(helm):
    objects = helm.render({"autoscaler": {"enabled": False}, "worker": {"replicas": 0}})
    assert objects.get("Deployment", "kit-worker-default")["spec"]["replicas"] == 0


@pytest.mark.behaviour("C22")
def test_a_pool_that_is_taken_away_leaves_nothing_behind(helm, pools):
    assert {o["kind"] for o in of_pool(pools, "slow")} == {"Deployment", "PodDisruptionBudget", "Service"}
    without = helm.render(GIVEN, CASES["pools"], {"worker": {"pools": {"slow": None}}})
    assert not of_pool(without, "slow")
    assert "worker-slow" not in str([*without])
    assert "worker-slow" in str([*pools])


@pytest.mark.behaviour("C22")
def test_there_may_be_no_pool_at_all(helm):
    components = {
        o["metadata"]["labels"]["app.kubernetes.io/component"] for o in helm.render(CASES["no pool"])
    }
    assert "autoscaler" not in components


@pytest.mark.behaviour("C19")
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
@pytest.mark.behaviour("C20")
def test_a_task_may_end_before_its_worker_is_killed(helm, values, seconds):
    pod = helm.render(values).get("Deployment", "kit-worker-default")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == seconds


@pytest.mark.behaviour("C15")
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


@pytest.mark.behaviour("C4", "C22")
@pytest.mark.parametrize("scales", [{}, {"enabled": False}])
def test_a_queue_belongs_to_one_pool_if_any_of_them_scales_by_it(helm, scales):
    pools = {"other": {"queues": ["own", "default"], "autoscale": scales}}
    refused = helm.refusal({"worker": {"pools": pools}})
    assert 'queues: "default" is a queue of the pool' in refused
    assert "its backlog can call for workers of one pool only" in refused
    assert helm.render({"autoscaler": {"mode": "off"}, "worker": {"pools": pools}})


@pytest.mark.behaviour("C19", "C22")
@pytest.mark.parametrize("pool", ["default", "slow", "fixed"])
def test_the_worker_of_each_pool_accepts_what_it_is_told(pools, pool):
    told = pools.variables(f"kit-worker-{pool}/worker")
    settings = load(WorkerSettings, told, PREFIX)
    assert (settings.concurrency, settings.pool_type) == {
        "default": (4, "prefork"),
        "slow": (4, "prefork"),
        "fixed": (100, "gevent"),
    }[pool]
    assert settings.name == ""  # so that each start of each worker takes another
    assert told["CELERYKIT_POOL"] == pool


@pytest.mark.behaviour("C22")
def test_pools_share_no_object_and_select_no_pod_of_another(pools):
    selectors = [
        tuple(sorted(o["spec"]["selector"]["matchLabels"].items()))
        for o in pools.of("Deployment")
        if "worker" in o["metadata"]["name"]
    ]
    assert len(selectors) == len(set(selectors)) == 3


EXTRAS = {
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraEnvFrom": [{"secretRef": {"name": "own"}}],
    "extraVolumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
    "extraVolumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
}


@pytest.mark.parametrize("values", [EXTRAS, {"pools": {"default": EXTRAS}}])
def test_what_tasks_need_of_their_users_is_in_the_worker_beside_what_the_kit_needs(helm, kit, values):
    objects = helm.render(GIVEN, {"worker": values})
    worker, before = (o.container("kit-worker-default/worker") for o in (objects, kit))
    assert worker["env"] == before["env"] + EXTRAS["extraEnv"]
    assert worker["envFrom"] == EXTRAS["extraEnvFrom"]
    assert worker["volumeMounts"] == before["volumeMounts"] + EXTRAS["extraVolumeMounts"]
    pod, old = (o.get("Deployment", "kit-worker-default")["spec"]["template"]["spec"] for o in (objects, kit))
    assert pod["volumes"] == old["volumes"] + EXTRAS["extraVolumes"]
    assert pod["initContainers"] == old["initContainers"]
