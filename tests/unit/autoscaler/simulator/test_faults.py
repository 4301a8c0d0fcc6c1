import pytest

from autoscaler.simulator.faults import Crash, Outage, Restart, Slow, Stale, parse


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("outage:10:20", Outage(10, 20)),
        ("stale:0:1.5", Stale(0, 1.5)),
        ("restart:60", Restart(60)),
        ("crash:60", Crash(60)),
        ("crash:60:3", Crash(60, 3)),
        ("slow:10:20:2.5", Slow(10, 20, 2.5)),
    ],
)
def test_a_fault_is_read_as_it_is_written(text, fault):
    assert parse(text) == fault


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fire:1", "'fire:1' is not known; known are outage:FROM:TO"),
        ("outage:10", "must look like outage:FROM:TO"),
        ("outage:a:b", "must look like outage:FROM:TO"),
        ("outage:20:10", "FROM must be before TO"),
        ("restart:-1", "must look like restart:AT"),
        ("restart:inf", "must look like restart:AT"),
        ("crash:1:0", "WORKERS must be a whole number, 1 or more"),
        ("crash:1:1.5", "WORKERS must be a whole number, 1 or more"),
        ("slow:1:2:0", "FACTOR must be above 0"),
    ],
)
def test_a_fault_that_is_none_is_told_what_would_be_right(text, words):
    with pytest.raises(ValueError, match="fault: ") as error:
        parse(text)
    assert words in str(error.value)
