"""The autoscaler: its file is one that it accepts, and its rights are those it needs."""

import msgspec
import pytest
import yaml

from autoscaler.config import parse
from tests.chart.cases import CASES
from tests.chart.render import GIVEN


@pytest.mark.parametrize("case", ["default", "pools", "external", "much"])
def test_the_autoscaler_accepts_its_file(helm, case):
    parse(helm.render(CASES[case]).data("kit-autoscaler")["autoscaler.yaml"].encode())


def test_thresholds_arrive_as_they_were_given(helm):
    given = {
        "policy": "threshold",
        "minWorkers": 0,
        "maxWorkers": 9999,
        "targetBacklogPerWorker": 2500000.5,
        "upThreshold": 1.25,
        "downThreshold": 0,
        "downWindowSeconds": 604800,
        "cooldownSeconds": 0.5,
        "metricMaxAgeSeconds": 61,
        "drainTimeoutSeconds": 1,
    }
    objects = helm.render({"worker": {"autoscale": given}})
    config = parse(objects.data("kit-autoscaler")["autoscaler.yaml"].encode())
    (pool,) = config.worker.pools.values()
    assert msgspec.to_builtins(pool.autoscale) == given


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
