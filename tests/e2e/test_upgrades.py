"""`helm upgrade` and `helm rollback` of versions, images, values: what lasts, and what is not disturbed."""

import json
import re
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import yaml

from k8s.render import key
from tests.chart.previous import ROOT, previous
from tests.chart.previous import version as chart_version
from tests.cluster.images import COMPONENTS, version
from tests.cluster.node import Node
from tests.e2e.cluster import CHART, RELEASE, WORKERS, eventually, passing
from tests.e2e.conftest import FLAGS, ON_NODE
from tests.e2e.load import counted
from tests.e2e.test_scaling import at_rest, ended, send

# a node of two cores has no room for ten old workers, new ones in their place, and the stores
FITTING = (*FLAGS, "--set=worker.autoscale.maxWorkers=5")
RESTRICTED = f"--values={CHART}/ci/restricted-values.yaml"
TASKS = 100
SECONDS = 300
QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "team"},
    # a pod of which a container does not say what it takes is refused
    "spec": {
        "hard": {"requests.cpu": "4", "requests.memory": "6Gi", "limits.cpu": "40", "limits.memory": "20Gi"}
    },
}
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def older(tmp_path_factory, tell):
    """The chart as its last version was, or, where this is a shallow clone or none at all, as it is."""
    try:
        return previous(tmp_path_factory.mktemp("older"))
    except LookupError as reason:
        if has_whole_history():
            raise
        tell(f"NO UPGRADE FROM THE LAST VERSION IS TESTED, but from this one to itself: {reason}")
        return CHART


def has_whole_history():
    """Whether git has all commits of this repository here."""
    try:
        said = subprocess.run(
            ["git", "rev-parse", "--is-shallow-repository"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return said.stdout.strip() == "false"


@pytest.fixture(scope="module")
def aged(cluster, older, tell):
    """A kit of the last version, with the images of this one, in a namespace with a quota; by Helm 3."""
    with passing(cluster, "helm3") as kit:
        cluster.namespace(kit.namespace)
        cluster.kubectl("apply", "-n", kit.namespace, "-f", "-", text=json.dumps(QUOTA))
        tags = [f"--set={part}.image.tag={version()}" for part in COMPONENTS]
        tell(f"the last version installed and ready in {kit.install(*FITTING, *tags, chart=older):.0f} s")
        yield kit


@pytest.fixture
def other_tag(tell):
    """A tag under which the node has the very same images; elsewhere the one that they have."""
    if not ON_NODE:
        tell("the images keep their tag: only in the store of a node made here can they be given another")
        yield version()
        return
    node, tag = Node(), "another"
    names = {f"docker.io/celery-kit/{part}": part for part in COMPONENTS}
    for name in names:
        node.ctr("images", "tag", "--force", f"{name}:{version()}", f"{name}:{tag}")
    yield tag
    node.ctr("images", "remove", *(f"{name}:{tag}" for name in names))


def uids(kit, *what):
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in kit.get(*what)["items"]}


def secrets(kit):
    return {
        (item["metadata"]["name"], key): value
        for item in kit.get("secrets", "-l", f"app.kubernetes.io/instance={RELEASE}")["items"]
        for key, value in item["data"].items()
    }


def asked(kit, word):
    """Have a word echoed, and its operation kept: an answer within the wait would leave none."""

    def accepted():  # a forwarded port may still lead to a gateway that goes
        answer = kit.gateway("/v1/tasks/task.echo", "POST", {"args": [word]}, Prefer="respond-async")
        return answer.status == 202 and answer.json["id"]

    return eventually(accepted, 60, "a task is accepted")


def result(kit, task):
    answer = kit.gateway(f"/v1/operations/{task}")
    return answer.status == 200 and answer.json.get("result")


@pytest.mark.behaviour("C11", "C12", "C38")
def test_the_last_version_becomes_this_one_with_other_images_under_load_and_loses_nothing(
    aged, other_tag, tell
):
    task = asked(aged, "before")
    eventually(lambda: result(aged, task), 30, "the result")
    kept, claims = secrets(aged), uids(aged, "pvc")
    accepted = send(aged, [1.0] * TASKS)

    tags = [f"--set={part}.image.tag={other_tag}" for part in COMPONENTS]
    began = time.monotonic()
    answers = Counter()
    unmet = 0
    with ThreadPoolExecutor() as pool:
        upgrade = pool.submit(
            aged.run_helm,
            *("upgrade", RELEASE, str(CHART), "--wait", f"--timeout={SECONDS}s"),
            *(RESTRICTED, *FITTING, *tags),
            seconds=SECONDS + 30,
        )
        while not upgrade.done():
            try:
                answer = aged.gateway("/v1/tasks/task.sleep", "POST", {"kwargs": {"seconds": 0.1}})
            except (OSError, AssertionError, subprocess.CalledProcessError):
                unmet += 1  # the port-forward ends with the gateway's old pod
            else:
                answers[answer.status] += 1
                accepted |= {answer.json["id"]: time.time()} if answer.status in {200, 202} else {}
            wait([upgrade], timeout=1)
    try:
        upgrade.result()
    except subprocess.SubprocessError as error:
        error.add_note(aged.state())
        raise
    tell(
        f"upgraded in {time.monotonic() - began:.0f} s under load:"
        f" answers {dict(answers)}, {unmet} requests met no gateway"
    )
    assert answers.keys() <= {200, 202, 503}, answers
    assert answers[200] + answers[202]

    images = {
        container["image"]
        for pod in aged.pods("app.kubernetes.io/component in (gateway, worker)")
        for container in pod["spec"]["containers"]
    }
    assert {image.rpartition(":")[2] for image in images} == {other_tag}
    eventually(lambda: ended(aged, accepted), 240, "all tasks are done")
    counts = counted(aged, accepted)
    tell(f"done {counts.done}, lost {counts.lost}, twice {counts.run_twice}, cut {counts.interrupted}")
    assert (counts.done, counts.lost) == (len(accepted), 0)

    assert kept.items() <= secrets(aged).items()
    assert claims
    assert claims.items() <= uids(aged, "pvc").items()
    assert eventually(lambda: result(aged, task), 30, "the old result") == "before"


def workers(kit):
    """Each worker's start: another uid or a restart would be another."""
    return {
        pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0]["restartCount"]
        for pod in kit.pods("app.kubernetes.io/component=worker")
        if pod["status"].get("containerStatuses")
    }


