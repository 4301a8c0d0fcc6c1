"""A real cluster, and the kit installed in a namespace of it."""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import quote

import pymysql

from local.http import request

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/celery-kit"
RELEASE = "kit"
WORKERS = f"{RELEASE}-worker-default"  # the Deployment of the pool `default`
INSTALL_SECONDS = 300
FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


def cluster_tool(*arguments: str) -> str:
    """Run the cluster's own tool; returns the last line that it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster", *arguments],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, f"tests.cluster {' '.join(arguments)} failed"
    return (done.stdout.strip().splitlines() or [""])[-1]


def eventually(
    look: Callable[[], Any], seconds: float, what: str | Callable[[], str], pause: float = 0.5
) -> Any:
    """Await what is true, and return it; a look that fails is tried again."""
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        try:
            if last := look():
                return last
        except (OSError, subprocess.CalledProcessError, pymysql.MySQLError) as error:
            last = error
        time.sleep(pause)
    what = what if isinstance(what, str) else what()
    raise AssertionError(f"not within {seconds:g} s: {what}; at last {last!r}")


class Answer(NamedTuple):
    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Cluster:
    """The cluster and the tools to talk to it."""

    def __init__(self, kubeconfig: str) -> None:
        self.environment = os.environ | {"KUBECONFIG": kubeconfig, "HELM_NAMESPACE": ""}
        self.tools = {name: cluster_tool("path", name) for name in ("kubectl", "helm3", "helm4")}

    def run(self, name: str, *arguments: str, text: str | None = None, seconds: float = 60) -> str:
        """Run a tool; returns what it printed. A failure raises with what it said."""
        done = subprocess.run(
            [self.tools[name], *arguments],
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        if done.returncode:
            error = subprocess.CalledProcessError(
                done.returncode, [name, *arguments], done.stdout, done.stderr
            )
            error.add_note(f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
            raise error
        return done.stdout

    def kubectl(self, *arguments: str, text: str | None = None, seconds: float = 60) -> str:
        return self.run("kubectl", *arguments, text=text, seconds=seconds)

    def namespace(self, name: str) -> None:
        """Make a namespace that enforces the `restricted` standard."""
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        self.kubectl("apply", "-f", "-", text=json.dumps(made))

    def remove_namespace(self, name: str) -> None:
        """Remove a namespace with all that is in it, and make its volumes fresh."""
        # Kubernetes looks at a namespace again only after half the longest grace period of its pods, or at
        # its resync each five minutes, however soon they end. Workers end sooner while there is a broker.
        for kinds in ("deployments,jobs", "statefulsets", "pods"):
            everything = (kinds, "--all", "--cascade=foreground", "-n", name)
            self.kubectl("delete", *everything, "--wait", "--timeout=180s", seconds=200)
        self.kubectl("delete", "namespace", name, "--wait", "--timeout=180s", seconds=200)
        cluster_tool("volumes")


class Kit:
    """One release of the chart in a namespace of its own."""

    def __init__(self, cluster: Cluster, helm: str, namespace: str, release: str = RELEASE) -> None:
        self.cluster, self.helm, self.namespace, self.release = cluster, helm, namespace, release
        self._forwards: dict[tuple[str, int], tuple[subprocess.Popen[bytes], IO[bytes], int]] = {}

    def kubectl(self, *arguments: str, seconds: float = 60) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, seconds=seconds)

    def get(self, *arguments: str) -> Any:
        """`kubectl get`, as JSON."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def names(self, kind: str) -> set[str]:
        return {item["metadata"]["name"] for item in self.get(kind)["items"]}

    def pods(self, selector: str) -> list[Any]:
        """The pods of a selector, without those that are about to go."""
        found = self.get("pods", "-l", selector)["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def run_helm(self, *arguments: str, seconds: float = 60) -> str:
        return self.cluster.run(self.helm, *arguments, "-n", self.namespace, seconds=seconds)

    def install(self, *flags: str, chart: Path = CHART) -> float:
        """`helm install --wait`; returns the seconds that it took."""
        self.cluster.namespace(self.namespace)
        began = time.monotonic()
        try:
            self.run_helm(
                "install", self.release, str(chart), "--wait", f"--timeout={INSTALL_SECONDS}s", *flags,
                seconds=INSTALL_SECONDS + 30,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            error.add_note(self.state())
            raise
        return time.monotonic() - began

    def state(self) -> str:
        """What there is, for a failure's message."""
        said = [self.kubectl("get", "pods,pvc", "-o", "wide"), self.kubectl("get", "events")[-3000:]]
        for pod in self.get("pods")["items"]:
            if not all(c["ready"] for c in pod["status"].get("containerStatuses", [{"ready": False}])):
                with suppress(subprocess.CalledProcessError):
                    name = pod["metadata"]["name"]
                    said.append(self.kubectl("logs", name, "--all-containers", "--prefix", "--tail=20"))
        return "\n".join(said)

    def secret(self, component: str, key: str) -> str:
        data = self.get("secret", f"{self.release}-{component}")["data"]
        return base64.b64decode(data[key]).decode()

    def login(self, component: str) -> tuple[str, str]:
        """The name and the password that a component asks for."""
        return self.secret(component, "username"), self.secret(component, "password")

    def address(self, component: str, port: int) -> str:
        """`127.0.0.1:PORT`, forwarded to a component's Service for as long as its pod lives."""
        held = self._forwards.get((component, port))
        if held and held[0].poll() is None:
            return f"127.0.0.1:{held[2]}"
        if held:  # its pod is gone
            _end(*held[:2])
        output = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        process = subprocess.Popen(
            [
                self.cluster.tools["kubectl"], "-n", self.namespace, "port-forward", "--address=127.0.0.1",
                f"service/{self.release}-{component}", f":{port}",
            ],
            env=self.cluster.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip

        def forwarded() -> re.Match[str] | None:
            said = os.pread(output.fileno(), 10000, 0).decode()
            assert process.poll() is None, said
            return FORWARDED.search(said)

        try:
            found = eventually(forwarded, 30, f"a port of {component}", pause=0.05)
        except BaseException:
            _end(process, output)
            raise
        self._forwards[component, port] = (process, output, int(found[1]))
        return f"127.0.0.1:{found[1]}"

    def ask(
        self,
        component: str,
        port: int,
        path: str,
        *,
        method: str = "GET",
        body: object = None,
        headers: dict[str, str] | None = None,
        login: tuple[str, str] | None = None,
        timeout: float = 70,
    ) -> Answer:
        """One HTTP request to a component's Service."""
        content = None if body is None else json.dumps(body).encode()
        url = f"http://{self.address(component, port)}{path}"
        return Answer(*request(method, url, content, login, timeout, headers))

    def gateway(self, path: str, method: str = "GET", body: object = None, **headers: str) -> Answer:
        """One request to the gateway, with the release's API key."""
        key = {"Authorization": f"Bearer {self.secret('gateway', 'api-key')}"}
        return self.ask("gateway", 8000, path, method=method, body=body, headers=key | headers)

    def flower(self, path: str) -> Answer:
        return self.ask("flower", 5555, path, login=self.login("flower"))

    def series(self, promql: str) -> list[Any]:
        """The series that Prometheus finds now."""
        answer = self.ask("prometheus", 9090, f"/api/v1/query?query={quote(promql)}")
        assert answer.status == 200, f"{promql}: {answer.body!r}"
        found: list[Any] = answer.json["data"]["result"]
        return found

    def prometheus(self, promql: str) -> float | None:
        """One number from Prometheus; None if it has none."""
        found = self.series(promql)
        return float(found[0]["value"][1]) if found else None

    def database_url(self) -> str:
        user, password = (quote(part, safe="") for part in self.login("mysql"))
        return f"mysql://{user}:{password}@{self.address('mysql', 3306)}/celerykit"

    def explained(self, pool: str = "default") -> dict[str, Any]:
        """What the autoscaler says of a pool."""
        found: dict[str, Any] = self.ask("autoscaler", 8002, "/explain").json["pools"][pool]
        return found

    def close(self) -> None:
        for process, output, _ in self._forwards.values():
            _end(process, output)
        self._forwards.clear()


@contextmanager
def passing(cluster: Cluster, helm: str) -> Iterator[Kit]:
    """A kit that is not installed yet, and whose namespace goes in the end."""
    kit = Kit(cluster, helm, f"e2e-{uuid.uuid4().hex[:6]}")
    try:
        yield kit
    finally:
        kit.close()
        cluster.remove_namespace(kit.namespace)


def is_ready(pod: Any) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _end(process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
    process.terminate()
    process.wait()
    output.close()
