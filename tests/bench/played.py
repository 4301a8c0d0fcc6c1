"""A load played for real: on RabbitMQ and Celery workers, scaled by what Prometheus tells.

The live loop runs in this process, with the policy of a contender. What happened is told in the words of the
simulator, so that the same code makes figures of both.
"""

import asyncio
import json
import math
import os
import secrets
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from statistics import fmean
from unittest.mock import patch
from urllib.parse import quote

import msgspec
from kombu import Connection
from prometheus_client import CollectorRegistry

from autoscaler import policies
from autoscaler.actuators.processes import ProcessActuator
from autoscaler.config import Config, Pool, PortRange, Processes, WorkerSection
from autoscaler.loop import QUERY_SECONDS, Loop
from autoscaler.model import Action, Decision, Reason
from autoscaler.prometheus import Prometheus
from autoscaler.simulator.contenders import Contender
from autoscaler.simulator.engine import Life, Run, phases
from autoscaler.simulator.loads import Load
from autoscaler.simulator.setting import Setting
from celerykit import schema
from celerykit.link import Link
from celerykit.profile import queue
from celerykit.settings import Settings
from local import ledger
from local.http import request
from local.ports import HOST
from local.process import MARK, end
from local.stores import Stores
from tests.bench.replicaset import ReplicaSet
from tests.bench.runs import QUEUE, WentWrong
from tests.bench.watch import LOOK_SECONDS, Stay, Watch
from tests.bench.worker_cost import tables, virtual_host

TASK = "task.sleep"
START_SECONDS = 60  # that anything may take to be there
PATIENCE_SECONDS = 120  # after the last arrival, for all tasks to end
END_SECONDS = 10
LEAD_SECONDS = 1  # at the least, from all being ready to the start of the load
SCRAPES = 'scrape_duration_seconds{job="kit-rabbitmq"}[30s]'
LATE_COUNT_SECONDS = 0.03  # by which RabbitMQ counts later than each 5 s after it has the queue


@dataclass(frozen=True)
class Played:
    """What happened, and what the machine made of it; all in seconds, as of the start of the load."""

    run: Run
    load: Load  # with the arrivals as they were
    boots: tuple[float, ...]  # of the workers started meanwhile, from creation to the first tasks
    endings: tuple[float, ...]  # from the word to end, or the last task's end, to the end of the process
    own: float  # that a task takes longer than it sleeps, mean
    handover: float  # from the end of a task to the start of the next that waits for its slot, mean


@dataclass
class Notes:
    """What is written down while a load is played."""

    start: float  # unix seconds
    ids: list[str]
    published: list[float] = field(default_factory=list)  # from the start
    wanted: list[tuple[float, int]] = field(default_factory=list)
    stays: Mapping[str, Stay] = field(default_factory=dict)


class Given:
    """A configuration that is no file's, as the loop takes it."""

    problem = None

    def __init__(self, config: Config) -> None:
        self.current = config

    def reload(self) -> None:
        """There is never a new one."""


def play(load: Load, contender: Contender, setting: Setting, stores: Stores) -> Played:
    """Play a load once, with the phases that the setting's seed draws.

    Raises WentWrong if not all of its tasks end.
    """
    with (
        virtual_host(stores.rabbitmq) as broker_url,
        tables(stores.mysql) as database_url,
        known(contender) as policy,
    ):
        schema.upgrade(database_url)
        place = Settings(broker_url=broker_url, database_url=database_url)
        pool = Pool(
            queues=(QUEUE,),
            vhost=broker_url.rpartition("/")[2],
            concurrency=setting.concurrency,
            pool_type="threads",
            autoscale=msgspec.structs.replace(contender.scale, policy=policy),
        )
        notes = asyncio.run(_played(load, contender, setting, stores, place, pool))
        return told(load, notes, ledger.read_rows(database_url, notes.ids), setting.concurrency)


@contextmanager
def known(contender: Contender) -> Iterator[str]:
    """Have the live loop know a contender's policy, which may be none of ours; its name there."""
    if contender.policy is policies.estimate:
        yield contender.scale.policy
        return
    with patch.dict(policies.POLICIES, {contender.name: contender.policy}):
        yield contender.name


