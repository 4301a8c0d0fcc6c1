"""Write `base/`, `components/` and each overlay's `chart/` anew, from the chart: `make manifests`.

The base is the chart with the values of `base/values.yaml`. A component is what becomes different in it with
its own `values.yaml` on top: objects to add, objects to take away, and a patch for each one that changes.
Patches of network policies do nothing where the component `network-policies` is not used before.
With `--check` nothing is written; the exit code is 1 if a file is not what the chart makes today.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import build

HERE = Path(__file__).parent
CHART = HERE.parent / "helm" / "celery-kit"
RELEASE = NAMESPACE = "celery-kit"
HEADER = "# made from the chart by `make manifests`: change its values.yaml, not this file\n"
POLICIES = "network-policies"
OF_HELM = {"helm.sh/chart", "helm.sh/resource-policy", "app.kubernetes.io/managed-by"}

# what the items of a list are told apart by where it is not their name
MARKS = {"ports": ("containerPort", "port"), "volumeMounts": ("mountPath",)}

Object = dict[str, Any]
Key = tuple[str, str]


def files() -> dict[Path, str]:
    """All that is generated, by its place."""
    values = HERE / "base" / "values.yaml"
    base = objects(values)
    made = dict(_base(base))
    policies = HERE / "components" / POLICIES / "values.yaml"
    with_policies = objects(values, policies)
    made |= _component(policies.parent, base, with_policies)
    for own in sorted([*HERE.glob("components/*/values.yaml"), *HERE.glob("overlays/*/chart/values.yaml")]):
        if own != policies:
            made |= _component(own.parent, with_policies, objects(values, policies, own))
    return made


def objects(*values: Path) -> dict[Key, Object]:
    """What the chart makes of these values, without what only Helm needs."""
    options = [part for file in values for part in ("--values", file)]
    text = subprocess.run(
        [build.path("helm3"), "template", RELEASE, CHART, "--namespace", NAMESPACE, "--skip-tests", *options],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    found = [object_ for object_ in yaml.load_all(text, Loader=yaml.CSafeLoader) if object_]
    for object_ in found:
        for of in ("labels", "annotations"):
            kept = {k: v for k, v in object_["metadata"].pop(of, {}).items() if k not in OF_HELM}
            object_["metadata"] |= {of: kept} if kept else {}
    return {key(object_): object_ for object_ in found if not _of_the_test(object_)}


def key(object_: Object) -> Key:
    """What tells an object from all others."""
    return object_["kind"], object_["metadata"]["name"]


def _of_the_test(object_: Object) -> bool:
    """Whether an object is there for `helm test` alone."""
    return bool(object_["metadata"]["labels"]["app.kubernetes.io/component"] == "test")


def patch(old: Any, new: Any, field: str = "") -> Any:
    """What makes of the old the new, as a strategic merge patch."""
    if isinstance(old, dict) and isinstance(new, dict):
        changes = {k: patch(old.get(k), v, k) for k, v in new.items() if old.get(k) != v}
        return dict.fromkeys(old.keys() - new.keys()) | changes
    if mark := _mark(field, old, new):
        before, after = ({item[mark]: item for item in items} for items in (old, new))
        changed = [
            {mark: name} | patch(before.get(name, {}), item)
            for name, item in after.items()
            if before.get(name) != item
        ]
        return changed + [{mark: name, "$patch": "delete"} for name in before if name not in after]
    return new


def _mark(field: str, *lists: Any) -> str | None:
    """By what Kubernetes tells the items of a list apart; None if it is one that it takes as a whole."""
    if all(isinstance(part, list) and all(isinstance(item, dict) for item in part) for part in lists):
        items = [item for part in lists for item in part]
        return next(
            (mark for mark in MARKS.get(field, ("name",)) if all(mark in item for item in items)), None
        )
    return None


def _base(base: Mapping[Key, Object]) -> Iterator[tuple[Path, str]]:
    by_component: dict[str, list[Object]] = {}
    for object_ in base.values():
        component = object_["metadata"]["labels"]["app.kubernetes.io/component"]
        by_component.setdefault(component, []).append(object_)
    for component, of_it in by_component.items():
        yield HERE / "base" / f"{component}.yaml", _text(*of_it)
    listed = {"resources": ["namespace.yaml", *(f"{component}.yaml" for component in sorted(by_component))]}
    yield (
        HERE / "base" / "kustomization.yaml",
        _text(_kustomization("Kustomization") | {"namespace": NAMESPACE} | listed),
    )


def _component(
    folder: Path, base: Mapping[Key, Object], wanted: Mapping[Key, Object]
) -> Iterator[tuple[Path, str]]:
    """The files of one component."""
    kustomization = _kustomization("Component")
    if added := [object_ for key, object_ in wanted.items() if key not in base]:
        yield folder / "added.yaml", _text(*added)
        kustomization["resources"] = ["added.yaml"]
    patches: list[Object] = []
    for name, old in base.items():
        head = {"apiVersion": old["apiVersion"], "kind": old["kind"]}
        named: Object = {"metadata": {"name": name[1]}}
        if name not in wanted:
            patches.append(head | {"$patch": "delete"} | named)
        elif wanted[name] != old:
            changes = patch(old, wanted[name])
            named["metadata"] |= changes.pop("metadata", {})
            # the name last: kustomize takes the newline away that a patch ends with
            patches.append(head | changes | named)
    if patches:
        kustomization["patches"] = [_entry(part) for part in patches]
    yield folder / "kustomization.yaml", _text(kustomization)


def _entry(change: Object) -> Object:
    """A patch as a kustomization lists it; one with a target may find nothing to change."""
    kind, name = key(change)
    target = {"target": {"kind": kind, "name": name}} if kind == "NetworkPolicy" else {}
    return target | {"patch": _yaml(change)}


def _kustomization(kind: str) -> Object:
    version = "v1alpha1" if kind == "Component" else "v1beta1"
    return {"apiVersion": f"kustomize.config.k8s.io/{version}", "kind": kind}


class _Dumper(yaml.SafeDumper):
    """Text of many lines stays so."""


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _string)


def _yaml(object_: Object) -> str:
    return yaml.dump(object_, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)


def _text(*found: Object) -> str:
    return HEADER + "---\n".join(map(_yaml, found))


def stale(made: Mapping[Path, str]) -> list[Path]:
    """The files that are not what the chart makes today, or that it makes no more."""
    generated = {file for file in HERE.rglob("*.yaml") if file.read_text().startswith(HEADER)}
    return sorted(
        file
        for file in made.keys() | generated
        if file not in generated or file.read_text() != made.get(file)
    )


def main() -> int:
    """Write the files, or say which are not as they should be."""
    made = files()
    wrong = stale(made)
    if "--check" in sys.argv:
        for file in wrong:
            print(
                f"{file.relative_to(HERE.parent)}: not what the chart makes: `make manifests`",
                file=sys.stderr,
            )
        return bool(wrong)
    for file in wrong:
        if file in made:
            file.write_text(made[file])
        else:
            file.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
