"""What holds for every configured policy."""

from autoscaler.config import Autoscale
from autoscaler.model import Action, Observation, Reason, Signal
from autoscaler.policies import estimate


def test_a_policy_is_not_asked_about_bad_data_and_forgets_nothing_over_it() -> None:
    seen = Observation(problem=Reason.QUERY_ERROR, detail="no answer")
    asked, memory = estimate("learned", seen, Autoscale(policy="threshold"), 0)
    assert (asked.workers, asked.action, asked.reason) == (None, Action.HOLD, Reason.QUERY_ERROR)
    assert asked.words == "no answer"
    assert memory == "learned"


def test_threshold_needs_no_memory() -> None:
    seen = Observation((Signal("default", "ready", 25, 0),))
    asked, memory = estimate(None, seen, Autoscale(policy="threshold"), 0)
    assert (asked.workers, memory) == (3, None)
