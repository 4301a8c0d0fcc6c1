"""`k8s/`: overlays and components are what the chart makes; `dev` is applied, and a task goes round."""

import json
import re
import subprocess
import uuid
from pathlib import Path

import pytest
import yaml

from k8s.render import HERE, NAMESPACE, POLICIES, RELEASE, key, objects
from tests.cluster.images import COMPONENTS as IMAGES
from tests.e2e.cluster import Kit
from tests.e2e.conftest import REGISTRY

COMPONENTS = sorted(folder.name for folder in (HERE / "components").iterdir())
OVERLAYS = sorted(folder.name for folder in (HERE / "overlays").iterdir())
VALUES = HERE / "base" / "values.yaml"
NAMESPACE_FILE = "k8s/base/namespace.yaml"


def built(cluster, folder):
    """What kustomize makes of a folder, by kind and name."""
    found = yaml.load_all(cluster.kubectl("kustomize", str(folder)), Loader=yaml.CSafeLoader)
    return {key(object_): object_ for object_ in found}


def kustomization(folder: Path, resource: Path, **more):
    """A folder with a kustomization of another, as a user would write it."""
    folder.mkdir(exist_ok=True)
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [relative(resource, folder)],
        **more,
    }
    (folder / "kustomization.yaml").write_text(json.dumps(content))
    return folder


def with_components(folder: Path, *names):
    """A kustomization of the base with components."""
    components = [relative(HERE / "components" / name, folder) for name in names]
    return kustomization(folder, HERE / "base", components=components)


def relative(to, folder):
    """Kustomize takes no absolute paths."""
    up = len(folder.resolve().parts) - 1
    return "/".join([".."] * up + list(to.resolve().parts[1:]))


def same(manifests, wanted):
    """Whether manifests are the chart's objects, but for what kustomize alone brings."""
    own = {k: bare(v) for k, v in manifests.items() if k[0] not in {"Namespace", "Secret"}}
    return own == {k: bare(v) for k, v in wanted.items()}


def bare(object_):
    """Without the namespace, and in one order where Kubernetes does not mind the order."""
    copy = json.loads(json.dumps(object_))
    copy["metadata"].pop("namespace", None)
    for subject in copy.get("subjects", []):
        subject.pop("namespace", None)
    pod = copy.get("spec", {}).get("template", {}).get("spec", {})
    for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
        for named in ("env", "volumeMounts", "ports"):
            container.get(named, []).sort(key=lambda item: item["name"])
    pod.get("volumes", []).sort(key=lambda item: item["name"])
    for service_port in copy["spec"].get("ports", []) if copy["kind"] == "Service" else []:
        service_port.setdefault("protocol", "TCP")
    return copy


@pytest.mark.behaviour("C39")
@pytest.mark.parametrize("policies", [[], [POLICIES]], ids=["", POLICIES])
@pytest.mark.parametrize("name", [name for name in COMPONENTS if name != POLICIES])
def test_the_base_with_a_component_is_what_the_chart_makes_with_its_values(cluster, tmp_path, name, policies):
    folder = with_components(tmp_path / "mine", *policies, name)
    wanted = objects(VALUES, *(HERE / "components" / part / "values.yaml" for part in [*policies, name]))
    assert same(built(cluster, folder), wanted)


@pytest.mark.behaviour("C39")
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_what_the_chart_makes_with_its_values(cluster, name):
    folder = HERE / "overlays" / name
    policies = HERE / "components" / POLICIES / "values.yaml"
    wanted = objects(VALUES, policies, folder / "chart" / "values.yaml")
    assert same(built(cluster, folder), wanted)


def from_registry(overlay: Path, folder: Path, registry: str):
    """A kustomization of an overlay whose images of the kit come from there."""
    names = (f"celery-kit/{part}" for part in IMAGES)
    images = [{"name": name, "newName": f"{registry}/{name}"} for name in names]
    return kustomization(folder, overlay, images=images)


