"""Erlang's formulas, held against tables, and the fewest slots that they call for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.policies.queueing import MANY, late_part, slots_for, waiting_probability

loads = st.floats(0.01, 3000)
times = st.floats(0.01, 1000)


@pytest.mark.parametrize(
    ("slots", "load", "waits"),
    # M/M/1 waits with the probability of the load; M/M/2 with load 1 waits for 1/3 of all tasks; the last
    # is the usual example of call centres: 100 calls in half an hour of 3 minutes each, 14 agents
    [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (14, 10.0, 0.1741)],
)
def test_the_part_that_waits_is_that_of_the_textbooks(slots: int, load: float, waits: float) -> None:
    assert waiting_probability(slots, load) == pytest.approx(waits, abs=1e-4)


def test_one_slot_makes_the_part_that_is_late_that_of_a_single_line() -> None:
    # M/M/1: P(wait > t) = load x exp(-(1 - load) t / service)
    assert late_part(1, 0.8, 2.0, 5.0) == pytest.approx(0.8 * math.exp(-0.2 * 5 / 2))


@given(loads, times, times, st.floats(0.001, 0.5))
def test_the_fewest_slots_keep_the_promise_and_one_less_does_not(
    load: float, service: float, promise: float, part: float
) -> None:
    slots = slots_for(load, service, promise, part)
    assert late_part(slots, load, service, promise) <= part
    assert slots - 1 <= load or late_part(slots - 1, load, service, promise) > part


@given(loads, times)
def test_more_work_never_takes_fewer_slots(load: float, service: float) -> None:
    assert slots_for(load, service, 30, 0.05) <= slots_for(load * 1.1, service, 30, 0.05)


def test_where_the_sum_ends_and_the_limit_begins_they_agree() -> None:
    for load in (MANY - 100.0, MANY - 30.0, MANY - 5.0):
        assert waiting_probability(MANY, load) == pytest.approx(
            waiting_probability(MANY + 1, load + 1), rel=0.1, abs=1e-3
        )


def test_a_million_slots_are_found_at_once_and_no_work_takes_none() -> None:
    assert 1_000_000 < slots_for(1e6, 5, 30, 0.05) < 1_001_000
    assert slots_for(0, 5, 30, 0.05) == 0
