"""How the demo judges what happened; the stores are stood in for."""

from pathlib import Path

import msgspec
import pytest

from local import ledger
from local.demo import TASKS, Burst, Demo, Figures
from local.kit import Kit
from local.ledger import Row
from local.run import Run


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    """A demo on a kit that does not run."""
    return Demo(Kit(Run(tmp_path)))


def judge(demo: Demo, monkeypatch: pytest.MonkeyPatch, rows: list[Row], burst: Burst) -> Figures:
    """Judge a burst by these rows and no dead letters."""
    monkeypatch.setattr(ledger, "read_rows", lambda *_: rows)
    monkeypatch.setattr(ledger, "read_dead_letters", lambda *_: set())
    return demo.judge(burst)


def burst_of(tasks: int) -> Burst:
    """Tasks 0, 1, … all accepted at second 100."""
    return Burst(sent=tasks, accepted={str(number): 100.0 for number in range(tasks)})


def done(tasks: int) -> list[Row]:
    """One good attempt each, task n begun n seconds after it was accepted."""
    return [Row(str(number), str(number), "default-a@h", 100.0 + number, 999.0) for number in range(tasks)]


def test_the_figures_have_the_promised_names_and_values(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read by other programs."""
    figures = judge(demo, monkeypatch, done(TASKS), burst_of(TASKS))
    assert demo.problems == []
    assert msgspec.to_builtins(figures) == {
        "sent": TASKS,
        "accepted": TASKS,
        "done": TASKS,
        "lost": 0,
        "run_twice": 0,
        "interrupted": 0,
        "wait_p50": TASKS * 0.5 - 1,
        "wait_p95": TASKS * 0.95 - 1,
        "peak_workers": 0,
    }


def test_a_lost_task_is_a_problem(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of many is enough."""
    assert judge(demo, monkeypatch, done(TASKS)[1:], burst_of(TASKS)).lost == 1
    assert demo.problems == ["lost: 1"]


def test_a_task_run_twice_is_a_problem(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of many is enough."""
    again = Row("0", "again", "default-b@h", 200.0, 201.0)
    assert judge(demo, monkeypatch, [*done(TASKS), again], burst_of(TASKS)).run_twice == 1
    assert demo.problems == ["run twice: 1"]


def test_an_interrupted_attempt_is_a_problem(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the task was done at last."""
    monkeypatch.setattr(demo.kit, "stopped_workers", lambda: {"default-b"})
    cut = Row("0", "cut", "default-b@h", 99.0, None)
    assert judge(demo, monkeypatch, [*done(TASKS), cut], burst_of(TASKS)).interrupted == 1
    assert demo.problems == ["interrupted: 1"]


def test_a_task_that_was_not_accepted_is_a_problem(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway has to take the whole burst."""
    burst = burst_of(TASKS)
    del burst.accepted["0"]
    judge(demo, monkeypatch, done(TASKS), burst)
    assert demo.problems == [f"of {TASKS} tasks {TASKS} were sent and {TASKS - 1} accepted"]
