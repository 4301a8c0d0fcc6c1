"""Rows of numbers are read as they were put in, and the oldest go."""

import math

import pytest

from autoscaler.policies.rows import Rows

ROWS = Rows(2).add((1, 10)).add((2, math.inf)).add((4, 30))


def test_rows_are_read_by_their_number_from_either_end_and_in_their_order() -> None:
    assert (ROWS[0], ROWS[-1], len(ROWS)) == ((1, 10), (4, 30), 3)
    assert list(ROWS) == [(1, 10), (2, math.inf), (4, 30)]
    for beyond in (3, -4):
        with pytest.raises(IndexError):
            ROWS[beyond]


@pytest.mark.parametrize(("at", "first"), [(0, 0), (1, 0), (1.5, 1), (4, 2), (5, 3)])
def test_the_first_row_that_is_no_earlier_is_found(at: float, first: int) -> None:
    assert ROWS.first(at) == first


def test_one_more_row_leaves_the_others_as_they_were_and_drops_the_oldest() -> None:
    assert list(ROWS.add((5, 50), first=2)) == [(4, 30), (5, 50)]
    assert len(ROWS) == 3
