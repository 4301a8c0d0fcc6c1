"""What all measurements share: a system under test, where its load goes, and the figures of one run."""

import statistics
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from local.stores import Stores

TASK = "task.echo"
QUEUE = "default"
BODY = '{"args": ["hello"]}'  # of a request that calls the task

CLOSED, SINGLE, OPEN = "closed-32", "closed-1", "open-500"
LOADS = (SINGLE, CLOSED, OPEN)  # the lightest first: what chokes on the others has shown itself before
F1, F2, GATEWAY, THREAD = "floor-rpc", "floor-http", "gateway", "fastapi-thread"

MEASURED = ("p50_ms", "p99_ms", "cpu_ms", "answering_cpu_ms", "broker_cpu_ms", "load_cpu_ms")


class WentWrong(Exception):
    """Something else happened than what was to be measured; the message says what."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where the load goes: one request, sent over and over."""

    url: str
    method: str = "POST"
    headers: dict[str, str] = {}
    body: str = ""
    pids: tuple[int, ...] = ()  # whose CPU counts: the web process, or all of them
    answering: tuple[int, ...] = ()  # who answers, if the system brings its own: worker and result store


class Figures(msgspec.Struct, kw_only=True):
    """One run of one load on one system."""

    system: str
    answers: str  # who answers the task: "responder", "workers", "own worker" or "none"
    load: str
    run: int
    requests: int = 0
    errors: int = 0
    throughput: float = 0  # good answers a second
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_ms: float | None = None  # of the web process, a request
    answering_cpu_ms: float | None = None  # of who answers the task, a request
    broker_cpu_ms: float | None = None  # of RabbitMQ, a request
    load_cpu_ms: float | None = None  # of the load tool, a request
    error: str | None = None  # the first, in words


class System(Protocol):
    """Something that can be put under load over HTTP."""

    @property
    def name(self) -> str:
        """One word, for tables."""

    @property
    def answers(self) -> str:
        """Who answers the task; the bench starts "responder" and "workers", a system "own worker"."""

    def running(self, stores: Stores, folder: Path) -> AbstractContextManager[Target]:
        """Start it, wait until it answers, and end it and all that it started, also on failure.

        `folder` is its own, for logs and files. Raises any exception if it cannot be started.
        """


def medians(runs: Iterable[Figures]) -> list[Figures]:
    """One object for all runs of a load on a system: counts summed, medians of all else, the first error.

    `run` is the number of runs.
    """
    groups: dict[tuple[str, str, str], list[Figures]] = {}
    for one in runs:
        groups.setdefault((one.system, one.answers, one.load), []).append(one)
    return [
        Figures(
            system=system,
            answers=answers,
            load=load,
            run=len(group),
            requests=sum(one.requests for one in group),
            errors=sum(one.errors for one in group),
            throughput=statistics.median(one.throughput for one in group),
            error=next((one.error for one in group if one.error), None),
            **{figure: _median(getattr(one, figure) for one in group) for figure in MEASURED},
        )
        for (system, answers, load), group in groups.items()
    ]


def headline(figures: Sequence[Figures]) -> dict[str, float | None]:
    """What the gateway is held to, of medians; None for what cannot be told from these."""
    return {
        "cpu_ratio_to_floors": _to_floors(figures, "cpu_ms"),
        "p50_ratio_to_floors": _to_floors(figures, "p50_ms"),
        "p99_ratio_to_floors": _to_floors(figures, "p99_ms"),
        "throughput_vs_fastapi_thread": _against_thread(figures),
    }


def find(figures: Iterable[Figures], system: str, load: str, answers: str = "responder") -> Figures | None:
    """The medians of one system under one load; None if it was not measured, or nothing was answered."""
    wanted = (system, load, answers)
    found = (one for one in figures if (one.system, one.load, one.answers) == wanted)
    return next((one for one in found if one.throughput), None)


def _to_floors(figures: Sequence[Figures], figure: str) -> float | None:
    """The gateway's over the sum of the floors', under the load where that is worse."""
    ratios = []
    for load in (CLOSED, OPEN):
        parts = find(figures, GATEWAY, load), find(figures, F1, load), find(figures, F2, load, "none")
        values: list[float] = [value for part in parts if (value := getattr(part, figure, None)) is not None]
        if len(values) < len(parts):
            return None
        ratios.append(values[0] / (values[1] + values[2]))
    return round(max(ratios), 2)


def _against_thread(figures: Sequence[Figures]) -> float | None:
    ours, theirs = find(figures, GATEWAY, CLOSED), find(figures, THREAD, CLOSED)
    return round(ours.throughput / theirs.throughput, 2) if ours and theirs else None


def _median(values: Iterable[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return round(statistics.median(measured), 3) if measured else None
