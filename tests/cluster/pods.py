"""Pods to try images in, under the restricted standard."""

import json
import sys
import time
import uuid
from collections.abc import Callable
from subprocess import PIPE, CalledProcessError, run
from typing import Any

from tests.cluster.tools import ROOT


def tool(*arguments: str) -> str:
    """Run the cluster's tool and return the last line of what it prints."""
    command = [sys.executable, "-m", "tests.cluster", *arguments]
    return run(command, cwd=ROOT, check=True, stdout=PIPE, text=True).stdout.strip().splitlines()[-1]


class Pods:
    """Pods of a namespace that enforces the restricted standard."""

    def __init__(self) -> None:
        self.kubeconfig, self.program = tool("up"), tool("path", "kubectl")
        self.namespace = f"stand-ins-{uuid.uuid4().hex[:6]}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.apply("Namespace", self.namespace, labels=labels)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        command = [
            self.program,
            f"--kubeconfig={self.kubeconfig}",
            f"--namespace={self.namespace}",
            *arguments,
        ]
        return run(command, input=stdin, check=True, capture_output=True, text=True, timeout=120).stdout

    def apply(self, kind: str, name: str, labels: dict[str, str] | None = None, **fields: Any) -> None:
        head = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels or {}}}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(head | fields))

    def start(self, image: str, user: int, **options: Any) -> str:
        """Start a pod and return its name once its container runs; the options are those of `create`."""
        name = self.create(image, user, **options)
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        return name

    def create(
        self,
        image: str,
        user: int,
        *,
        env: dict[str, str] | None = None,
        args: list[str] | None = None,
        command: list[str] | None = None,
        empty: tuple[str, ...] = (),
        files: dict[str, dict[str, str]] | None = None,
    ) -> str:
        """Start a pod with empty folders and folders of files; return its name."""
        name = f"pod-{uuid.uuid4().hex[:6]}"
        volumes: list[dict[str, Any]] = [{"name": f"empty-{i}", "emptyDir": {}} for i in range(len(empty))]
        mounts = [{"name": f"empty-{i}", "mountPath": path} for i, path in enumerate(empty)]
        for number, (path, content) in enumerate((files or {}).items()):
            self.apply("ConfigMap", f"{name}-{number}", data=content)
            volumes.append({"name": f"files-{number}", "configMap": {"name": f"{name}-{number}"}})
            mounts.append({"name": f"files-{number}", "mountPath": path})
        security = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        container: dict[str, Any] = {
            "name": "it",
            "image": image,
            "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
            "securityContext": security,
            "volumeMounts": mounts,
        }
        container |= {key: value for key, value in (("args", args), ("command", command)) if value}
        spec = {
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": user,
                "runAsGroup": user,
                "fsGroup": user,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 5,
            "containers": [container],
            "volumes": volumes,
        }
        self.apply("Pod", name, spec=spec)
        return name

    def execute(self, pod: str, *command: str) -> str:
        return self.kubectl("exec", pod, "--", *command)

    def address(self, pod: str) -> str:
        return self.kubectl("get", "pod", pod, "-o", "jsonpath={.status.podIP}")


def eventually(look: Callable[[], Any], seconds: float = 90) -> Any:
    """Await what is true and return it; a failed command is tried again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := look():
                return found
        except CalledProcessError as error:
            if time.monotonic() > deadline:
                raise AssertionError(error.stderr) from error
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.5)
