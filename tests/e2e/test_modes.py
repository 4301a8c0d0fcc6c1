"""Who sets the number of workers: the autoscaler, nobody, or KEDA and an HPA, on advice or by the backlog."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.cluster.crds import definitions
from tests.e2e.cluster import CHART, RELEASE, WORKERS, eventually
from tests.e2e.conftest import FLAGS
from tests.e2e.test_scaling import send

KEDA = "scaledobjects.keda.sh"
SMALL = ["--set=flower.enabled=false,grafana.enabled=false"]
TASKS = 40
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def keda(cluster) -> Iterator[None]:
    """The kind ScaledObject, though nobody acts on it unless the cluster has KEDA."""
    if KEDA in cluster.kubectl("get", "crds", "-o", "name"):
        yield
        return
    (file,) = definitions("keda")
    cluster.kubectl("apply", "-f", str(file))
    try:
        cluster.kubectl("wait", f"crd/{KEDA}", "--for=condition=Established", "--timeout=30s")
        yield
    finally:
        cluster.kubectl("delete", "crd", KEDA)


def change(kit, *flags):
    kit.run_helm(
        "upgrade", RELEASE, str(CHART), "--reuse-values", "--wait", "--timeout=180s", *flags, seconds=200
    )


def explained(kit):
    return kit.ask("autoscaler", 8002, "/explain").json


def in_mode(kit, mode):
    """What the autoscaler says once it is in that mode and has decided something."""

    def look():
        kit.close()  # the pod that we were forwarded to may be an old one
        said = explained(kit)
        return said["mode"] == mode and said["pools"].get("default") and said

    return eventually(look, 60, f"the autoscaler is in the mode {mode}")["pools"]


def replicas(kit):
    return kit.get("deployment", WORKERS)["spec"]["replicas"]


def decided(kit, action, reason):
    """How often that was decided for the pool `default`."""
    name = f'autoscaler_decisions_total{{action="{action}",reason="{reason}",scale_target="default"}}'
    values = [
        line.rpartition(" ")[2]
        for line in kit.ask("autoscaler", 8002, "/metrics").body.decode().splitlines()
        if line.startswith(f"{name} ")
    ]
    assert values, f"{name} is not there"
    return float(values[0])


def may_scale(kit):
    account = f"system:serviceaccount:{kit.namespace}:{RELEASE}-autoscaler"
    try:
        kit.kubectl(
            "auth", "can-i", "patch", f"deployments/{WORKERS}", "--subresource=scale", "--as", account
        )
    except subprocess.CalledProcessError:
        return False
    return True


def scaled_object_query(kit):
    trigger = kit.get("scaledobject", WORKERS)["spec"]["triggers"][0]["metadata"]
    assert trigger["serverAddress"] == f"http://{RELEASE}-prometheus.{kit.namespace}.svc:9090"
    return trigger["query"]


@pytest.mark.behaviour("C8", "C14", "S4")
def test_each_mode_sets_the_number_or_leaves_it_alone(fresh, keda, tell):
    kit = fresh("helm3")
    kit.install(*FLAGS, *SMALL, "--set=autoscaler.mode=dryRun")

    # a dry run decides and tells, and nothing moves
    in_mode(kit, "dryRun")
    send(kit, [2] * TASKS)
    eventually(lambda: kit.explained()["wanted"] > 1, 60, "more workers would be wanted")
    assert any(decided(kit, "up", reason) for reason in ("DrainBacklog", "KeepUp"))
    eventually(lambda: "WouldScaleUp" in kit.kubectl("get", "events"), 30, "an Event tells it")
    assert replicas(kit) == 1
    assert not may_scale(kit)

    # one that acts does not while another scales the same Deployment
    kit.kubectl("autoscale", "deployment", WORKERS, "--name=theirs", "--min=1", "--max=3", "--cpu-percent=80")
    change(kit, "--set=autoscaler.mode=act")
    held = eventually(
        lambda: (last := in_mode(kit, "act")["default"]["last"])["reason"] == "Paused" and last,
        30,
        "it holds",
    )
    assert "HorizontalPodAutoscaler theirs scales kit-worker-default too" in held["words"]
    assert may_scale(kit)
    kit.kubectl("delete", "hpa", "theirs")

    # advice is for KEDA and an HPA, which find it in Prometheus
    change(
        kit,
        "--set=autoscaler.mode=advise,worker.pools.default.autoscale.scaler=keda",
        "--set=worker.pools.more.queues={more},worker.pools.more.autoscale.scaler=hpa",
    )
    pools = in_mode(kit, "advise")
    assert pools["default"]["last"]["reason"] not in {"Paused", "FleetUnknown"}
    assert not may_scale(kit)
    hpa = kit.get("hpa", f"{RELEASE}-worker-more")["spec"]
    assert hpa["scaleTargetRef"]["name"] == f"{RELEASE}-worker-more"
    metric = hpa["metrics"][0]["external"]["metric"]
    labels = ",".join(f'{name}="{value}"' for name, value in metric["selector"]["matchLabels"].items())
    for query in (f"{metric['name']}{{{labels}}}", scaled_object_query(kit)):
        advised = eventually(lambda query=query: kit.prometheus(query), 60, f"Prometheus knows {query}")
        tell(f"modes: {query} is {advised:g}")
        assert advised >= 1

    # without the autoscaler they follow the backlog
    change(kit, "--set=autoscaler.mode=off")
    assert kit.names("deployments") & {f"{RELEASE}-autoscaler"} == set()
    query = scaled_object_query(kit)
    backlog = eventually(lambda: kit.prometheus(query) is not None, 30, f"Prometheus knows {query}")
    assert backlog
    # a queue that is not there makes the whole unknown, and not a little less
    assert kit.prometheus(query.replace('"default"', '"default|none"').replace("== 1", "== 2")) is None
