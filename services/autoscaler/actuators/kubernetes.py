"""Workers as the pods of Deployments, whose number is set and whose pods are never touched.

What a worker says of itself is what it is: a draining one stays so when the autoscaler starts anew. Fewer
replicas end the pods that are not ready, so drained workers go, and only they; `pods.removable` makes sure.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal

from prometheus_client import CollectorRegistry

from autoscaler.actuators import ActuationError
from autoscaler.actuators.cluster import ApiError, Cluster
from autoscaler.actuators.leader import Leader
from autoscaler.actuators.workers import Workers
from autoscaler.config import Kubernetes, Mode, Pool
from autoscaler.manual import Manual
from autoscaler.model import TROUBLES, Action, Decision, Fleet
from autoscaler.pods import Deployment, View, fleet, removable

EVENTS, EVENTS_SECONDS = 10, 300.0  # so many Events of a pool in so long at most
WORDS: Mapping[Mode, Mapping[Action, str]] = {
    "act": {Action.UP: "ScaledUp", Action.DOWN: "ScaledDown", Action.HOLD: "Held"},
    "dryRun": {Action.UP: "WouldScaleUp", Action.DOWN: "WouldScaleDown", Action.HOLD: "WouldHold"},
    "advise": {Action.UP: "AdvisedUp", Action.DOWN: "AdvisedDown", Action.HOLD: "AdvisedHold"},
}

logger = logging.getLogger(__name__)


class KubernetesActuator:
    """The Deployments of one namespace. Raises ActuationError where there is no cluster to talk to."""

    def __init__(
        self,
        config: Kubernetes,
        mode: Mode,
        token: str,
        identity: str,
        timeout_seconds: float,
        registry: CollectorRegistry,
    ) -> None:
        self._config = config
        self._mode = mode
        self._cluster = Cluster(config.namespace, timeout_seconds, registry)
        self._leader = Leader(self._cluster, config.lease, identity)
        self._workers = Workers(token)
        self._term = 0
        self._views: dict[str, View] = {}  # by pool, at this tick
        self._scalers: Mapping[str, str] = {}
        self._manual: dict[str, Manual] = {}  # by pool, since we began to lead
        self._told: dict[str, dict[str, float]] = {}  # by pool and pod: when it was told to drain
        self._empty: dict[str, Collection[str]] = {}  # by pool: who was drained and empty at this tick
        self._empty_before: dict[str, Collection[str]] = {}  # and at the tick before
        self._events: asyncio.Queue[tuple[Deployment, str, str, str]] = asyncio.Queue(maxsize=100)
        self._event_times: dict[str, deque[float]] = {}

    @property
    def leading(self) -> bool:
        """Whether we hold the lease."""
        return self._leader.leading

    @property
    def leader(self) -> str:
        """Who holds the lease."""
        return self._leader.holder

    def close(self) -> None:
        """Leave the workers running."""
        self._workers.close()

    async def run(self) -> None:
        """Keep the lease and make Events until cancelled; then give the lease back."""
        events = asyncio.create_task(self._make_events())
        try:
            await self._leader.run()
        finally:
            events.cancel()
            await self._cluster.close()

    async def fleets(self) -> Mapping[str, Fleet]:
        """Read each pool's Deployment and pods, and ask each worker how it is."""
        if self._term != self._leader.terms:  # what we told before, another may have told otherwise
            self._term = self._leader.terms
            for known in (self._told, self._empty, self._empty_before, self._manual):
                known.clear()
        names = list(self._config.deployments)
        try:
            if self._mode != "advise":  # then it is another's number, and the advice is for that one
                self._scalers = await self._cluster.scalers()
        except ApiError as error:  # it may be another's number
            return {name: Fleet(unknown=str(error)) for name in names}
        return dict(zip(names, await asyncio.gather(*map(self._fleet, names)), strict=True))

    async def _fleet(self, name: str) -> Fleet:
        try:
            view = await self._look(name)
        except ApiError as error:
            return Fleet(unknown=str(error))
        told = self._told.setdefault(name, {})
        for pod in view.victims:  # one that says so by itself was told by an earlier autoscaler
            told.setdefault(pod.name, time.monotonic())
        for gone in told.keys() - {pod.name for pod in view.pods}:
            del told[gone]
        self._views[name] = view
        self._empty_before[name] = self._empty.get(name, ())
        self._empty[name] = view.empty
        scaler = self._scalers.get(view.deployment.name, "")
        return replace(fleet(view, time.time(), scaler), manual_seconds=self._manually(name, view, scaler))

    def _manually(self, name: str, view: View, scaler: str) -> float | None:
        """Tell since when the number is a person's: nobody's where we set none, or where a scaler does."""
        if self._mode != "act" or scaler:
            self._manual.pop(name, None)
            return None
        return self._manual.setdefault(name, Manual()).look(view.deployment)

    async def _look(self, name: str) -> View:
        """Look at one pool. The Deployment is read first: a pod that changes later makes it a newer one."""
        deployment = await self._cluster.deployment(self._config.deployments[name])
        pods = await self._cluster.pods(deployment.selector)
        asked, port = [pod for pod in pods if pod.reachable], self._config.worker_port
        answers = await asyncio.gather(*(self._workers.state(pod.name, pod.address, port) for pod in asked))
        now = time.monotonic()
        return View(
            deployment,
            pods,
            {pod.name: answer for pod, answer in zip(asked, answers, strict=True) if answer},
            {pod: now - since for pod, since in self._told.get(name, {}).items()},
        )

    async def act(self, name: str, pool: Pool | None, decision: Decision) -> None:
        """Recall and drain workers, and set the number of replicas, while we hold the lease.

        Raises ActuationError if a part could not be done.
        """
        try:
            async with asyncio.timeout_at(self._leader.until):
                await self._act(name, pool, decision)
        except TimeoutError as error:
            raise ActuationError("the lease was not renewed in time, so another may act now") from error

    async def _act(self, name: str, pool: Pool | None, decision: Decision) -> None:
        view = self._views[name]
        told = self._told[name]
        present = {pod.name for pod in view.pods}
        if pool is None or view.deployment.name in self._scalers:  # not ours (any more): nobody else undrains
            await self._tell(name, {pod.name for pod in view.victims}, drain=False)
            return
        unborn = [worker for worker in decision.drain if worker not in present]
        told |= {worker: time.monotonic() for worker in decision.drain if worker in present}
        problems = []
        try:
            if decision.start:
                await self._grow(name, view, decision.start)
        except ActuationError as error:
            problems.append(str(error))
        problems += await self._tell(name, decision.recall, drain=False)
        problems += await self._tell(name, told.keys(), drain=True)
        try:
            if not decision.start:
                await self._shrink(name, view, len(unborn))
        except ActuationError as error:
            problems.append(str(error))
        if problems:
            raise ActuationError("; ".join(dict.fromkeys(problems)))

    async def _tell(self, name: str, workers: Collection[str], *, drain: bool) -> list[str]:
        """Tell workers to drain or to go on; returns who did not hear, and is told again at the next tick."""
        pods = [pod for pod in self._views[name].pods if pod.name in workers]
        asked, port = [pod for pod in pods if pod.reachable], self._config.worker_port
        path: Literal["/drain", "/undrain"] = "/drain" if drain else "/undrain"
        answers = await asyncio.gather(
            *(self._workers.tell(pod.name, pod.address, port, path) for pod in asked)
        )
        deaf = {pod.name for pod, answer in zip(asked, answers, strict=True) if answer is None}
        if not drain:
            for heard in {pod.name for pod in pods} - deaf:
                self._told[name].pop(heard, None)
        return [f"{pod} does not answer to {path}" for pod in sorted(deaf)]

    async def _grow(self, name: str, view: View, more: int) -> None:
        deployment, replicas = view.deployment, view.deployment.replicas
        current, version = await self._cluster.scale(deployment.name)
        _same(deployment, current)
        await self._set(name, deployment.name, replicas, replicas + more, version)

    async def _shrink(self, name: str, view: View, unborn: int) -> None:
        """Lower the number by the victims that may go, as seen at this tick and once more just now."""
        before = self._empty_before[name]
        found = removable(view, before, unborn)
        if isinstance(found, int) and found:
            seen, view = view.deployment, await self._look(name)
            _same(seen, view.deployment.replicas)
            found = removable(view, before, unborn)
        if isinstance(found, int) and found:
            deployment, replicas = view.deployment, view.deployment.replicas
            await self._set(name, deployment.name, replicas, replicas - found, deployment.version)
        elif isinstance(found, str) and unborn:  # of drained ones the fleet tells
            raise ActuationError(found)

    async def _set(self, name: str, deployment: str, old: int, new: int, version: str) -> None:
        self._manual[name].setting(new)
        await self._cluster.set_scale(deployment, new, version)
        logger.info("scaled", extra={"deployment": deployment, "from": old, "to": new})

    def tell(self, name: str, decision: Decision, problem: str | None) -> None:
        """Have an Event made of a change or of trouble, if there were not too many."""
        view = self._views.get(name)
        if view is None or (
            decision.action is Action.HOLD and decision.reason not in TROUBLES and not problem
        ):
            return
        times = self._event_times.setdefault(name, deque(maxlen=EVENTS))
        now = time.monotonic()
        if (len(times) == EVENTS and now - times[0] < EVENTS_SECONDS) or self._events.full():
            return
        times.append(now)
        kind = "Warning" if problem or decision.reason in TROUBLES else "Normal"
        words = f"{decision.reason}: {decision.words}" + (f"; {problem}" if problem else "")
        self._events.put_nowait((view.deployment, kind, WORDS[self._mode][decision.action], words))

    async def _make_events(self) -> None:
        while True:
            about, kind, reason, words = await self._events.get()
            try:
                await self._cluster.event(about, f"{about.name}.{secrets.token_hex(8)}", kind, reason, words)
            except ApiError as error:
                logger.warning("%s", error)


def _same(seen: Deployment, replicas: int) -> None:
    """Leave a number alone that somebody else has just set; the next look tells of it."""
    if replicas != seen.replicas:
        raise ActuationError(f"{seen.name} was scaled from {seen.replicas} to {replicas} meanwhile")
