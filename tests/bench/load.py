"""The load, in a closed or an open loop, and the figures of one run.

Over HTTP it comes from h2load. CPU is what the processes took within a window amid the load, by the kernel's
count, over the requests that ended in it.
"""

import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil

from local.http import request
from local.run import ROOT
from local.stores import program
from tests.bench.runs import BODY, CLOSED, OPEN, SINGLE, Figures, Target

WARM_UP = 1.5  # seconds
AFTER = 1  # seconds that the load could go on after the window
CONNECTIONS = {CLOSED: 32, SINGLE: 1}
OPEN_RATE = 500  # requests a second
OPEN_CONNECTIONS = 250  # each sends twice a second: an answer within 0.5 s delays no other request
PATIENCE = 15  # seconds for one answer
WORDS = 200  # characters of a bad answer
ARGUMENT: str = msgspec.json.decode(BODY)["args"][0]


class BadAnswer(Exception):
    """A request was not answered as it should; the message says how it was."""


class Answer(NamedTuple):
    """One request: when it ended, in seconds since 1970, its status (-1: none), and what it took."""

    ended: float
    status: int
    ms: float


class Window(NamedTuple):
    """Two moments in seconds since 1970, and the CPU seconds of groups of processes between them.

    None stands for a group without processes.
    """

    began: float
    ended: float
    cpu: tuple[float | None, ...]


class Load(msgspec.Struct, frozen=True):
    """Which load, and for how long it is measured."""

    name: str
    seconds: float

    @property
    def total(self) -> float:
        """Seconds that it goes on in all."""
        return WARM_UP + self.seconds + AFTER

    def command(self, target: Target, folder: Path, log: Path) -> list[str]:
        """The tool that makes it; its log has a line a request: start in µs, status, and µs that it took."""
        if calls(target):
            tool = [sys.executable, "-m", "tests.bench.floors", "call", target.url]
            return [*tool, f"--load={self.name}", f"--seconds={self.total:g}", f"--log={log}"]
        tool = [program("h2load"), "--h1", f"--log-file={log}"]
        tool += [f"--header={name}: {value}" for name, value in target.headers.items()]
        if target.method == "POST":
            (folder / "body").write_text(target.body)
            tool.append(f"--data={folder / 'body'}")
        return [*tool, *self._shape(), target.url]

    def _shape(self) -> list[str]:
        if self.name != OPEN:
            return [f"--clients={CONNECTIONS[self.name]}", f"--duration={1000 * self.total:.0f}ms"]
        return [
            f"--clients={OPEN_CONNECTIONS}",
            # one connection after the other begins, so that requests come evenly
            "--rate=1",
            f"--rate-period={1000 // OPEN_RATE}ms",
            f"--rps={OPEN_RATE / OPEN_CONNECTIONS:g}",
            f"--requests={OPEN_RATE * self.total:.0f}",
        ]


def measure(
    figures: Figures,
    target: Target,
    load: Load,
    folder: Path,
    *,
    answering: Iterable[int] = (),
    broker: Iterable[int] = (),
) -> None:
    """Put a system under load and fill in the figures; `answering` and `broker` are process ids."""
    log = folder / f"{load.name}.log"
    with running(target, load, folder, log) as tool:
        await_start(log, tool)
        time.sleep(WARM_UP)
        own = target.pids or (tool.pid,)
        parties = (own, family((*answering, *target.answering)), family(broker), (tool.pid,))
        window = watch(load.seconds, parties)
        if calls(target):
            await_end(tool)  # it writes its log at its end, h2load as it goes
    fill(figures, parse(log.read_text()), window)
    if figures.error and not calls(target):
        figures.error = words(target, load, folder) or figures.error


def await_start(log: Path, tool: subprocess.Popen[bytes]) -> None:
    """Wait until the load begins, with which its log does. Raises BadAnswer if it does not."""
    end = time.monotonic() + PATIENCE
    while not log.exists():
        if tool.poll() is not None or time.monotonic() > end:
            raise BadAnswer(f"the load has not begun: {log.with_suffix('.out').read_text()[-WORDS:]}")
        time.sleep(0.01)


