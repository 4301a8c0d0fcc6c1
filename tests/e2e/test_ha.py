"""The kit for production, three brokers among it: what becomes of its tasks when pods go, one by one.

One node carries it all, so the pods ask for next to nothing.
"""

import json
import time
from contextlib import suppress
from subprocess import CalledProcessError

import pytest

from tests.e2e.cluster import CHART, RELEASE, eventually, is_ready, passing
from tests.e2e.conftest import FLAGS
from tests.e2e.load import Drain, disturbed

pytestmark = pytest.mark.timeout(600)

NOTHING = {"resources": {"requests": {"cpu": "1m", "memory": "64Mi"}}}
VALUES = {
    **dict.fromkeys(("gateway", "autoscaler", "flower", "rabbitmq", "prometheus"), NOTHING),
    # the callers' load is to bring no worker
    "worker": NOTHING | {"autoscale": {"policy": "threshold"}},
    "mysql": NOTHING | {"exporter": NOTHING, "persistence": {"size": "8Gi"}},
}


@pytest.fixture(scope="module")
def ha(cluster, tell, tmp_path_factory):
    """The kit with ci/ha-values.yaml."""
    values = tmp_path_factory.mktemp("ha") / "values.json"
    values.write_text(json.dumps(VALUES))
    flags = ("--values", str(CHART / "ci/ha-values.yaml"), "--values", str(values), *FLAGS)
    with passing(cluster, "helm4") as kit:
        try:
            tell(f"with ha-values.yaml ready in {kit.install(*flags):.0f} s")
            yield kit
        finally:
            with suppress(CalledProcessError):
                kit.run_helm("uninstall", RELEASE)
            # brokers that go at once wait for each other, up to a minute and a half
            kit.kubectl("delete", "pods", "--all", "--grace-period=1", "--wait=false")


def queues(kit):
    """What the brokers say of the queues, by name."""
    said = kit.kubectl(
        "exec", f"{RELEASE}-rabbitmq-0", "-c", "rabbitmq", "--",
        "rabbitmqctl", "--quiet", "--formatter=json", "list_queues", "name", "messages", "leader", "members",
    )  # fmt: skip
    return {queue["name"]: queue for queue in json.loads(said)}


def ready(kit, component):
    """How many pods of a component serve."""
    found = kit.get("pods", "-l", f"app.kubernetes.io/component={component}")["items"]
    return sum(map(is_ready, found))


def test_the_kit_for_production_proves_itself(ha):
    assert "Succeeded" in ha.run_helm("test", RELEASE, seconds=200)


@pytest.mark.behaviour("C16")
def test_each_queue_of_tasks_is_kept_by_three_brokers(ha):
    def members():
        found = queues(ha)
        return {len(found[name]["members"]) for name in ("default", "default.dlq")}

    eventually(lambda: members() == {3}, 60, "three members of each queue")


@pytest.mark.behaviour("C16")
def test_the_broker_that_leads_goes_and_the_calls_are_answered_on(ha, tell):
    with disturbed(ha, answers=30) as load:
        leader = queues(ha)["default"]["leader"].partition("@")[2].partition(".")[0]
        began = time.time()
        ha.kubectl("delete", "pod", leader, "--timeout=60s", seconds=70)
        eventually(lambda: load.answers(began), 30, "an answer")
    away = load.whole_at - began
    tell(
        f"{leader} back after {away:.0f} s, longest time without an answer"
        f" {load.longest_gap():.1f} s: {load.counts}, {dict(load.others)}"
    )
    assert load.counts.lost == 0
    assert load.longest_gap() < away


@pytest.mark.parametrize("component", ["mysql", "gateway", "worker", "prometheus", "autoscaler"])
def test_a_pod_that_is_deleted_loses_no_task(ha, tell, component):
    with disturbed(ha) as load:
        began = time.time()
        pod = ha.pods(f"app.kubernetes.io/component={component}")[0]["metadata"]["name"]
        ha.kubectl("delete", "pod", pod, "--timeout=120s", seconds=130)
    tell(f"{component} back after {load.whole_at - began:.0f} s: {load.counts}, {dict(load.others)}")
    assert load.counts.lost == 0


@pytest.mark.behaviour("C23")
def test_a_drain_takes_no_more_than_one_broker_at_once(ha, tell):
    with disturbed(ha, returns=300) as load:
        with Drain(ha) as drain:
            done = drain(20)
            brokers, gateways = ready(ha, "rabbitmq"), ready(ha, "gateway")
        tell(f"drained {'wholly' if done else 'as far as allowed'}: {brokers} brokers, {gateways} gateways")
        assert brokers >= 2
    tell(f"{load.counts}, {dict(load.others)}")
    assert load.counts.lost == 0


@pytest.mark.behaviour("C16", "C38")
def test_one_broker_installed_alone_becomes_three_with_its_messages_and_never_fewer_again(fresh, tell):
    kit, chart = fresh("helm4"), CHART / "charts/rabbitmq"
    flags = ("--set=resources.requests.cpu=1m", "--set=resources.requests.memory=64Mi")
    kit.install(*flags, chart=chart)
    login = kit.login("rabbitmq")

    def manage(method, path, body=None):
        return kit.ask("rabbitmq", 15672, f"/api/{path}", method=method, body=body, login=login)

    made = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
    assert manage("PUT", "queues/%2F/kept", made).status == 201
    message = {"properties": {}, "routing_key": "kept", "payload": "1", "payload_encoding": "string"}
    assert manage("POST", "exchanges/%2F/amq.default/publish", message).json == {"routed": True}

    def upgrade(replicas):
        return kit.run_helm(
            "upgrade", RELEASE, str(chart), *flags, f"--set=replicas={replicas}", "--wait", "--timeout=300s",
            seconds=330,
        )  # fmt: skip

    began = time.time()
    upgrade(3)
    eventually(lambda: len(queues(kit)["kept"]["members"]) == 3, 90, "three members")
    tell(f"one broker became three in {time.time() - began:.0f} s")
    assert queues(kit)["kept"]["messages"] == 1
    with pytest.raises(CalledProcessError) as refused:
        upgrade(1)
    assert "replicas: 1 is fewer than there are" in refused.value.stderr
