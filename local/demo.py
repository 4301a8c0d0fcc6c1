"""What `make demo` shows: a slow query that holds nobody up, and workers that follow a burst."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec
import psutil
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from local import ledger
from local.kit import MAX_WORKERS, MIN_WORKERS, SLO_SECONDS, Kit
from local.process import say

TASKS = 400
TASK_SECONDS = 1.0
CONCURRENCY = 32  # requests at once
SLOW_SECONDS = 3.0
SETTLE_SECONDS = 120  # for what an earlier run left in the queue
WATCH_SECONDS = 180
LINE_SECONDS = 4
RISE = 3  # workers that the burst must bring at least
QUEUE = "default"
BACKLOG = (
    f'sum(rabbitmq_detailed_queue_messages_ready{{queue="{QUEUE}"}})'
    f' + sum(rabbitmq_detailed_queue_messages_unacked{{queue="{QUEUE}"}})'
)
BUSY = "sum(worker_slots_busy)"
MIB = 2**20
BOUNDS_MIB = {"autoscaler": 64, "gateway": 96}


class Figures(msgspec.Struct, frozen=True):
    """The last line of the demo; waits in seconds."""

    sent: int
    accepted: int
    done: int
    lost: int
    run_twice: int
    interrupted: int
    wait_p50: float | None
    wait_p95: float | None
    peak_workers: int


@dataclass
class Burst:
    """What was sent, and when each accepted task was accepted, in unix seconds."""

    sent: int = 0
    accepted: dict[str, float] = field(default_factory=dict)


@dataclass
class View:
    """One look at the queue and the workers; None is not known."""

    backlog: float | None
    busy: float | None
    workers: int
    decision: str  # what was decided last, and the reason
    why: str

    def line(self, seconds: float) -> str:
        """One line of the table."""
        bar = "#" * self.workers
        return (
            f"  {seconds:4.0f} s  {known(self.backlog):>7}  {known(self.busy):>4}  {self.workers:>7}"
            f"  {bar:<{MAX_WORKERS}}  {self.decision}: {self.why}"
        )


class Demo:
    """One demonstration on a kit that runs."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.gateway = kit.url(kit.run.ports.gateway)
        self.peak = 0
        self.problems: list[str] = []

    async def run(self) -> Figures:
        """Show everything; what did not go as it should is in `problems` afterwards."""
        self.http = AsyncHTTPClient(force_instance=True, max_clients=CONCURRENCY)
        self.eyes = AsyncHTTPClient(force_instance=True)  # looking must not queue behind the burst
        try:
            await self.show_no_waiting()
            await self.settle()
            resident = self.resident()
            burst = Burst()
            sending = asyncio.create_task(self.send(burst))
            try:
                await self.watch(sending)
            finally:
                sending.cancel()
        finally:
            self.http.close()
            self.eyes.close()
        figures = self.judge(burst)
        self.report(figures, resident)
        return figures

    async def show_no_waiting(self) -> None:
        """Ask for a slow query, then for something quick: the quick answer must come first."""
        say("\nA slow query runs; meanwhile the same gateway is asked for something else:")
        began = time.monotonic()

        async def ask(path: str) -> tuple[float, str]:
            answer = await self.http.fetch(self.gateway + path, request_timeout=60)
            took = time.monotonic() - began
            say(f"  {took:6.3f} s  GET {path}  {answer.code}  {answer.body.decode().strip()[:70]}")
            return took, path

        slow = asyncio.create_task(ask(f"/mysql_query/1?delay={SLOW_SECONDS:g}"))
        try:
            await asyncio.sleep(0.2)  # the query is under way
            quick, _ = await ask("/i_want_you_now")
            if slow.done() or (await slow)[0] < max(quick, SLOW_SECONDS):
                self.problems.append("/i_want_you_now was not answered before the slow query")
        finally:
            slow.cancel()

    async def settle(self) -> None:
        """Wait until the queue is empty and the fewest workers are there."""
        deadline = time.monotonic() + SETTLE_SECONDS
        told = False
        while True:
            view = await self.look()
            if view.backlog == 0 and view.workers == MIN_WORKERS:
                return
            if time.monotonic() > deadline:
                self.problems.append(f"not at rest after {SETTLE_SECONDS} s: {view}")
                return
            if view.backlog and not told:
                say(f"waiting until the queue is empty: {view.backlog:.0f} messages")
                told = True
            await asyncio.sleep(1)

    async def send(self, burst: Burst) -> None:
        """Send the burst: every other task is a query that MySQL takes its time over."""
        gate = asyncio.Semaphore(CONCURRENCY)

        async def one(number: int) -> None:
            name, kwargs = (
                ("task.query_users", {"flag": number % 3, "delay": TASK_SECONDS})
                if number % 2
                else ("task.sleep", {"seconds": TASK_SECONDS})
            )
            async with gate:
                burst.sent += 1
                if task := await self.post(name, kwargs):
                    burst.accepted[task] = time.time()

        await asyncio.gather(*(one(number) for number in range(TASKS)))

    async def post(self, name: str, kwargs: dict[str, Any]) -> str | None:
        """Hand a task to the gateway; return its id if it was accepted."""
        asked = HTTPRequest(
            f"{self.gateway}/v1/tasks/{name}",
            method="POST",
            headers={"Content-Type": "application/json", "Prefer": "respond-async"},
            body=json.dumps({"kwargs": kwargs}),
            request_timeout=30,
        )
        try:
            answer = await self.http.fetch(asked)
        except (HTTPClientError, OSError) as error:
            say(f"  not accepted: {error}")
            return None
        return str(json.loads(answer.body)["id"]) if answer.code in {200, 202} else None

    async def watch(self, sending: "asyncio.Task[None]") -> None:
        """Print the table until all is done and the workers are as few as before."""
        say(f"\nA burst of {TASKS} tasks of {TASK_SECONDS:g} s, half of them queries:")
        say("   time  backlog  busy  workers         last decision")
        began, printed, shown = time.monotonic(), 0.0, ("", 0)
        while (elapsed := time.monotonic() - began) < WATCH_SECONDS:
            view = await self.look()
            self.peak = max(self.peak, view.workers)
            over = sending.done() and self.peak >= RISE and view.backlog == 0 and view.workers == MIN_WORKERS
            news = (view.decision, view.workers)
            if over or news != shown or elapsed - printed >= LINE_SECONDS:
                printed, shown = elapsed, news
                say(view.line(elapsed))
            if over:
                await sending
                return
            await asyncio.sleep(1)
        self.problems.append(
            f"workers did not go up to {RISE} and down to {MIN_WORKERS} in {WATCH_SECONDS} s"
        )

    async def look(self) -> View:
        """Ask Prometheus for the queue, and the autoscaler for the workers."""
        backlog, busy, explained = await asyncio.gather(
            self.query(BACKLOG), self.query(BUSY), asyncio.to_thread(self.explained)
        )
        last = explained.get(
            "last", {"action": "nothing", "reason": "yet", "words": "the autoscaler is silent"}
        )
        # a line has room for what is asked for, and not for what was learned before it
        decision, why = f"{last['action']} {last['reason']}", last["words"].split("; ")[0].split(" s: ")[-1]
        return View(backlog, busy, int(explained.get("current", 0)), decision, why)

    async def query(self, promql: str) -> float | None:
        """Ask Prometheus for one number; None if it has none."""
        url = f"{self.kit.stores.prometheus.url}/api/v1/query?query={quote(promql)}"
        try:
            answer = await self.eyes.fetch(url, request_timeout=5)
        except (HTTPClientError, OSError):
            return None
        found = json.loads(answer.body)["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def explained(self) -> dict[str, Any]:
        """What the autoscaler says; empty if it says nothing."""
        try:
            return self.kit.explain()
        except OSError:
            return {}

    def resident(self) -> dict[str, float]:
        """Memory of autoscaler and gateway at rest, in MiB."""
        found = {name: self.kit.run.processes.find(name) for name in BOUNDS_MIB}
        try:
            return {name: process.memory_info().rss / MIB for name, process in found.items() if process}
        except psutil.NoSuchProcess:
            return {}

    def judge(self, burst: Burst) -> Figures:
        """Read what the tasks wrote down and compare it with what was accepted."""
        stores = self.kit.stores
        rows = ledger.read_rows(stores.mysql.url, burst.accepted)
        dead = ledger.read_dead_letters(stores.rabbitmq.management, stores.rabbitmq.login, QUEUE)
        counts = ledger.count(burst.accepted, rows, dead, self.kit.stopped_workers())
        waited = ledger.waits(burst.accepted, rows)
        if len(burst.accepted) < burst.sent or burst.sent < TASKS:
            self.problems.append(
                f"of {TASKS} tasks {burst.sent} were sent and {len(burst.accepted)} accepted"
            )
        for name in ("lost", "run_twice", "interrupted"):
            if number := getattr(counts, name):
                self.problems.append(f"{name.replace('_', ' ')}: {number}")
        return Figures(
            sent=burst.sent,
            accepted=len(burst.accepted),
            done=counts.done,
            lost=counts.lost,
            run_twice=counts.run_twice,
            interrupted=counts.interrupted,
            wait_p50=rounded(ledger.quantile(waited, 0.5)),
            wait_p95=rounded(ledger.quantile(waited, 0.95)),
            peak_workers=self.peak,
        )

    def report(self, figures: Figures, resident: dict[str, float]) -> None:
        """Print what happened."""
        say("\nWhat happened:")
        words = {
            "wait_p50": "seconds, half of the tasks",
            "wait_p95": f"seconds, 95 % of the tasks; promised are {SLO_SECONDS}",
        }
        for name, value in msgspec.structs.asdict(figures).items():
            shown = "unknown" if value is None else value
            say(f"  {name.replace('_', ' '):<14} {shown:>7}  {words.get(name, '')}".rstrip())
        for name, bound in BOUNDS_MIB.items():
            mib = resident.get(name)
            say(f"  {name + ' at rest':<18} {known(mib)} MiB resident, bound {bound} MiB")
        for problem in self.problems:
            say(f"  FAILED  {problem}")


def known(value: float | None) -> str:
    """Write a number without decimals, or a dash if it is not known."""
    return "-" if value is None else f"{value:.0f}"


def rounded(value: float | None) -> float | None:
    """Round seconds to milliseconds."""
    return None if value is None else round(value, 3)
