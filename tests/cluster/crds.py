"""Definitions of custom resources, as those who make them publish them: in their Go modules."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.tools import require_go, run


@dataclass(frozen=True)
class Source:
    """A Go module, its version, and the files of it that define the kinds that the chart can render."""

    module: str
    version: str
    files: tuple[str, ...]


SOURCES = {
    "cert-manager": Source(
        "github.com/cert-manager/cert-manager",
        "v1.21.2",
        ("deploy/crds/cert-manager.io_certificates.yaml",),
    ),
    "keda": Source(
        "github.com/kedacore/keda/v2", "v2.21.0", ("config/crd/bases/keda.sh_scaledobjects.yaml",)
    ),
    "prometheus-operator": Source(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        tuple(
            f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
            for kind in ("podmonitors", "prometheusrules", "servicemonitors")
        ),
    ),
}


def definitions(name: str) -> list[Path]:
    """The files of one source, downloaded unless they are in Go's cache."""
    require_go()
    source = SOURCES[name]
    said = run("go", "mod", "download", "-json", f"{source.module}@{source.version}")
    return [Path(json.loads(said)["Dir"]) / file for file in source.files]
