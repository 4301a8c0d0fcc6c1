"""What workers are given to do: loads from files, and those that are made up for comparisons."""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TextIO

from autoscaler.simulator.setting import Setting

MINUTE = 60.0
HOUR = 60 * MINUTE

ARRIVAL, SERVICE, QUEUE = "arrival_seconds", "service_seconds", "queue"
DEFAULT_QUEUE = "default"


@dataclass(frozen=True, slots=True)
class Load:
    """Tasks by arrival: when each one arrives, how long it takes, and its queue."""

    name: str
    arrivals: tuple[float, ...]  # seconds from the start of the run, ascending
    services: tuple[float, ...]  # seconds
    queues: tuple[str, ...] = ()  # none: all tasks are in the default queue

    def __post_init__(self) -> None:
        tasks = len(self.arrivals)
        if len(self.services) != tasks or len(self.queues) not in (0, tasks):
            raise ValueError("a load has one arrival, one service and one or no queue for each task")
        if not all(map(_is_seconds, (*self.arrivals, *self.services))):
            raise ValueError("arrivals and services must be finite seconds, 0 or more")
        if any(later < earlier for earlier, later in pairwise(self.arrivals)):
            raise ValueError("arrivals must ascend")

    @property
    def work(self) -> float:
        """The seconds that all the tasks take together."""
        return math.fsum(self.services)


Task = tuple[float, float]  # arrival and service, in seconds
Maker = Callable[[], Load]


def load_of(name: str, tasks: Iterable[Task]) -> Load:
    """Sort tasks by arrival into a load with one queue."""
    ordered = sorted(tasks, key=lambda task: task[0])
    return Load(name, tuple(task[0] for task in ordered), tuple(task[1] for task in ordered))


def read_csv(path: Path) -> Load:
    """Read `arrival_seconds,service_seconds` and, if there is one, `queue`, in any order of rows."""
    tasks = []
    named = False
    for where, row in rows(path, (ARRIVAL, SERVICE)):
        named = QUEUE in row
        queue = (row.get(QUEUE) or "").strip() or DEFAULT_QUEUE
        tasks.append((seconds(row, ARRIVAL, where), seconds(row, SERVICE, where), queue))
    if not tasks:
        raise ValueError(f"{path}: there are no tasks; every line after the header must be one")
    tasks.sort(key=lambda task: task[0])
    arrivals, services, queues = zip(*tasks, strict=True)
    return Load(path.stem, arrivals, services, queues if named else ())


def write_csv(load: Load, file: TextIO) -> None:
    """Write what `read_csv` reads."""
    out = csv.writer(file, lineterminator="\n")
    if load.queues:
        out.writerow((ARRIVAL, SERVICE, QUEUE))
        out.writerows(zip(load.arrivals, load.services, load.queues, strict=True))
    else:
        out.writerow((ARRIVAL, SERVICE))
        out.writerows(zip(load.arrivals, load.services, strict=True))


Row = Mapping[str, str | None]


def rows(path: Path, fields: Sequence[str]) -> Iterator[tuple[str, Row]]:
    """Give each row of a file that must have these fields, with the words to say where it is."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            for field in fields:
                if field not in (reader.fieldnames or ()):
                    header = ",".join(fields)
                    raise ValueError(f"{path}, line 1: {field} is missing; the header must have {header}")
            for row in reader:
                yield f"{path}, line {reader.line_num}", row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: must be CSV in UTF-8: {error}") from None


def seconds(row: Row, field: str, where: str) -> float:
    """Take a field that is a number of seconds, or say what is wrong with it."""
    text = row[field]
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not _is_seconds(value):
        raise ValueError(f"{where}: {field} is {text!r}; it must be seconds, 0 or more")
    return value


def _is_seconds(value: float) -> bool:
    return math.isfinite(value) and value >= 0


# Made-up loads. The same seed makes the same load.


def bursts(seed: int = 0) -> Load:
    """Every 10 minutes 100 to 800 tasks of mean 6 s within 20 s, and nothing between them."""
    random = Random(f"bursts {seed}")
    tasks: list[Task] = []
    start = MINUTE
    while (left := 7_500 - len(tasks)) > 0:
        size = min(left, random.randint(100, 800))
        tasks += [(start + random.uniform(0, 20), random.expovariate(1 / 6)) for _ in range(size)]
        start += 10 * MINUTE
    return load_of("bursts", tasks)


def mix(seed: int = 0) -> Load:
    """For an hour 8 tasks a second, of which 90 % take 0.5 s and 10 % take 60 s."""
    random = Random(f"mix {seed}")
    arrivals = _arrivals(random, 28_719, HOUR)
    return load_of("mix", ((at, 60.0 if random.random() < 0.1 else 0.5) for at in arrivals))


def long(seed: int = 0) -> Load:
    """For 2 hours 0.3 tasks a second, of mean 180 s."""
    random = Random(f"long {seed}")
    arrivals = _arrivals(random, 2_191, 2 * HOUR)
    return load_of("long", ((at, random.expovariate(1 / 180)) for at in arrivals))


def wave(seed: int = 0) -> Load:
    """A day in 4 hours: from almost none to 4 tasks a second and back, of mean 10 s."""
    random = Random(f"wave {seed}")
    arrivals = _arrivals(
        random, 28_800, 4 * HOUR, lambda at: (1 - 0.95 * math.cos(math.tau * at / (4 * HOUR))) / 1.95
    )
    return load_of("wave", ((at, random.expovariate(1 / 10)) for at in arrivals))


def ramp(seed: int = 0) -> Load:
    """From none to 8 tasks a second within an hour, of mean 6 s."""
    random = Random(f"ramp {seed}")
    arrivals = _arrivals(random, 14_400, HOUR, lambda at: at / HOUR)
    return load_of("ramp", ((at, random.expovariate(1 / 6)) for at in arrivals))


def flash(seed: int = 0) -> Load:
    """For an hour a task a second and, at minute 20, a crowd: 20 a second within a minute, then waning."""
    random = Random(f"flash {seed}")
    start, rise, wane = 20 * MINUTE, MINUTE, 5 * MINUTE

    def crowd(at: float) -> float:
        since = at - start
        if since < 0:
            return 0.0
        return since / rise if since < rise else math.exp((rise - since) / wane)

    arrivals = _arrivals(random, 9_600, HOUR, lambda at: (1 + 19 * crowd(at)) / 20)
    return load_of("flash", ((at, random.expovariate(1 / 6)) for at in arrivals))


def _arrivals(
    random: Random, count: int, duration: float, rate: Callable[[float], float] = lambda _: 1.0
) -> list[float]:
    """Draw the arrivals of a Poisson process that has this count, with a rate relative to its peak."""
    arrivals: list[float] = []
    while len(arrivals) < count:
        at = random.uniform(0, duration)
        if random.random() < rate(at):
            arrivals.append(at)
    return sorted(arrivals)


PROMISE = Setting(slo=30.0, quantile=0.95, concurrency=4, boot=20.0)
WIDE_PROMISE = Setting(slo=60.0, quantile=0.95, concurrency=4, boot=20.0)

# The loads that policies are compared on, and the setting for each. Those of traces are in `traces`.
COMMON: Mapping[str, tuple[Maker, Setting]] = {
    "bursts": (bursts, WIDE_PROMISE),
    "mix": (mix, PROMISE),
    "long": (long, WIDE_PROMISE),
    "wave": (wave, PROMISE),
    "ramp": (ramp, PROMISE),
    "flash": (flash, PROMISE),
}
