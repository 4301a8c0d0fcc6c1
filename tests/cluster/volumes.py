"""Volumes for the claims of charts: folders of this machine, as nothing here makes volumes on demand."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

COUNT = 16
SIZE = "20Gi"
CLASS = "standard"

Kubectl = Callable[..., str]


def make(kubectl: Kubectl, folder: Path) -> None:
    """Make the default StorageClass and its volumes; those that a deleted claim left are made anew, empty."""
    phases = {
        volume["metadata"]["name"]: volume["status"]["phase"]
        for volume in json.loads(kubectl("get", "persistentvolumes", "-o", "json"))["items"]
    }
    names = [f"{CLASS}-{number}" for number in range(COUNT)]
    missing = [name for name in names if phases.get(name) not in {"Available", "Bound"}]
    if stale := [name for name in missing if name in phases]:
        kubectl("delete", "persistentvolume", *stale)
    for name in missing:
        place = folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        place.chmod(0o777)  # no kubelet gives a folder of the host to a pod's group
    objects = [_storage_class(), *(_volume(name, folder / name) for name in missing)]
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def _storage_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _volume(name: str, place: Path) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
            "hostPath": {"path": str(place), "type": "Directory"},
        },
    }
