"""The loop: observe, estimate, decide, act, for every pool at every tick."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec.structs import fields
from prometheus_client import CollectorRegistry

from autoscaler import config as configuration
from autoscaler.actuators import ActuationError, Actuator
from autoscaler.config import Config, ConfigError, Kubernetes, Mode, Pool
from autoscaler.decide import decide, watch
from autoscaler.flows import Queue
from autoscaler.history import History, recent_parts
from autoscaler.metrics import Metrics, Tick
from autoscaler.model import Action, Decision, Estimate, Fleet, Observation, Reason, State
from autoscaler.past import Past, looks
from autoscaler.policies import RECALLS, estimate
from autoscaler.prometheus import Prometheus
from autoscaler.stream import QueryError

CHANGES_KEPT = 50  # of a pool, or as many fewer as those of all pools together allow
CHANGES_KEPT_OF_ALL, CHANGES_KEPT_LEAST = 3000, 3
QUERY_SECONDS = 5.0

logger = logging.getLogger(__name__)


class ConfigFile:
    """The configuration and the file it is from; a bad new file is refused and the old one stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        self._content: bytes | None = path.read_bytes()
        self.current = configuration.parse(self._content)

    def reload(self) -> bool | None:
        """Read the file again: True is a good new one, False a bad one, None no change."""
        try:
            content = self.path.read_bytes()
        except OSError:
            content = None
        if content == self._content:
            return None
        self._content = content
        try:
            if content is None:
                raise ConfigError("the file cannot be read")
            self.current = _accepted(self.current, configuration.parse(content))
        except ConfigError as error:
            self.problem = str(error)
            return False
        self.problem = None
        return True


def _accepted(old: Config, new: Config) -> Config:
    names = {field.name: field.encode_name for field in fields(old)}
    for key in ("actuator", "host", "port", "prometheus_url", "prometheus_labels", "worker_labels", "mode"):
        if getattr(old, key) != getattr(new, key):
            raise ConfigError(f"{names[key]}: cannot change while the autoscaler runs; restart it")
    return new


