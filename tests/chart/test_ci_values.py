"""The files of `ci/`: values for eight sorts of user, which every version must take."""

from decimal import Decimal

import pytest
import yaml
from lightkube.utils.quantity import parse_quantity

from tests.chart.render import CHART, GIVEN
from tests.chart.test_renders import NEWEST, OLDEST, validate

FILES = {file.name.removesuffix("-values.yaml"): file for file in sorted((CHART / "ci").iterdir())}
MIB = 2**20


def profile(name):
    return yaml.safe_load(FILES[name].read_text())


def test_there_is_a_file_for_each_sort_of_user():
    assert set(FILES) == {
        *("minimal", "default", "external", "ha"),
        *("operator", "restricted", "gitops", "keda"),
    }


@pytest.mark.parametrize("name", FILES)
def test_each_file_begins_by_saying_who_it_is_for(name):
    assert FILES[name].read_text().startswith("# For ")


@pytest.mark.behaviour("C1")
@pytest.mark.parametrize("name", FILES)
def test_each_file_renders_and_lints_without_a_warning_on_both_helms(helm, each_helm, name):
    each_helm.lint(profile(name))
    assert each_helm.render(GIVEN, profile(name)) == helm.render(GIVEN, profile(name))


@pytest.mark.behaviour("C2", "C45")
@pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])
@pytest.mark.parametrize("name", FILES)
def test_each_file_makes_objects_that_the_oldest_and_the_newest_kubernetes_know(helm, name, kubernetes):
    for object_ in helm.render(GIVEN, profile(name), kubernetes=kubernetes):
        validate(object_)


def asked(objects, least_workers):
    """CPU in cores and memory in bytes that the pods of a fresh release request."""
    cpu = memory = Decimal()
    for object_, pod in objects.pods():
        if object_["kind"] == "Pod":  # the test's, which comes and goes
            continue
        count = object_["spec"].get("replicas", least_workers)
        running, first = (
            [
                [parse_quantity(container["resources"]["requests"][of]) for of in ("cpu", "memory")]
                for container in pod.get(group, [])
            ]
            for group in ("containers", "initContainers")
        )
        sums = [sum(parts) for parts in zip(*running, strict=True)]
        needs = [max(column) for column in zip(sums, *first, strict=True)]
        cpu, memory = cpu + count * needs[0], memory + count * needs[1]
    return cpu, memory


@pytest.mark.behaviour("C41")
@pytest.mark.parametrize("name", ["minimal", "default"])
def test_one_cpu_and_a_gibibyte_and_a_half_are_enough_to_begin(helm, name):
    cpu, memory = asked(helm.render(profile(name)), least_workers=1)
    assert 0 < cpu <= 1
    assert 0 < memory <= 1536 * MIB


def test_the_least_asks_for_what_its_file_says(helm):
    cpu, memory = asked(helm.render(profile("minimal")), least_workers=1)
    assert cpu < Decimal("0.5")
    assert memory < 1024 * MIB


@pytest.mark.behaviour("C41")
@pytest.mark.parametrize("name", FILES)
def test_every_container_says_what_it_needs_and_what_it_may_take(helm, name):
    for where, container in helm.render(profile(name)).containers():
        for limit in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][limit].keys(), where


@pytest.mark.behaviour("C33")
def test_what_gitops_renders_is_the_same_each_time_and_holds_no_secret(each_helm):
    text = each_helm.text(profile("gitops"))
    assert text == each_helm.text(profile("gitops"))
    assert not each_helm.render(profile("gitops")).of("Secret")


def test_external_brings_no_store(helm):
    components = {
        object_["metadata"]["labels"]["app.kubernetes.io/component"]
        for object_, _ in helm.render(profile("external")).pods()
    }
    assert components == {"gateway", "worker", "autoscaler", "flower", "test"}


def test_what_is_highly_available_runs_at_least_twice(helm):
    objects = helm.render(profile("ha"))
    for name in ("kit-gateway", "kit-autoscaler"):
        assert objects.get("Deployment", name)["spec"]["replicas"] >= 2
    pools = yaml.safe_load(objects.data("kit-autoscaler")["autoscaler.yaml"])["worker"]["pools"]
    assert all(pool["autoscale"]["minWorkers"] >= 2 for pool in pools.values())
