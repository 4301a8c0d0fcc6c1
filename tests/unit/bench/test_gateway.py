"""The bench goes on whatever a system does, and tells it."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from local.process import StartError
from tests.bench import gateway
from tests.bench.gateway import in_words, interleaved
from tests.bench.load import BadAnswer, Load
from tests.bench.runs import CLOSED, OPEN, SINGLE, Target

LOADS = [Load(name, 1) for name in (SINGLE, CLOSED, OPEN)]


class System:
    """Stands in for one that may not start, and may choke on a load; how often it was started."""

    name, answers = "one", "none"

    def __init__(self, starts=True, chokes_on=()):
        self.starts = starts
        self.chokes_on = chokes_on
        self.started = 0

    @contextmanager
    def running(self, stores, folder):
        self.started += 1
        if not self.starts:
            raise KeyError("port")
        yield Target(url="http://127.0.0.1:1/", headers={"name": ",".join(self.chokes_on)})


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """All runs of some systems, without any load."""

    def measure(figures, target, load, folder, **others):
        if load.name in target.headers["name"]:
            raise BadAnswer("no answer within 15 s")
        figures.requests, figures.throughput = 10, 10

    monkeypatch.setattr(gateway, "measure", measure)
    monkeypatch.setattr(gateway, "ask", lambda target: None)
    processes = SimpleNamespace(find=lambda name: None)
    stores = SimpleNamespace(rabbitmq=SimpleNamespace(run=SimpleNamespace(processes=processes)))

    def runs(*systems, count=1):
        return list(interleaved(stores, Path(tmp_path), systems, LOADS, count))

    return runs


def test_a_system_is_started_once_for_all_loads_that_it_answers(bench):
    system = System()
    assert [one.error for one in bench(system)] == [None] * 3
    assert system.started == 1


def test_a_system_that_answered_nothing_is_started_afresh_for_the_next_load(bench):
    system = System(chokes_on=(CLOSED,))
    single, closed, opened = bench(system)
    assert closed.error == "no answer within 15 s"
    assert (single.throughput, opened.throughput, single.error, opened.error) == (10, 10, None, None)
    assert system.started == 2


def test_a_system_that_does_not_start_is_told_under_every_load_and_the_next_one_runs(bench):
    other = System()
    other.name = "two"
    runs = bench(System(starts=False), other)
    assert [one.error for one in runs] == ["KeyError: 'port'"] * 3 + [None] * 3


def test_runs_are_interleaved(bench):
    other = System()
    other.name = "two"
    runs = bench(System(), other, count=2)
    assert [(one.run, one.system) for one in runs[::3]] == [(1, "one"), (1, "two"), (2, "one"), (2, "two")]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            StartError("web ended by itself\nthe last lines:\n  no such option"),
            "web ended by itself: no such option",
        ),
        (BadAnswer("503: saturated"), "503: saturated"),
        (ValueError("bad"), "ValueError: bad"),
        (TimeoutError(), "TimeoutError:"),
        (OSError("no /some/where/file"), "OSError: no …/file"),
    ],
)
def test_an_error_is_told_in_one_line_without_folders(error, words):
    assert in_words(error) == words
