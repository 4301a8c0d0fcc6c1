"""Write `schemas/kubernetes.json` anew: `python -m tests.chart.make_schemas KUBECTL`.

The API server itself says what its objects look like (OpenAPI v3), and the makers of custom resources what
theirs do. Kept are the kinds that the chart renders and what these refer to, without descriptions, and
closed, so that an unknown key is an error.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import crds

FILE = Path(__file__).with_name("schemas") / "kubernetes.json"
KINDS = {
    "api/v1": (
        "ConfigMap",
        "PersistentVolumeClaim",
        "Pod",
        "Secret",
        "Service",
        "ServiceAccount",
    ),
    "apis/apps/v1": ("Deployment", "StatefulSet"),
    "apis/coordination.k8s.io/v1": ("Lease",),
    "apis/autoscaling/v2": ("HorizontalPodAutoscaler",),
    "apis/batch/v1": ("Job",),
    "apis/networking.k8s.io/v1": ("Ingress", "NetworkPolicy"),
    "apis/policy/v1": ("PodDisruptionBudget",),
    "apis/rbac.authorization.k8s.io/v1": ("Role", "RoleBinding"),
}
# what says how an object came to be and how it fares: a chart never writes it
NOT_RENDERED = {"managedFields", "status"}


def main(kubectl: str) -> None:
    ask = [kubectl, "get", "--raw"]
    version = json.loads(subprocess.check_output([*ask, "/version"]))["gitVersion"]
    kinds: dict[str, str] = {}
    definitions: dict[str, Any] = {}
    for path, names in KINDS.items():
        document = json.loads(subprocess.check_output([*ask, f"/openapi/v3/{path}"]))
        known = document["components"]["schemas"]
        for name, schema in known.items():
            for kind in schema.get("x-kubernetes-group-version-kind", []):
                group = f"{kind['group']}/" if kind["group"] else ""
                if kind["kind"] in names and f"api{'s' if group else ''}/{group}{kind['version']}" == path:
                    kinds[f"{group}{kind['version']}/{kind['kind']}"] = name
                    _keep(name, known, definitions)
    for source in crds.SOURCES:
        for file in crds.definitions(source):
            spec = yaml.safe_load(file.read_text())["spec"]
            for served in spec["versions"]:
                name = f"{spec['group']}/{served['name']}/{spec['names']['kind']}"
                kinds[name] = name.replace("/", ".")
                definitions[kinds[name]] = _reduced(served["schema"]["openAPIV3Schema"], {}, {})
    document = {"kubernetes": version, "kinds": kinds, "definitions": definitions}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n")


def _keep(name: str, known: dict[str, Any], kept: dict[str, Any]) -> None:
    if name in kept:
        return
    kept[name] = {}  # a schema may refer to itself
    kept[name] = _reduced(known[name], known, kept)


def _reduced(schema: Any, known: dict[str, Any], kept: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_reduced(item, known, kept) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        _keep(name, known, kept)
        return {"$ref": f"#/definitions/{name}"}
    if len(schema.get("allOf", ())) == 1:  # a reference with a description or a default beside it
        return _reduced(schema["allOf"][0], known, kept)
    reduced = {
        key: _reduced(value, known, kept)
        for key, value in schema.items()
        if key in {"type", "items", "required", "enum", "oneOf", "pattern", "additionalProperties"}
    }
    if "properties" in schema:
        reduced["properties"] = {
            key: _reduced(value, known, kept)
            for key, value in schema["properties"].items()
            if key not in NOT_RENDERED
        }
        reduced["additionalProperties"] = False
    return reduced


if __name__ == "__main__":
    main(*sys.argv[1:])
