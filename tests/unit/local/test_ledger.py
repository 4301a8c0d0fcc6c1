"""The oracle: each counter, and the waits."""

import pytest

from local.ledger import Counts, Row, count, quantile, waits


def attempt(
    task: str, worker: str = "default-a@host", *, start: float = 10.0, end: float | None = 11.0
) -> Row:
    """One attempt at a task."""
    return Row(task, f"{task}-{worker}-{start}", worker, start, end)


def test_a_task_with_one_end_is_done_and_nothing_else() -> None:
    """The good case leaves every other counter at zero."""
    counts = count({"t"}, [attempt("t")], set(), {"default-a"})
    assert counts == Counts(done=1, lost=0, run_twice=0, interrupted=0)


def test_an_accepted_task_that_left_no_trace_is_lost() -> None:
    """No end in the ledger and no dead letter."""
    assert count({"t", "u"}, [attempt("u")], set(), set()) == Counts(1, 1, 0, 0)


def test_a_task_that_began_and_never_ended_is_lost_too() -> None:
    """A start alone saves no task; a crash is not our stopping it."""
    assert count({"t"}, [attempt("t", end=None)], set(), set()) == Counts(0, 1, 0, 0)


def test_a_dead_letter_is_not_lost_and_not_done() -> None:
    """Somebody can still look at it."""
    assert count({"t"}, [attempt("t", end=None)], {"t"}, set()) == Counts(0, 0, 0, 0)


def test_a_task_with_two_ends_was_run_twice() -> None:
    """Twice, thrice: it counts as one task."""
    rows = [attempt("t", start=start) for start in (1.0, 2.0, 3.0)]
    assert count({"t"}, rows, set(), set()) == Counts(1, 0, 1, 0)


def test_a_second_attempt_after_a_crash_is_not_run_twice() -> None:
    """Only attempts that came to an end count."""
    rows = [attempt("t", "default-a@host", end=None), attempt("t", "default-b@host")]
    assert count({"t"}, rows, set(), set()) == Counts(1, 0, 0, 0)


def test_an_attempt_cut_short_on_a_worker_that_we_stopped_is_interrupted() -> None:
    """Even if the task was done elsewhere afterwards; the record's name is the node's, without its host."""
    rows = [attempt("t", "default-a@host", end=None), attempt("t", "default-b@host")]
    assert count({"t"}, rows, set(), {"default-a"}) == Counts(1, 0, 0, 1)


def test_tasks_that_were_not_accepted_do_not_count() -> None:
    """What an earlier run left in the ledger is none of our business."""
    rows = [attempt("old"), attempt("old", start=20.0), attempt("older", end=None)]
    assert count(set(), rows, set(), {"default-a"}) == Counts(0, 0, 0, 0)


def test_a_wait_lasts_from_acceptance_to_the_first_start() -> None:
    """Later attempts and foreign tasks do not change it, and no wait is negative."""
    rows = [attempt("t", start=15.0), attempt("t", start=13.0), attempt("u", start=9.9), attempt("v")]
    assert waits({"t": 10.0, "u": 10.0, "never started": 10.0}, rows) == [0.0, 3.0]


@pytest.mark.parametrize(("q", "value"), [(0.5, 10), (0.95, 19), (1.0, 20)])
def test_a_quantile_is_one_of_the_values(q: float, value: float) -> None:
    """The smallest that so many are not above."""
    assert quantile(range(1, 21), q) == value


def test_of_nothing_there_is_no_quantile() -> None:
    """Missing data are not zero."""
    assert quantile([], 0.5) is None
