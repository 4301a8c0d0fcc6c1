"""The demo shows a newcomer within some minutes how workers come and go."""

import time

import pytest

from tests.e2e.cluster import CHART, RELEASE, WORKERS, eventually
from tests.e2e.conftest import FLAGS

DEMO = [
    "--set=demo.enabled=true",
    "--set-json=demo.minutes=0.5",
    "--set=worker.autoscale.downWindowSeconds=20,worker.autoscale.cooldownSeconds=5",
]
pytestmark = pytest.mark.timeout(600)


def workers(kit):
    """How many are ready."""
    return kit.get("deployment", WORKERS)["status"].get("readyReplicas", 0)


def said(kit):
    return kit.kubectl("logs", "-l", "app.kubernetes.io/component=demo", "--tail=-1")


@pytest.mark.behaviour("C12", "S1")
def test_workers_come_and_go_while_the_demo_runs_once_and_ends(fresh, tell):
    kit = fresh("helm4")
    kit.install(*FLAGS, "--set=flower.enabled=false,grafana.enabled=false")
    began = time.monotonic()
    kit.run_helm("upgrade", RELEASE, str(CHART), "--reuse-values", *DEMO)
    eventually(lambda: workers(kit) > 1, 120, "more than one worker is ready")
    tell(f"demo: a second worker ready after {time.monotonic() - began:.0f} s")
    (job,) = kit.get("jobs")["items"]
    # an upgrade meanwhile, which changes what the demo does not depend on, and its Job cannot change
    kit.run_helm("upgrade", RELEASE, str(CHART), "--reuse-values", "--set=worker.autoscale.maxWorkers=8")

    seen = []

    def ended():
        seen.append(workers(kit))
        (now,) = kit.get("jobs")["items"]
        assert now["metadata"]["uid"] == job["metadata"]["uid"], "the demo began again"
        assert not now["status"].get("failed"), said(kit)
        return now["status"].get("succeeded")

    eventually(ended, 120, lambda: f"the demo ends: {said(kit)}")
    last = said(kit).splitlines()[-1]
    tell(f"demo: up to {max(seen)} workers; {last}")
    assert "90 sent, 90 answered, 0 waiting; " in last
    # what arrived counts for a minute, then the window begins
    eventually(lambda: workers(kit) == 1, 150, "one worker again")
    tell(f"demo: one worker again after {time.monotonic() - began:.0f} s")
    # with the demo off, nothing of it stays
    kit.run_helm("upgrade", RELEASE, str(CHART), "--reuse-values", "--set=demo.enabled=false")
    eventually(lambda: not kit.get("jobs")["items"], 30, "the demo's Job is gone")
