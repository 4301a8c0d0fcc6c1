"""Worker processes of which only the number is set: who goes is picked as a ReplicaSet picks pods."""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import psutil

from autoscaler.actuators.processes import ProcessActuator, Record
from autoscaler.config import Pool, Processes
from autoscaler.model import Decision
from autoscaler.simulator.engine import rank


class ReplicaSet(ProcessActuator):
    """Tells a victim to end with SIGTERM, and with SIGKILL after its grace.

    `ready` tells since when a worker takes tasks, in unix seconds, or None.
    """

    def __init__(
        self, config: Processes, token: str, grace: float, ready: Callable[[str], float | None], seed: int
    ) -> None:
        super().__init__(config, token)
        self._grace, self._ready = grace, ready
        self._dice = random.Random(f"{seed} replicaset")
        self._chances: dict[str, float] = {}

    async def act(self, name: str, pool: Pool | None, decision: Decision) -> None:
        """Start or end as many as are missing or too many."""
        there = [record for record in self._records.values() if record.state == "running"]
        for victim in sorted(there, key=self._rank)[: max(0, len(there) - decision.workers)]:
            self._mark(victim, "stopping", time.time())
            with suppress(psutil.NoSuchProcess):
                psutil.Process(victim.pid).terminate()
        for record in self._records.values():
            if record.state == "stopping" and time.time() - (record.draining_since or 0) > self._grace:
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(record.pid).kill()
        await super().act(name, pool, replace(decision, drain=()))  # starts what is missing

    def _rank(self, record: Record) -> tuple[bool, int, float]:
        since = self._ready(record.name)
        chance = self._chances.setdefault(record.name, self._dice.random())
        return rank(-1 if since is None else time.time() - since, chance)