def await_end(tool: subprocess.Popen[bytes]) -> None:
    """Wait until the load has ended by itself. Raises BadAnswer if it does not."""
    try:
        tool.wait(PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise BadAnswer(f"no answer within {PATIENCE} s") from error


@contextmanager
def running(target: Target, load: Load, folder: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The load's tool, while it is needed."""
    log.unlink(missing_ok=True)
    with log.with_suffix(".out").open("wb") as out:
        tool = subprocess.Popen(load.command(target, folder, log), cwd=ROOT, stdout=out, stderr=out)
    try:
        yield tool
    finally:
        tool.kill()
        tool.wait()


def watch(seconds: float, groups: Iterable[Iterable[int]]) -> Window:
    """Look at the CPU of groups of processes for a while."""
    parties = [[psutil.Process(pid) for pid in group] for group in groups]

    def taken() -> list[float]:
        return [sum(sum(process.cpu_times()[:2]) for process in party) for party in parties]

    began, before = time.time(), taken()
    time.sleep(seconds)
    ended, after = time.time(), taken()
    used = zip(parties, before, after, strict=True)
    return Window(began, ended, tuple(late - early if party else None for party, early, late in used))


def family(pids: Iterable[int]) -> list[int]:
    """Processes and all that they have started."""
    leaders = [psutil.Process(pid) for pid in pids]
    children = (child for leader in leaders for child in leader.children(recursive=True))
    return [process.pid for process in (*leaders, *children)]


def parse(log: str) -> list[Answer]:
    """The lines of a load's log; the last is left out if its writer was ended amid it."""
    rows = (line.split("\t") for line in log.rpartition("\n")[0].splitlines())
    return [
        Answer((int(start) + int(took)) / 1e6, int(status), int(took) / 1e3) for start, status, took in rows
    ]


def fill(figures: Figures, answers: Iterable[Answer], window: Window) -> None:
    """Make the figures of what ended within the window."""
    ended = [answer for answer in answers if window.began <= answer.ended < window.ended]
    good = [answer.ms for answer in ended if answer.status == HTTPStatus.OK]
    figures.requests = len(ended)
    figures.errors = len(ended) - len(good)
    figures.throughput = round(len(good) / (window.ended - window.began), 1)
    if len(good) > 1:
        percentiles = statistics.quantiles(good, n=100, method="inclusive")
        figures.p50_ms, figures.p99_ms = round(percentiles[49], 2), round(percentiles[98], 2)
    if ended:
        costs = [None if cpu is None else round(1000 * cpu / len(ended), 3) for cpu in window.cpu]
        figures.cpu_ms, figures.answering_cpu_ms, figures.broker_cpu_ms, figures.load_cpu_ms = costs
    if figures.errors:
        bad = Counter(answer.status for answer in ended if answer.status != HTTPStatus.OK)
        counted = (
            f"{count} times {status if status > 0 else 'no answer'}" for status, count in bad.most_common()
        )
        figures.error = ", ".join(counted)
    elif not ended:
        figures.error = f"no answer within {window.ended - window.began:.0f} s"


def ask(target: Target) -> None:
    """Send one request of the load's. Raises BadAnswer unless the task has answered."""
    try:
        status, body = request(
            target.method, target.url, target.body.encode(), timeout=PATIENCE, headers=target.headers
        )
    except TimeoutError as error:
        raise BadAnswer(f"no answer within {PATIENCE} s") from error
    except OSError as error:
        raise BadAnswer(f"no answer: {error}") from error
    if status != HTTPStatus.OK or ARGUMENT.encode() not in body:
        raise BadAnswer(f"{status}: {' '.join(body.decode(errors='replace').split())[:WORDS]}")


def words(target: Target, load: Load, folder: Path) -> str | None:
    """What a bad answer under this load says, if one comes again."""
    with running(target, load, folder, folder / "again.log") as tool:
        while tool.poll() is None:
            try:
                ask(target)
            except BadAnswer as error:
                return str(error)
    return None


def calls(target: Target) -> bool:
    """Whether the load is put on the broker itself, without a web process: the tool is the caller."""
    return target.url.startswith("amqp:")