@pytest.mark.behaviour("C8", "C9", "C31", "C38")
def test_a_new_threshold_restarts_no_worker_and_resets_no_number_on_both_helms(aged, kit, tell):
    old = {one: revision(one) for one in (aged, kit)}
    for one in old:
        set_values(one, "worker.autoscale.policy=threshold")
    for one in old:
        eventually(lambda one=one: settings(one)["policy"] == "threshold", 150, "the policy threshold")
    began = time.monotonic()
    before = {}
    for one in old:
        eventually(lambda one=one: at_rest(one), 180, "one worker and nothing to do")
        send(one, [20] * 16)  # wants two workers, for longer than the rest takes
        eventually(lambda one=one: len(workers(one)) == 2, 60, "two workers")
        before[one] = workers(one), int(threshold(one))
    for one, (started, target) in before.items():
        set_values(one, f"worker.autoscale.targetBacklogPerWorker={target + 3}")
        assert one.get("deployment", WORKERS)["spec"]["replicas"] == 2
        assert workers(one) == started
    for one, (started, target) in before.items():
        eventually(lambda one=one, new=target + 3: threshold(one) == new, 150, "the new threshold")
        tell(f"{one.helm}: a new threshold took effect within {time.monotonic() - began:.0f} s")
        config = one.get("configmap", f"{RELEASE}-autoscaler")["data"]
        one.run_helm("rollback", RELEASE, str(old[one]), seconds=120)
        assert one.get("configmap", f"{RELEASE}-autoscaler")["data"] != config
        left = workers(one)
        assert left
        assert left.items() <= started.items()


def set_values(kit, *values):
    flags = (f"--set={value}" for value in values)
    kit.run_helm("upgrade", RELEASE, str(CHART), "--reset-then-reuse-values", *flags, seconds=120)


def revision(kit):
    (last,) = json.loads(kit.run_helm("history", RELEASE, "--max=1", "--output=json"))
    return last["revision"]


def settings(kit):
    return kit.explained()["settings"]


def threshold(kit):
    return settings(kit)["targetBacklogPerWorker"]


def manifest(kit, *flags):
    """What Helm says that a revision has."""
    objects = filter(None, yaml.safe_load_all(kit.run_helm("get", "manifest", RELEASE, *flags)))
    return {key(object_): object_ for object_ in objects}


def live(kit, keys):
    """Those of these objects that the cluster has."""
    names = sorted(map("/".join, keys))
    if not names:
        return {}
    found = json.loads(kit.kubectl("get", "--ignore-not-found", "-o", "json", *names) or "{}")
    return {key(item): item for item in found.get("items", [found] if found else [])}


def versions(objects):
    """The charts' versions that objects are labelled with."""
    labels = {object_["metadata"]["labels"]["helm.sh/chart"] for object_ in objects.values()}
    return {re.sub(r"^[a-z-]+-", "", label) for label in labels}


@pytest.mark.behaviour("C38")
def test_a_rollback_brings_the_last_version_back_which_works_on(aged, older, tell):
    kept = secrets(aged)
    old, new = manifest(aged, "--revision=1"), manifest(aged)
    assert versions(new) == {chart_version((CHART / "Chart.yaml").read_text())}
    began = time.monotonic()
    aged.run_helm("rollback", RELEASE, "1", "--wait", f"--timeout={SECONDS}s", seconds=SECONDS + 30)
    tell(f"rolled back to the last version in {time.monotonic() - began:.0f} s")
    back = live(aged, old)
    last = chart_version((older / "Chart.yaml").read_text())
    assert (back.keys(), versions(back)) == (old.keys(), {last})
    eventually(lambda: not live(aged, new.keys() - old.keys()), 60, "what only the new version has is gone")
    task = asked(aged, "back")
    assert eventually(lambda: result(aged, task), 60, "the result") == "back"
    assert kept.items() <= secrets(aged).items()


@pytest.mark.behaviour("C11")
def test_what_was_uninstalled_comes_back_with_its_secrets_and_data(aged, tell):
    task = asked(aged, "kept")
    eventually(lambda: result(aged, task), 30, "the result")
    before = secrets(aged)
    aged.run_helm("uninstall", RELEASE, "--wait", seconds=SECONDS)
    aged.close()
    tell(f"installed again, on the old volumes, in {aged.install(RESTRICTED, *FITTING):.0f} s")
    assert secrets(aged) == before
    assert eventually(lambda: result(aged, task), 30, "the old result") == "kept"
    new = asked(aged, "again")
    assert eventually(lambda: result(aged, new), 60, "the result") == "again"