@pytest.mark.parametrize("name", OVERLAYS)
def test_each_image_of_the_kit_can_come_from_a_registry(cluster, tmp_path, name):
    folder = from_registry(HERE / "overlays" / name, tmp_path / "mine", "registry.example/team")
    text = cluster.kubectl("kustomize", str(folder))
    images = {image for image in re.findall(r"image: (\S+)", text) if "celery-kit/" in image}
    assert {image.rpartition(":")[0] for image in images} == {
        f"registry.example/team/celery-kit/{part}" for part in IMAGES
    }


@pytest.fixture(scope="module")
def dev(cluster, tmp_path_factory):
    """The overlay dev, applied and ready; the namespace must be nobody's, as it goes with the tests."""
    kit = Kit(cluster, "", NAMESPACE, RELEASE)
    if cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found"):
        pytest.fail(f"the namespace {NAMESPACE} is there already: what it holds would be lost")
    overlay = HERE / "overlays" / "dev"
    if REGISTRY:
        overlay = from_registry(overlay, tmp_path_factory.mktemp("dev"), REGISTRY)
    try:
        cluster.kubectl("apply", "-k", str(overlay))
        for kind in ("statefulset", "deployment"):
            for name in kit.names(kind):
                kit.kubectl("rollout", "status", f"{kind}/{name}", "--timeout=240s", seconds=250)
        yield kit
    except subprocess.CalledProcessError as error:
        error.add_note(kit.state())
        raise
    finally:
        kit.close()
        cluster.remove_namespace(NAMESPACE)


@pytest.mark.timeout(400)
def test_the_overlay_dev_gets_ready_and_a_task_goes_round(dev):
    answer = dev.ask(
        "gateway",
        8000,
        "/v1/tasks/task.echo",
        method="POST",
        body={"args": ["applied"]},
        headers={"X-API-Key": "dev", "Prefer": "wait=50"},
    )
    assert (answer.status, answer.json["result"]) == (200, "applied")


@pytest.mark.parametrize("name", ["external-broker", "external-mysql", "prod"])
def test_the_api_server_takes_what_is_not_applied(cluster, dev, tmp_path, name):
    """It needs the namespace, which the overlay dev brings."""
    folder = HERE / "overlays" / name
    if name not in OVERLAYS:
        folder = with_components(tmp_path / "mine", POLICIES, name)
    text = cluster.kubectl("kustomize", str(folder))
    # to the server, objects are new: what cannot change in those of dev is not asked here
    renamed = text.replace("celery-kit-", "other-")
    assert "(server dry run)" in cluster.kubectl("apply", "--dry-run=server", "-f", "-", text=renamed)


@pytest.fixture
def empty(cluster):
    """A namespace with nothing in it."""
    name = f"e2e-{uuid.uuid4().hex[:6]}"
    cluster.namespace(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_the_commands_of_the_page_make_every_secret_that_the_pods_of_prod_want(cluster, empty, tmp_path):
    page = (HERE / "README.md").read_text().partition("## Production")[2]
    commands = re.search(r"```sh notest.*?\n(.*?)```", page, re.DOTALL)
    assert commands
    script = (
        commands[1].replace("-n celery-kit", f"-n {empty}").replace(f"{NAMESPACE_FILE}\n", "/dev/null || :\n")
    )
    (tmp_path / "kubectl").symlink_to(cluster.tools["kubectl"])
    path = f"{tmp_path}:{cluster.environment['PATH']}"
    subprocess.run(
        ["bash", "-euc", script], env=cluster.environment | {"PATH": path}, check=True, capture_output=True
    )
    made = json.loads(cluster.kubectl("get", "secrets", "-n", empty, "-o", "json"))["items"]
    keys = {(secret["metadata"]["name"], name) for secret in made for name in secret["data"]}
    wanted = re.findall(
        r"secretKeyRef:\s+key: (\S+)\s+name: (\S+)",
        cluster.kubectl("kustomize", str(HERE / "overlays" / "prod")),
    )
    assert wanted
    assert {(name, key) for key, name in wanted} <= keys
