"""The kit's own programs as processes of a run. Workers are started by the autoscaler alone."""

import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from celerykit import schema
from local.http import answers, request
from local.ports import HOST, require_free
from local.process import StartError, end, say, write_atomically
from local.run import ROOT, Run
from local.stores import Stores

POOL = "default"
START_SECONDS = 60
DRAIN_SECONDS = 60  # what a worker's running tasks get to end when everything is stopped
MIN_WORKERS = 1
MAX_WORKERS = 5
SLO_SECONDS = 45  # within which tasks are to start; the demo's burst takes all workers for it


class WorkerRecord(msgspec.Struct):
    """What this package reads of the autoscaler's record of a worker."""

    name: str
    ended: str | None = None


class Kit:
    """Stores, gateway, Flower, autoscaler and workers of one run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.stores = Stores(run)
        self._up = run.home / "up"

    def url(self, port: int, path: str = "") -> str:
        """Address of something that listens on one of the run's ports."""
        return f"http://{HOST}:{port}{path}"

    @property
    def is_up(self) -> bool:
        """Whether it was left running on purpose, and all of it still runs."""
        names = ("epmd", "rabbitmq", "mysql", "prometheus", "gateway", "flower", "autoscaler")
        return self._up.exists() and all(self.run.processes.find(name) for name in names)

    def keep(self) -> None:
        """Note that what runs now is to be left running."""
        self._up.touch()

    def start(self) -> None:
        """Start everything and wait until a worker takes tasks.

        Raises PortTakenError before anything is started, or StartError.
        """
        ports = self.run.ports
        for name, port in ports.fixed.items():
            require_free(name, port)
        self.stores.start()
        schema.upgrade(self.stores.mysql.url)
        self._launch()
        pages = {
            "gateway": self.url(ports.gateway, "/readyz"),
            "flower": self.url(ports.flower, "/healthcheck"),
            "autoscaler": self.url(ports.autoscaler, "/healthz"),
        }
        wait = self.run.processes.wait_ready
        for name, page in pages.items():
            wait(name, partial(answers, page), START_SECONDS)
        try:
            wait("autoscaler", self._has_worker, START_SECONDS, what="worker")
        except StartError as error:
            raise StartError(f"{error}\n{self._last_words_of_a_worker()}") from None

    def stop(self) -> None:
        """End everything, in the order in which nothing is lost: who starts workers, workers, the rest."""
        processes = self.run.processes
        self._up.unlink(missing_ok=True)
        processes.stop("autoscaler")
        self._stop_workers()
        for name in ("gateway", "flower"):
            processes.stop(name)
        self.stores.stop()
        processes.sweep()

    @property
    def autoscaler_config(self) -> Path:
        """The autoscaler's file, which may be edited while it runs."""
        return self.run.folder("config") / "autoscaler.yaml"

    def launch_autoscaler(self) -> None:
        """Start the autoscaler, without waiting."""
        command = [sys.executable, "-m", "autoscaler", "--config", str(self.autoscaler_config)]
        token = {"CELERYKIT_DRAIN_TOKEN": self.run.secrets.drain_token}
        self.run.processes.start("autoscaler", command, self._addresses | token, cwd=ROOT)

    def explain(self) -> dict[str, Any]:
        """Return what the autoscaler says of the pool; empty before its first decision."""
        status, body = request("GET", self.url(self.run.ports.autoscaler, "/explain"))
        if status != 200:
            raise ConnectionError(f"/explain answers {status}")
        return msgspec.json.decode(body)["pools"].get(POOL, {})  # type: ignore[no-any-return]

    def stopped_workers(self) -> set[str]:
        """Names of the workers that the autoscaler ended."""
        files = self.run.folder("workers", "removed").glob("*.json")
        records = [msgspec.json.decode(file.read_bytes(), type=WorkerRecord) for file in files]
        return {record.name for record in records if record.ended == "stopped"}

    @property
    def _addresses(self) -> dict[str, str]:
        """Where the stores are, for every program."""
        return {
            "CELERYKIT_BROKER_URL": self.stores.rabbitmq.url,
            "CELERYKIT_DATABASE_URL": self.stores.mysql.url,
        }

    def _has_worker(self) -> bool:
        with suppress(OSError):
            return bool(self.explain().get("ready", 0) >= MIN_WORKERS)
        return False

    def _last_words_of_a_worker(self) -> str:
        logs = sorted(self.run.processes.logs.glob(f"{POOL}-*.log"), key=lambda log: log.stat().st_mtime)
        return self.run.processes.tail(logs[-1].stem) if logs else "no worker was started"

    def _launch(self) -> None:
        ports, secrets, start = self.run.ports, self.run.secrets, self.run.processes.start
        gateway = {
            "CELERYKIT_GATEWAY_HOST": HOST,
            "CELERYKIT_GATEWAY_PORT": str(ports.gateway),
            "CELERYKIT_GATEWAY_EXAMPLES": "true",
        }
        start("gateway", [sys.executable, "-m", "gateway"], self._addresses | gateway, cwd=ROOT)
        user, password = self.stores.rabbitmq.login
        flower = {
            "CELERYKIT_FLOWER_ADDRESS": HOST,
            "CELERYKIT_FLOWER_PORT": str(ports.flower),
            "CELERYKIT_FLOWER_BASIC_AUTH": f"kit:{secrets.flower}",
            "CELERYKIT_FLOWER_BROKER_API": f"http://{user}:{password}@{HOST}:{ports.management}/api/",
        }
        configuration = "--conf=services/flower/flowerconfig.py"
        command = [sys.executable, "-m", "celery", "-A", "celerykit.app", "flower", configuration]
        start("flower", command, self._addresses | flower, cwd=ROOT)
        write_atomically(self.autoscaler_config, msgspec.yaml.encode(self._autoscaler()))
        self.launch_autoscaler()

    def _autoscaler(self) -> dict[str, Any]:
        """Return the autoscaler's configuration; quicker than its defaults, as one watches it."""
        first, last = self.run.ports.workers
        return {
            "prometheusUrl": self.stores.prometheus.url,
            "host": HOST,
            "port": self.run.ports.autoscaler,
            "tickSeconds": 2,
            "worker": {
                "pools": {
                    POOL: {
                        "queues": ["default"],
                        "concurrency": 2,
                        "autoscale": {
                            "policy": "slo",
                            "sloSeconds": SLO_SECONDS,
                            "expectedTaskSeconds": 1,
                            "minWorkers": MIN_WORKERS,
                            "maxWorkers": MAX_WORKERS,
                            "downWindowSeconds": 20,
                            "cooldownSeconds": 10,
                        },
                    }
                }
            },
            "actuator": {
                "kind": "processes",
                "directory": str(self.run.folder("workers")),
                "command": [sys.executable, "-m", "worker"],
                "host": HOST,
                "ports": {"from": first, "to": last},
                "logDirectory": str(self.run.folder("log")),
            },
        }

    def _stop_workers(self) -> None:
        if workers := self.run.processes.orphans():
            say(f"waiting for the workers' tasks to end, {DRAIN_SECONDS} s at most")
            end(workers, DRAIN_SECONDS)
        for record in self.run.folder("workers").glob(f"{POOL}-*.json"):
            record.unlink()  # or the next autoscaler would take them for crashed