class Loop:
    """All that the autoscaler knows, and the tick that moves it on."""

    def __init__(
        self,
        file: ConfigFile,
        prometheus: Prometheus,
        actuator: Actuator,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.monotonic,
        history: History | None = None,
    ) -> None:
        self.file = file
        self.latest: dict[str, Tick] = {}
        self.unseen: dict[str, str] = {}  # pools whose workers were never seen, and why
        # Of each pool, the oldest first, as JSON: it takes less than what it is of.
        self.changes: dict[str, tuple[bytes, ...]] = {}
        where = file.current.actuator
        self.metrics = Metrics(
            registry,
            file.current.mode,
            lambda: self.latest,
            lambda: actuator.leading,
            where if isinstance(where, Kubernetes) else None,
        )
        self._prometheus = prometheus
        self._actuator = actuator
        self._clock = clock
        self._history = history
        self._blank: set[str] = set()  # pools whose policy could learn from what was, and has not
        self._forgotten = ""  # why not
        self._states: dict[str, State] = {}
        self._pools: Mapping[str, Pool] = {}

    @property
    def mode(self) -> Mode:
        """Whether what is decided is done, told, or left to others to follow."""
        return self.file.current.mode

    @property
    def leading(self) -> bool:
        """Whether we decide, and do not only follow."""
        return self._actuator.leading

    @property
    def leader(self) -> str:
        """Name who decides, where there may be several of us."""
        return self._actuator.leader

    async def run(self) -> None:
        """Tick for ever."""
        due = self._clock()
        while True:
            self.metrics.loop_lag.set(max(0.0, self._clock() - due))
            with self.metrics.loop_duration.time():
                try:
                    await self.tick()
                except OSError as error:  # the disk or the process table; whatever it is, it may pass
                    logger.error("a tick failed: %s", error)
            # A late tick is not made up for: two at once would see the same samples.
            due = max(due + self.file.current.tick_seconds, self._clock())
            await asyncio.sleep(due - self._clock())

    async def tick(self) -> None:
        """Look at everything once, and act on every pool."""
        self._reload()
        if not self._actuator.leading:
            await self._follow()
            return
        observations, fleets, _ = await asyncio.gather(
            self._prometheus.observe(self._pools), self._actuator.fleets(), self._remember()
        )
        at = time.time()
        for name, pool in self._pools.items():
            seen = replace(observations[name], fleet=_slotted(fleets.get(name, Fleet()), pool), at=at)
            await self._scale(name, pool, seen)
        for name in fleets.keys() - self._pools.keys() if self.mode == "act" else ():
            if not fleets[name].unknown:
                await self._dissolve(name, fleets[name])

    async def _follow(self) -> None:
        """Only watch what is asked for, so as to know the down window when it is our turn."""
        self.latest.clear()
        self.unseen.clear()
        observations, _ = await asyncio.gather(self._prometheus.observe(self._pools), self._remember())
        now = self._clock()
        for name, seen in observations.items():
            pool = self._pools[name]
            fleet = Fleet(slots=pool.concurrency, unknown="another autoscaler acts")
            asked, state = self._estimate(name, replace(seen, fleet=fleet, at=time.time()), now)
            self._states[name] = watch(state, asked, pool.autoscale, now)

    def _estimate(self, name: str, seen: Observation, now: float) -> tuple[Estimate, State]:
        """Ask the pool's policy, and let it remember."""
        if seen.problem is None:
            self._blank.discard(name)  # it learns by itself
        state = self._states[name]
        asked, memory = estimate(state.memory, seen, self._pools[name].autoscale, now)
        return asked, replace(state, memory=memory)

    async def _remember(self) -> None:
        """Have policies that know nothing yet learn from the last minutes; where that fails, they begin anew.

        It takes no longer than a query may, and is tried until the policy has learned something by itself.
        """
        pools = {name: self._pools[name] for name in self._blank}
        if self._history is None or not pools:
            return
        until = self._clock() + QUERY_SECONDS
        step, parts = recent_parts(pools)
        for part in parts:
            pasts: Mapping[Queue, Past] = {}
            try:
                if (left := until - self._clock()) > 0:
                    async with asyncio.timeout(left):
                        pasts = await self._history.recent(part, step)
            except TimeoutError:
                pass
            except QueryError as error:
                if self._forgotten != str(error):
                    logger.warning("what was before is not known: %s", error)
                self._forgotten = str(error)
                return
            self._blank -= part.keys()
            await self._recall(part, pasts, until)

    async def _recall(self, pools: Mapping[str, Pool], pasts: Mapping[Queue, Past], until: float) -> None:
        """Have the policies of these pools learn from what was, as long as there is time."""
        for name, pool in pools.items():
            if (now := self._clock()) > until:
                logger.warning("pool %s: there is no time to learn from what was before", name)
                continue
            memory = RECALLS[pool.autoscale.policy](looks(pool, pasts, now), pool.autoscale)
            if memory is not None:
                self._states[name] = replace(self._states[name], memory=memory)
            known = "nothing is known" if memory is None else "it has learned"
            logger.info("pool %s: %s of what was before", name, known)
            await asyncio.sleep(0)  # others have waited

    def _reload(self) -> None:
        changed = self.file.reload()
        if changed is not None:
            self.metrics.reloads.labels("accepted" if changed else "refused").inc()
        if changed is False:
            logger.error("the new configuration is refused: %s", self.file.problem)
        pools = self.file.current.worker.pools
        if pools == self._pools:
            return
        logger.info("configuration", extra={"pools": list(pools)})
        for name in self._pools.keys() - pools.keys():
            logger.warning("pool %s is no longer configured", name)
            for known in (self.latest, self.unseen, self.changes, self._states):
                known.pop(name, None)
            self._blank.discard(name)
        for name, pool in pools.items():
            state = self._states.get(name, State())
            if self._pools.get(name) != pool:
                # What was asked for and learned under other terms says nothing now.
                state = replace(state, asked=(), memory=None)
                self._blank.discard(name)
                if pool.autoscale.policy in RECALLS:
                    self._blank.add(name)
            self._states[name] = state
            self.changes.setdefault(name, ())
        self.metrics.expect(pools)
        self._pools = pools

    async def _dissolve(self, name: str, fleet: Fleet) -> None:
        """End the workers of a pool that is configured no more, as gently as any others."""
        names = tuple(worker.name for worker in fleet.serving)
        decision = Decision(0, Action.DOWN, Reason.AT_MAX, "the pool is configured no more", drain=names)
        try:
            await self._actuator.act(name, None, decision)
        except (ActuationError, OSError) as error:
            logger.warning("pool %s: %s", name, error)

    async def _scale(self, name: str, pool: Pool, seen: Observation) -> None:
        before = self.latest.get(name)
        if seen.fleet.unknown and before is None:  # there is nothing to hold yet
            self._unseen(name, seen.fleet.unknown)
            return
        self.unseen.pop(name, None)
        if self.mode != "act":
            seen = replace(seen, fleet=_planned(seen.fleet, before))
        problem = seen.fleet.unknown or None
        if problem and before:
            seen = replace(seen, fleet=replace(before.estimate.observation.fleet, unknown=problem))
        now = self._clock()
        asked, state = self._estimate(name, seen, now)
        if problem and before:
            self._states[name] = watch(state, asked, pool.autoscale, now)
            decision = Decision(before.decision.workers, Action.HOLD, Reason.FLEET_UNKNOWN, problem)
        else:
            decision, self._states[name] = decide(state, asked, pool.autoscale, now)
            try:
                if self.mode == "act":
                    await self._actuator.act(name, pool, decision)
            except (ActuationError, OSError) as error:
                problem = str(error)
        if problem:
            self.metrics.failed(name)
        at = time.time()
        known_at = at if seen.problem is None else before.known_at if before else 0.0
        tick = Tick(at, pool.autoscale, asked, decision, known_at, problem)
        self.latest[name] = tick
        self.metrics.decided(name, decision)
        if before is None or _news(before, tick):
            # Without what was seen: a look at many workers is large.
            kept = max(CHANGES_KEPT_LEAST, min(CHANGES_KEPT, CHANGES_KEPT_OF_ALL // len(self._pools)))
            self.changes[name] = (*self.changes[name], msgspec.json.encode(decided(tick)))[-kept:]
            self._actuator.tell(name, decision, problem)
            logger.info("decision", extra={"pool": name} | summary(tick))

    def _unseen(self, name: str, problem: str) -> None:
        """There is nothing to hold yet: nothing is decided."""
        self.metrics.failed(name)
        if self.unseen.get(name) != problem:
            logger.error("pool %s: %s", name, problem)
        self.unseen[name] = problem


def _slotted(fleet: Fleet, pool: Pool) -> Fleet:
    """Tell how many tasks a worker runs at once: as the workers say, or else as they are configured."""
    said = max((worker.slots for worker in fleet.workers if worker.ready), default=0)
    return replace(fleet, slots=said or pool.concurrency)


def _planned(fleet: Fleet, before: Tick | None) -> Fleet:
    """See the workers as if all that was decided so far had been done, and nothing else."""
    workers = tuple(replace(worker, draining_seconds=None) for worker in fleet.workers)
    return replace(fleet, workers=workers, planned=before.decision.workers if before else len(workers))


def _news(before: Tick, now: Tick) -> bool:
    """Tell whether there is something to say: the same hold again is no news."""
    return (before.decision.workers, before.decision.reason, before.problem) != (
        now.decision.workers,
        now.decision.reason,
        now.problem,
    )


def decided(tick: Tick) -> dict[str, object]:
    """Say when what was decided, for /explain."""
    return {"at": datetime.fromtimestamp(tick.at, UTC).isoformat(timespec="milliseconds")} | summary(tick)


def summary(tick: Tick) -> dict[str, object]:
    """Say what was decided and why."""
    decision = tick.decision
    return {
        "action": decision.action,
        "reason": decision.reason,
        "from": tick.estimate.observation.fleet.wanted,
        "to": decision.workers,
        "words": decision.words,
        "start": decision.start,
        "recall": decision.recall,
        "drain": decision.drain,
        "problem": tick.problem,
    }
