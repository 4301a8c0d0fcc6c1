"""The autoscaler as a program over real queues, Prometheus and workers."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import psutil

from local.http import request
from local.ports import HOST
from local.process import end
from local.run import ROOT, Run
from tests.integration.support import TOKEN


class Autoscaler:
    """One after the other over the same workers; `pools` are those of its file."""

    def __init__(
        self,
        run: Run,
        prometheus_url: str,
        broker_url: str,
        database_url: str,
        name: str,
        pools: Mapping[str, Any],
    ) -> None:
        self.run, self.name = run, name
        self.directory = run.folder(name)
        first, last = run.ports.workers
        config = {
            "prometheusUrl": prometheus_url,
            "host": HOST,
            "port": run.ports.autoscaler,
            "tickSeconds": 1,
            "worker": {"pools": pools},
            "actuator": {
                "kind": "processes",
                "directory": str(self.directory),
                "command": [sys.executable, "-m", "worker"],
                "host": HOST,
                "ports": {"from": first, "to": last},
                "logDirectory": str(run.folder("log")),
            },
        }
        self.path = run.folder("config") / f"{name}.yaml"
        self.path.write_bytes(msgspec.yaml.encode(config))
        self.environment = {
            "CELERYKIT_BROKER_URL": broker_url,
            "CELERYKIT_DATABASE_URL": database_url,
            "CELERYKIT_DRAIN_TOKEN": TOKEN,
            "PYTHONPATH": str(ROOT / "services"),
        }

    def start(self) -> None:
        command = [sys.executable, "-m", "autoscaler", "--config", str(self.path)]
        self.run.processes.start(self.name, command, self.environment)

    def kill(self) -> None:
        """As a crash does it."""
        process = self.run.processes.find(self.name)
        assert process is not None
        process.kill()
        self.run.processes.stop(self.name)

    def close(self) -> None:
        self.run.processes.stop(self.name)
        end(self.run.processes.orphans(), 10)  # its workers, which outlive it

    def pools(self) -> dict[str, Any]:
        """What it tells of each pool."""
        found: dict[str, Any] = json.loads(
            request("GET", f"http://{HOST}:{self.run.ports.autoscaler}/explain")[1]
        )["pools"]
        return found

    def living(self) -> set[str]:
        """The workers whose processes are there."""
        records = [json.loads(path.read_bytes()) for path in self.directory.glob("*-*.json")]
        return {record["name"] for record in records if psutil.pid_exists(record["pid"])}