async def _played(
    load: Load, contender: Contender, setting: Setting, stores: Stores, place: Settings, pool: Pool
) -> Notes:
    async with _alive(contender, setting, stores, place, pool) as (loop, watch, link):
        first = phases(contender, setting)
        grid = await _aligned(stores, place, first.scrape, first.statistics, setting)
        low = setting.min_workers
        await loop.begin(Decision(low, Action.UP, Reason.AT_MIN, "to begin with", start=low))
        await _until(lambda: sum(stay.ready is not None for stay in watch.stays.values()) == low)
        ahead = (time.time() + LEAD_SECONDS - grid) / setting.scrape
        notes = Notes(
            grid + math.ceil(ahead) * setting.scrape, [f"truth-{n}" for n in range(len(load.arrivals))]
        )
        notes.wanted.append((0.0, low))
        meanwhile = [
            asyncio.create_task(loop.scale(notes.start + first.tick)),
            asyncio.create_task(loop.note(notes)),
        ]
        try:
            async with asyncio.timeout(notes.start - time.time() + load.arrivals[-1] + PATIENCE_SECONDS):
                await _publish(load, link, notes)
                while await asyncio.to_thread(_ended, place, notes.ids) < len(notes.ids):
                    for task in meanwhile:
                        if task.done():
                            task.result()
                    await asyncio.sleep(1)
        except TimeoutError as error:
            raise WentWrong(f"not all tasks ended in {PATIENCE_SECONDS} s after the last arrival") from error
        finally:
            for task in meanwhile:
                task.cancel()
            await asyncio.gather(*meanwhile, return_exceptions=True)
    notes.stays = watch.stays
    return notes


class Driven:
    """The live loop, with its actuator."""

    def __init__(self, loop: Loop, actuator: ProcessActuator, pool: Pool) -> None:
        self._loop, self._actuator, self._pool = loop, actuator, pool

    async def begin(self, decision: Decision) -> None:
        """Do what was decided before the loop has begun."""
        await self._actuator.act(self._pool.vhost, self._pool, decision)

    async def scale(self, at: float) -> None:
        """Tick from then on."""
        await asyncio.sleep(at - time.time())
        await self._loop.run()

    async def note(self, notes: Notes) -> None:
        """Write down how many workers are wanted."""
        while True:
            latest = self._loop.latest.get(self._pool.vhost)
            if latest is not None and latest.decision.workers != notes.wanted[-1][1]:
                notes.wanted.append((latest.at - notes.start, latest.decision.workers))
            await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def _alive(
    contender: Contender, setting: Setting, stores: Stores, place: Settings, pool: Pool
) -> AsyncIterator[tuple[Driven, Watch, Link]]:
    """Who scales, who looks and who sends; afterwards no worker is left."""
    run, token = stores.rabbitmq.run, secrets.token_urlsafe(24)
    first, last = run.ports.workers
    processes = Processes(
        directory=str(run.folder("workers")),
        command=(sys.executable, "-m", "worker"),
        log_directory=str(run.folder("log", "workers")),
        ports=PortRange(first=first, last=last),
        host=HOST,
    )
    config = Config(
        prometheus_url=stores.prometheus.url,
        # named as the virtual host: Prometheus may still know the workers of the run before
        worker=WorkerSection(pools={pool.vhost: pool}),
        actuator=processes,
        tick_seconds=contender.period,
    )
    environment = {
        "CELERYKIT_BROKER_URL": place.broker_url,
        "CELERYKIT_DATABASE_URL": place.database_url,
        "CELERYKIT_DRAIN_TOKEN": token,
        MARK: str(run.home),
    }
    watch = Watch(run.folder("workers"))
    if contender.victims == "drain":
        actuator = ProcessActuator(processes, token)
    else:
        actuator = ReplicaSet(processes, token, contender.grace, watch.ready, setting.seed)
    prometheus = Prometheus(stores.prometheus.url, min(QUERY_SECONDS, contender.period))
    link = Link(place, queues={TASK: QUEUE})
    looking = asyncio.create_task(watch.run())
    try:
        with patch.dict(os.environ, environment):  # of which the workers have theirs
            await link.start()
            await _until(lambda: link.connected)
            loop = Loop(Given(config), prometheus, actuator, CollectorRegistry())
            yield Driven(loop, actuator, pool), watch, link
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await asyncio.to_thread(end, list(watch.living()), END_SECONDS)
        await actuator.fleets()  # notes that they have ended
        actuator.close()
        prometheus.close()
        await link.close()


