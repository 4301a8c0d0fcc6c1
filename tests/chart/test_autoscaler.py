"""The autoscaler: its file is one that it accepts, and its rights are those it needs."""

import subprocess

import msgspec
import pytest
import yaml

from autoscaler.config import parse
from tests.chart.cases import CASES
from tests.chart.render import CHART, GIVEN

MODES = ("act", "dryRun", "advise")


@pytest.mark.parametrize("case", ["default", "pools", "external", "much", "thresholds", "dry run", "advice"])
@pytest.mark.behaviour("C31")
def test_the_autoscaler_accepts_its_file(helm, case):
    parse(helm.render(CASES[case]).data("kit-autoscaler")["autoscaler.yaml"].encode())


def test_it_accepts_a_namespace_of_digits(helm):
    file = ["--namespace", "123", "--show-only", "templates/autoscaler/configmap.yaml"]
    text = subprocess.run([helm.program, "template", "kit", CHART, *file], capture_output=True, check=True)
    parse(yaml.safe_load(text.stdout)["data"]["autoscaler.yaml"].encode())


@pytest.mark.behaviour("C31")
def test_promise_and_thresholds_arrive_as_they_were_given(helm):
    given = {
        "policy": "threshold",
        "sloSeconds": 0.5,
        "sloQuantile": 0.999,
        "expectedTaskSeconds": 604800,
        "holdWhenUseless": True,
        "minWorkers": 0,
        "maxWorkers": 9999,
        "targetBacklogPerWorker": 2500000.5,
        "upThreshold": 1.25,
        "downThreshold": 0,
        "downWindowSeconds": 604800,
        "cooldownSeconds": 0.5,
        "manualHoldSeconds": 0,
        "metricMaxAgeSeconds": 61,
        "drainTimeoutSeconds": 1,
    }
    objects = helm.render({"worker": {"autoscale": given}})
    config = parse(objects.data("kit-autoscaler")["autoscaler.yaml"].encode())
    (pool,) = config.worker.pools.values()
    assert msgspec.to_builtins(pool.autoscale) == given


@pytest.mark.behaviour("C31")
@pytest.mark.parametrize(
    ("all_pools", "pool", "window"),
    [
        ({}, {}, None),
        ({"downWindowSeconds": 0}, {}, 0),
        ({"downWindowSeconds": 90}, {"downWindowSeconds": None}, None),
    ],
)
def test_a_pools_window_is_learned_unless_it_is_given(each_helm, all_pools, pool, window):
    pools = {"default": {"autoscale": pool}, "slow": {"queues": ["reports"], "autoscale": pool}}
    objects = each_helm.render(GIVEN, {"worker": {"autoscale": all_pools, "pools": pools}})
    config = parse(objects.data("kit-autoscaler")["autoscaler.yaml"].encode())
    windows = [pool.autoscale.down_window_seconds for pool in config.worker.pools.values()]
    assert windows == [window, window]


def test_it_is_told_how_many_tasks_a_worker_of_each_pool_runs_at_once(helm):
    objects = helm.render(GIVEN, {"worker": {"pools": {"more": {"queues": ["more"], "concurrency": 7}}}})
    config = parse(objects.data("kit-autoscaler")["autoscaler.yaml"].encode())
    assert {name: pool.concurrency for name, pool in config.worker.pools.items()} == {"default": 2, "more": 7}
    for name, slots in (("default", "2"), ("more", "7")):
        (told,) = (
            variable["value"]
            for variable in objects.container(f"kit-worker-{name}/worker")["env"]
            if variable["name"] == "CELERYKIT_WORKER_CONCURRENCY"
        )
        assert told == slots


def test_it_is_told_of_the_pools_that_it_owns_and_of_their_deployments(helm):
    objects = helm.render(GIVEN, CASES["pools"])
    config = yaml.safe_load(objects.data("kit-autoscaler")["autoscaler.yaml"])
    assert set(config["worker"]["pools"]) == {"default", "slow"}
    assert config["actuator"] == {
        "kind": "kubernetes",
        "namespace": "team",
        "lease": "kit-autoscaler",
        "workerPort": 8001,
        "deployments": {"default": "kit-worker-default", "slow": "kit-worker-slow"},
    }
    assert config["prometheusUrl"] == "http://kit-prometheus:9090"


