"""What the bench with real workers takes for a good burst."""

import pytest

from tests.bench.load import Answer
from tests.bench.workers import WentWrong, began, good


def test_a_request_began_when_its_answer_came_less_what_it_took():
    assert began(Answer(ended=100.5, status=200, ms=1500)) == 99.0


def test_all_answers_must_be_good():
    right, accepted = Answer(1.0, 200, 5.0), Answer(1.0, 202, 5.0)
    assert good([right, right], 2) == [right, right]
    with pytest.raises(WentWrong, match="1 of 2"):
        good([right, accepted], 2)


def test_no_answer_may_be_missing():
    with pytest.raises(WentWrong, match="1 of 2"):
        good([Answer(1.0, 200, 5.0)], 2)