async def _aligned(
    stores: Stores, place: Settings, scrape: float, statistics: float, setting: Setting
) -> float:
    """Declare the queue so that its counts have their phase; gives a time at which the load may start."""
    url = f"{stores.prometheus.url}/api/v1/query?query={quote(SCRAPES)}"

    def scrapes() -> list[float]:
        found = json.loads(request("GET", url)[1])["data"]["result"]
        return [at for series in found for at, _ in series["values"]]

    await _until(lambda: len(scrapes()) > 1)
    grid = max(scrapes()) - scrape
    counts = grid + statistics - LATE_COUNT_SECONDS
    with Connection(place.broker_url) as connection, connection.channel() as channel:
        await asyncio.sleep((counts - time.time()) % setting.statistics)
        queue(QUEUE, place)(channel).declare()
    return grid


async def _publish(load: Load, link: Link, notes: Notes) -> None:
    """Send each task at its time, whether the broker has confirmed those before or not."""
    confirmed = []
    for name, arrival, service in zip(notes.ids, load.arrivals, load.services, strict=True):
        await asyncio.sleep(max(0.0, notes.start + arrival - time.time()))
        notes.published.append(time.time() - notes.start)
        confirmed.append(asyncio.create_task(link.send(TASK, [service], task_id=name, store=False)))
    await asyncio.gather(*confirmed)


def _ended(place: Settings, ids: Sequence[str]) -> int:
    rows = ledger.read_rows(place.database_url, ids)
    return len({row.task_id for row in rows if row.ended_at is not None})


async def _until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(START_SECONDS):
        while not true():  # noqa: ASYNC110  # there is no event of it
            await asyncio.sleep(LOOK_SECONDS)


def told(load: Load, notes: Notes, rows: Sequence[ledger.Row], slots: int) -> Played:
    """Tell what happened as the simulator tells it; `slots` are those of each worker."""
    begun, attempts = notes.start, Counter(row.task_id for row in rows)
    published = dict(zip(notes.ids, (begun + at for at in notes.published), strict=True))
    done = {row.task_id: row for row in rows if row.ended_at is not None}
    ended = [done[name] for name in notes.ids]
    ends = [row.ended_at - begun for row in ended]
    end = max(ends)
    lives, boots, endings, gaps = [], [], [], []
    for name, stay in notes.stays.items():
        tasks = sorted(
            (row for row in rows if row.worker.partition("@")[0] == name), key=lambda row: row.started_at
        )
        ready = _ready(stay, tasks[:slots], published) - begun
        created = max(0.0, stay.created - begun)
        gone = min(end, math.inf if stay.ended is None else stay.ended - begun)
        lives.append(Life(created, max(created, ready), gone))
        if created and math.isfinite(ready):
            boots.append(ready - created)
        if stay.told and stay.ended and stay.ended - begun < end:
            last = max([stay.told, *(row.ended_at for row in tasks if row.ended_at)])
            endings.append(stay.ended - last)
        gaps += _gaps(tasks, published)
    run = Run(
        starts=tuple(row.started_at - begun for row in ended),
        ends=tuple(ends),
        attempts=tuple(attempts[name] for name in notes.ids),
        lives=tuple(lives),
        backlog=(),
        wanted=tuple(notes.wanted),
        interrupted=sum(row.ended_at is None for row in rows),
        end=end,
    )
    own = fmean(row.ended_at - row.started_at - s for row, s in zip(ended, load.services, strict=True))
    return Played(
        run=run,
        load=replace(load, arrivals=tuple(notes.published)),
        boots=tuple(boots),
        endings=tuple(endings),
        own=own,
        handover=fmean(gaps) if gaps else 0.0,
    )


def _ready(stay: Stay, tasks: Sequence[ledger.Row], published: Mapping[str, float]) -> float:
    """When a worker had booted: its slots had begun with what waited for them, or it was seen to be ready."""
    seen = min([stay.ready or math.inf, *(row.started_at for row in tasks)])
    waited = [row.started_at for row in tasks if published[row.task_id] < seen]
    return fmean(waited) if waited else seen


def _gaps(tasks: Sequence[ledger.Row], published: Mapping[str, float]) -> Iterator[float]:
    """The seconds for which each slot of a worker had nothing, while the task waited that it had next."""
    free = deque(sorted(row.ended_at for row in tasks if row.ended_at is not None))
    for row in tasks:
        if free and free[0] <= row.started_at:
            since = free.popleft()
            if published[row.task_id] < since:
                yield row.started_at - since
