"""Pods: as restricted as Kubernetes knows it, with limits, and from images that are named in full."""

import re
from decimal import Decimal

import pytest
import yaml

from tests.chart.cases import CASES
from tests.chart.render import CHART, GIVEN
from tests.chart.test_ci_values import MIB, asked

DIGEST = "sha256:" + "a" * 64
IMAGES = ("gateway", "worker", "autoscaler", "flower", "rabbitmq", "mysql", "prometheus", "grafana")
ALLOWED_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
UIDS = {
    **dict.fromkeys(("gateway", "worker", "autoscaler", "flower", "test", "demo"), 10001),
    **dict.fromkeys(("rabbitmq", "mysql"), 999),
    "prometheus": 65534,
    "grafana": 472,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.behaviour("C12")
def test_every_pod_is_restricted(helm, case):
    for object_, pod in helm.render(CASES[case]).pods():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == UIDS[object_["metadata"]["labels"]["app.kubernetes.io/component"]]
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for volume in pod["volumes"]:
            assert set(volume) - {"name"} <= ALLOWED_VOLUMES


@pytest.mark.parametrize("case", CASES)
@pytest.mark.behaviour("C12", "S2")
def test_every_container_is_restricted_and_cannot_write_to_its_image(helm, case):
    for path, container in helm.render(CASES[case]).containers():
        security = dict(container["securityContext"])
        assert security.pop("runAsUser", 1) > 0, path
        assert security.pop("runAsGroup", 1) > 0, path
        assert security == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, path


@pytest.mark.parametrize("case", CASES)
@pytest.mark.behaviour("C13", "S3")
def test_only_the_autoscaler_has_a_token(helm, case):
    for object_, pod in helm.render(CASES[case]).pods():
        autoscaler = object_["metadata"]["name"] == "kit-autoscaler"
        assert pod["automountServiceAccountToken"] is autoscaler
        assert ("serviceAccountName" in pod) is autoscaler


@pytest.mark.parametrize("case", CASES)
def test_no_pod_gets_variables_that_it_did_not_ask_for(helm, case):
    assert all(pod["enableServiceLinks"] is False for _, pod in helm.render(CASES[case]).pods())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.behaviour("C41", "S27")
def test_every_container_has_requests_and_limits(helm, case):
    for path, container in helm.render(CASES[case]).containers():
        for amounts in (container["resources"]["requests"], container["resources"]["limits"]):
            assert set(amounts) == {"cpu", "memory"}, path


@pytest.mark.parametrize(("case", "cpu", "mebibytes"), [("default", "1.2", 2048), ("small", "1", 1536)])
@pytest.mark.behaviour("C41")
def test_the_requests_fit_a_small_machine(helm, case, cpu, mebibytes):
    cores, memory = asked(helm.render(CASES[case]), least_workers=1)
    assert cores <= Decimal(cpu)
    assert memory <= mebibytes * MIB


@pytest.mark.parametrize("case", CASES)
@pytest.mark.behaviour("C27", "S25")
def test_every_image_is_of_a_version(helm, case):
    for path, container in helm.render(CASES[case]).containers():
        assert re.search(r":[\w.-]+$", container["image"]), path
        assert not container["image"].endswith(":latest")
        assert container["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.behaviour("C27")
def test_the_images_that_the_chart_announces_are_those_that_run(kit):
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    announced = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])
    assert {image["image"] for image in announced} == {c["image"] for _, c in kit.containers()}


@pytest.mark.behaviour("C26")
@pytest.mark.parametrize("case", CASES)
def test_a_registry_and_pull_secrets_reach_every_pod(helm, case):
    objects = helm.render(CASES[case], {"global": CASES["much"]["global"]})
    for path, container in objects.containers():
        assert container["image"].startswith("registry.example/mirror/"), path
        assert container["image"].count("/") == 3
    assert all(pod["imagePullSecrets"] == [{"name": "pull"}] for _, pod in objects.pods())


@pytest.mark.behaviour("C26", "S25")
@pytest.mark.parametrize("case", CASES)
def test_a_digest_goes_before_the_tag(helm, case):
    values = {name: {"image": {"digest": DIGEST}} for name in IMAGES}
    values["mysql"]["exporter"] = {"image": {"digest": DIGEST}}
    for path, container in helm.render(CASES[case], values).containers():
        assert re.fullmatch(rf"[^:@]+@{DIGEST}", container["image"]), path


@pytest.mark.parametrize(
    ("values", "restarted"),
    [
        ({"gateway": {"catalogue": {"a": {"queue": "default"}}}}, {"kit-gateway"}),
        ({"gateway": {"auth": {"apiKey": "other"}}}, {"kit-gateway"}),
        ({"flower": {"auth": {"password": "other"}}}, {"kit-flower"}),
        ({"worker": {"auth": {"drainToken": "other"}}}, {"kit-worker-default", "kit-autoscaler"}),
        ({"rabbitmq": {"extraConfig": "heartbeat = 30"}}, {"kit-rabbitmq"}),
        ({"mysql": {"bufferPoolMiB": 64}}, {"kit-mysql"}),
        ({"grafana": {"prometheusUrl": "http://other"}}, {"kit-grafana"}),
        # what is read again needs no restart
        ({"worker": {"autoscale": {"targetBacklogPerWorker": 5, "maxWorkers": 3}}}, set()),
        ({"autoscaler": {"tickSeconds": 2}}, set()),
        # a pool more is one more Deployment that the autoscaler must know from its start
        ({"worker": {"pools": {"more": {"queues": ["more"]}}}}, {"kit-autoscaler"}),
    ],
    ids=lambda part: str(sorted(part)) if isinstance(part, set) else str(part),  # a set has no order
)
@pytest.mark.behaviour("C9")
def test_only_the_pods_restart_that_read_what_changed(helm, values, restarted):
    before = helm.render(GIVEN)
    after = helm.render(GIVEN, values)
    changed = {
        object_["metadata"]["name"]
        for object_, _ in before.pods()
        if object_["kind"] != "Pod"
        and object_["spec"]["template"]
        != after.get(object_["kind"], object_["metadata"]["name"])["spec"]["template"]
    }
    assert changed == restarted


@pytest.mark.behaviour("C9")
def test_generated_secrets_restart_nothing(helm):
    one, two = helm.render({}), helm.render({}, {"grafana": {}})
    assert one.of("Secret") != two.of("Secret")  # made anew for each render
    assert [pod for _, pod in one.pods()] == [pod for _, pod in two.pods()]
    for kind in ("Deployment", "StatefulSet"):
        assert one.of(kind) == two.of(kind)