def test_its_file_is_mounted_as_a_folder_so_that_changes_arrive(kit):
    (mount,) = (
        mount
        for mount in kit.container("kit-autoscaler/autoscaler")["volumeMounts"]
        if mount["name"] == "config"
    )
    assert mount == {"name": "config", "mountPath": "/etc/celery-kit", "readOnly": True}


@pytest.mark.behaviour("C14", "S4", "S5")
def test_its_rights_are_these(helm):
    objects = helm.render(GIVEN, CASES["pools"])
    pools = ["kit-worker-default", "kit-worker-slow"]
    assert objects.get("Role", "kit-autoscaler")["rules"] == [
        {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": pools, "verbs": ["get"]},
        {
            "apiGroups": ["apps"],
            "resources": ["deployments/scale"],
            "resourceNames": pools,
            "verbs": ["get", "patch"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["kit-autoscaler"],
            "verbs": ["get", "update"],
        },
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
        {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": ["list"]},
    ]
    assert not objects.of("ClusterRole")
    (binding,) = objects.of("RoleBinding")
    assert binding["roleRef"]["name"] == "kit-autoscaler"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "kit-autoscaler"}]


@pytest.mark.behaviour("C14", "S4")
def test_one_that_does_not_act_may_not_scale_and_an_adviser_asks_for_no_other(helm):
    rights = {
        mode: {
            resource
            for rule in helm.render({"autoscaler": {"mode": mode}}).get("Role", "kit-autoscaler")["rules"]
            for resource in rule["resources"]
        }
        for mode in MODES
    }
    assert rights["act"] - rights["dryRun"] == {"deployments/scale"}
    assert rights["dryRun"] - rights["advise"] == {"horizontalpodautoscalers", "scaledobjects"}


@pytest.mark.parametrize("mode", MODES)
def test_its_mode_reaches_it_and_a_change_restarts_it(helm, mode):
    objects = helm.render(GIVEN, {"autoscaler": {"mode": mode}})
    assert parse(objects.data("kit-autoscaler")["autoscaler.yaml"].encode()).mode == mode
    pods = {name: _annotations(helm, name) for name in MODES}
    assert sum(annotations == pods[mode] for annotations in pods.values()) == 1


def _annotations(helm, mode):
    objects = helm.render(GIVEN, {"autoscaler": {"mode": mode}})
    return objects.get("Deployment", "kit-autoscaler")["spec"]["template"]["metadata"]["annotations"]


@pytest.mark.behaviour("C9")
def test_new_promises_and_thresholds_restart_neither_it_nor_a_worker(helm, kit):
    autoscale = {"sloSeconds": 5, "targetBacklogPerWorker": 5, "maxWorkers": 3}
    changed = helm.render(GIVEN, {"worker": {"autoscale": autoscale}})
    for name in ("kit-autoscaler", "kit-worker-default"):
        assert changed.get("Deployment", name) == kit.get("Deployment", name)
    assert changed.data("kit-autoscaler") != kit.data("kit-autoscaler")


@pytest.mark.parametrize("off", [{"mode": "off"}, {"mode": False}, {"enabled": False}])
@pytest.mark.behaviour("C8", "C42")
def test_it_is_off_however_yaml_reads_that_and_by_its_old_key(helm, off):
    objects = helm.render({"autoscaler": off})
    assert not [o for o in objects if o["metadata"]["labels"]["app.kubernetes.io/component"] == "autoscaler"]
    assert objects.get("Deployment", "kit-worker-default")["spec"]["replicas"] == 1


@pytest.mark.behaviour("C8")
@pytest.mark.parametrize("mode", MODES)
def test_a_change_between_modes_leaves_the_number_as_it_is(helm, mode):
    objects = helm.render({"autoscaler": {"mode": mode}})
    assert "replicas" not in objects.get("Deployment", "kit-worker-default")["spec"]


@pytest.mark.behaviour("C4")
def test_an_unknown_mode_is_refused(helm):
    assert "/autoscaler/mode" in helm.refusal({"autoscaler": {"mode": "dryrun"}})
