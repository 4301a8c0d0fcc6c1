"""What `helm template` makes of the chart, once for each set of values, as objects to look into."""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "helm" / "celery-kit"
SUBCHARTS = ("rabbitmq", "mysql", "prometheus", "grafana")
LONG = "r" * 53  # as long as Helm lets a release's name be
POOL = "celery-kit/pool"  # the label of what belongs to a pool of workers

Object = dict[str, Any]

# with every secret given, a chart renders the same text each time
GIVEN: Mapping[str, Any] = {
    "gateway": {"auth": {"apiKey": "canary-api-key"}},
    "worker": {"auth": {"drainToken": "canary-drain-token"}},
    "flower": {"auth": {"password": "canary-flower"}},
    "rabbitmq": {"auth": {"password": "canary-rabbitmq", "erlangCookie": "canary-cookie"}},
    "mysql": {
        "auth": {
            "password": "canary-mysql",
            "rootPassword": "canary-root",
            "exporterPassword": "canary-exporter",
        }
    },
    "grafana": {"auth": {"password": "canary-grafana"}},
}


class HelmError(Exception):
    """Helm refuses; the text is what it says."""


class Objects(list[Object]):
    """The objects of one render."""

    def of(self, kind: str) -> list[Object]:
        """All of one kind."""
        return [object_ for object_ in self if object_["kind"] == kind]

    def get(self, kind: str, name: str) -> Object:
        """The one of this kind and name."""
        (found,) = (object_ for object_ in self.of(kind) if object_["metadata"]["name"] == name)
        return found

    def pods(self) -> Iterator[tuple[Object, Object]]:
        """Each object that makes pods, or is one, with the pod's spec."""
        for object_ in self:
            if object_["kind"] == "Pod":
                yield object_, object_["spec"]
            elif "template" in object_.get("spec", {}):
                yield object_, object_["spec"]["template"]["spec"]

    def containers(self) -> Iterator[tuple[str, Object]]:
        """Every container, init containers too, with a name to tell it by."""
        for object_, pod in self.pods():
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                yield f"{object_['metadata']['name']}/{container['name']}", container

    def container(self, path: str) -> Object:
        """The container of this name, as in `kit-gateway/gateway`."""
        return dict(self.containers())[path]

    def variables(self, path: str) -> dict[str, str | None]:
        """The variables of this container; None where the value comes from elsewhere."""
        return {variable["name"]: variable.get("value") for variable in self.container(path)["env"]}

    def data(self, name: str) -> dict[str, str]:
        """What a ConfigMap holds."""
        return dict(self.get("ConfigMap", name)["data"])


@dataclass(frozen=True)
class Helm:
    """One Helm; it renders in the namespace `team`, as the release `kit` unless told otherwise."""

    program: Path

    def render(
        self, *values: Mapping[str, Any], release: str = "kit", chart: Path = CHART, kubernetes: str = ""
    ) -> Objects:
        """Objects for these values, later ones before earlier ones; never change them. Raises HelmError."""
        texts = tuple(json.dumps(part, sort_keys=True) for part in values)
        return _objects(self.program, texts, release, chart, kubernetes)

    def text(self, *values: Mapping[str, Any], release: str = "kit", chart: Path = CHART) -> str:
        """The same as text, rendered anew each time."""
        return _template(self.program, tuple(json.dumps(part) for part in values), release, chart, "")

    def refusal(self, *values: Mapping[str, Any], release: str = "kit") -> str:
        """What it says to values that it refuses."""
        try:
            self.render(*values, release=release)
        except HelmError as error:
            return str(error)
        raise AssertionError(f"accepted: {values}")

    def lint(self, *values: Mapping[str, Any]) -> None:
        """Raise HelmError for anything that it would warn of."""
        with _files(tuple(json.dumps(part) for part in values)) as options:
            _run([self.program, "lint", "--strict", CHART, *options])


@cache
def _objects(program: Path, values: tuple[str, ...], release: str, chart: Path, kubernetes: str) -> Objects:
    text = _template(program, values, release, chart, kubernetes)
    return Objects(object_ for object_ in yaml.load_all(text, Loader=yaml.CSafeLoader) if object_)


def _template(program: Path, values: tuple[str, ...], release: str, chart: Path, kubernetes: str) -> str:
    version = ["--kube-version", kubernetes] if kubernetes else []
    with _files(values) as options:
        return _run([program, "template", release, chart, "--namespace", "team", *version, *options])


@contextmanager
def _files(values: tuple[str, ...]) -> Iterator[list[str]]:
    """Values as files, as Helm's options."""
    with tempfile.TemporaryDirectory() as folder:
        options = []
        for number, text in enumerate(values):
            file = Path(folder) / f"{number}.json"
            file.write_text(text)
            options += ["--values", str(file)]
        yield options


def _run(command: list[Any]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode != 0:
        raise HelmError(done.stderr + done.stdout)
    return done.stdout
