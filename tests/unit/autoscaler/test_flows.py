"""Totals only rise, by what was counted since the watch began, whoever counts, ends or begins anew."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.flows import FORGOTTEN_SECONDS, Counter, Flows, Process, Queue, Reading

Q: Queue = ("/", "q")
BEGAN = 1000.0


def node(ended: float | None = None, name: str = "n1", queue: Queue = Q, **exchanges: float) -> Reading:
    """What one node of the broker tells of a queue."""
    told = {Counter("arrived", queue, exchange): count for exchange, count in exchanges.items()}
    return {Process((name,)): told | ({} if ended is None else {Counter("ended", queue): ended})}


def worker(ended: float, busy: float = 0.0, name: str = "w1", started: float = 0.0) -> Reading:
    """What one worker tells of a queue."""
    counts = {Counter("ended", Q): ended, Counter("busy", Q): busy}
    return {Process(("pool", name), started): counts}


class Watch:
    """Readings five seconds apart, of one queue."""

    def __init__(self) -> None:
        self.flows = Flows()
        self.now = BEGAN

    def see(
        self, broker: Reading | None = None, workers: Reading | None = None, seconds: float = 5
    ) -> tuple[float, float, float, str] | None:
        """Returns ended, arrived, busy and source; -1 is a number that is not known."""
        flow = self.flows.update([Q], self.now, broker or {}, workers or {}).get(Q)
        self.now += seconds
        if flow is None:
            return None
        numbers = (flow.ended, flow.arrived, flow.busy_seconds)
        ended, arrived, busy = (-1 if math.isnan(number) else number for number in numbers)
        return ended, arrived, busy, flow.source


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_what_was_counted_before_the_watch_began_does_not_count(watch: Watch) -> None:
    assert watch.see(node(500, x=700)) == (0, 0, -1, "broker")
    assert watch.see(node(503, x=710)) == (3, 10, -1, "broker")
    assert watch.see(node(503, x=710)) == (3, 10, -1, "broker")


def test_nodes_and_exchanges_add_up(watch: Watch) -> None:
    watch.see(node(5, x=1, y=1) | node(5, "n2", x=1))
    assert watch.see(node(6, x=2, y=4) | node(9, "n2", x=1)) == (5, 4, -1, "broker")


def test_workers_count_where_the_broker_does_not(watch: Watch) -> None:
    watch.see(workers=worker(5, 50))
    assert watch.see(workers=worker(7, 53.5)) == (2, -1, 3.5, "workers")


def test_the_broker_counts_before_the_workers_who_alone_know_how_long_it_took(watch: Watch) -> None:
    watch.see(node(5, x=1), worker(5, 50))
    assert watch.see(node(8, x=1), worker(6, 53)) == (3, 0, 3, "broker")


@pytest.mark.parametrize("left", [0, 3, 99])
def test_a_node_that_begins_anew_counts_from_0_and_nothing_falls(watch: Watch, left: int) -> None:
    watch.see(node(100, x=100))
    assert watch.see(node(110, x=110)) == (10, 10, -1, "broker")
    assert watch.see(node(left, x=left)) == (10 + left, 10 + left, -1, "broker")
    assert watch.see(node(left + 1, x=left)) == (11 + left, 10 + left, -1, "broker")


def test_a_worker_that_ends_takes_nothing_with_it(watch: Watch) -> None:
    watch.see(workers=worker(5) | worker(9, name="w2"))
    assert watch.see(workers=worker(6) | worker(12, name="w2")) == (4, -1, 0, "workers")
    assert watch.see(workers=worker(6)) == (4, -1, 0, "workers")
    assert watch.see(workers=worker(7)) == (5, -1, 0, "workers")


def test_all_that_a_worker_did_counts_if_it_started_since_the_watch_began(watch: Watch) -> None:
    watch.see(workers=worker(5))
    assert watch.see(workers=worker(5) | worker(3, 1.5, "w2", started=BEGAN + 1)) == (3, -1, 1.5, "workers")


@pytest.mark.parametrize("started", [BEGAN - 1, BEGAN + 1e6, math.nan])
def test_of_a_worker_that_is_older_than_the_watch_or_of_no_known_age_only_what_it_gains_counts(
    watch: Watch, started: float
) -> None:
    watch.see(workers=worker(5))
    assert watch.see(workers=worker(5) | worker(1e6, 1e7, "w2", started)) == (0, -1, 0, "workers")
    assert watch.see(workers=worker(5) | worker(1e6 + 2, 1e7 + 1, "w2", started)) == (2, -1, 1, "workers")


def test_a_worker_that_follows_another_at_its_address_is_another(watch: Watch) -> None:
    watch.see(workers=worker(5))
    assert watch.see(workers=worker(9, started=BEGAN + 2)) == (9, -1, 0, "workers")


def test_a_gap_is_told_as_one_and_made_up_for_after_it(watch: Watch) -> None:
    watch.see(node(5, x=5), worker(5))
    assert watch.see() is None
    assert watch.see(node(9, x=7), worker(9)) == (4, 2, 0, "broker")
    watch.see(workers=worker(9))
    assert watch.see(workers={}) is None
    assert watch.see(workers=worker(11)) == (6, -1, 0, "workers")


def test_a_counter_that_shows_up_in_a_node_that_was_just_read_began_at_0(watch: Watch) -> None:
    watch.see({Process(("n1",)): {}})
    assert watch.see(node(4, x=6)) == (4, 6, -1, "broker")


def test_a_node_that_shows_up_or_comes_back_may_have_counted_for_long(watch: Watch) -> None:
    watch.see(node(5))
    assert watch.see(node(5) | node(1e6, "n2", x=1e6)) == (0, 0, -1, "broker")
    watch.see(node(5))
    assert watch.see(node(5) | node(1e6 + 3, "n2", x=1e6, y=1e6)) == (3, 0, -1, "broker")


def test_a_process_that_was_away_for_very_long_counts_from_where_it_is(watch: Watch) -> None:
    watch.see(node(5), worker(5))
    watch.see(seconds=FORGOTTEN_SECONDS + 1)
    watch.see()
    assert watch.see(node(1e6), worker(1e6)) == (0, -1, 0, "broker")


def test_one_source_hands_over_to_the_other_without_a_jump(watch: Watch) -> None:
    watch.see(workers=worker(5))
    watch.see(workers=worker(7))
    assert watch.see(node(1e6), worker(8)) == (3, -1, 0, "broker")
    assert watch.see(node(1e6 + 1), worker(9)) == (4, -1, 0, "broker")
    assert watch.see(workers=worker(11)) == (6, -1, 0, "workers")
    assert watch.see(workers=worker(12)) == (7, -1, 0, "workers")
    # what the broker counted meanwhile was told by the workers
    assert watch.see(node(1e6 + 4), worker(12)) == (7, -1, 0, "broker")


def test_an_end_that_one_source_knows_before_the_other_counts_once_when_they_hand_over(watch: Watch) -> None:
    nobody: Reading = {Process(("n1",)): {}}
    watch.see(nobody, worker(0))
    assert watch.see(node(7), worker(0)) == (7, -1, 0, "broker")
    assert watch.see(node(7), worker(7)) == (7, -1, 0, "broker")
    other = Watch()
    other.see(nobody, worker(0))
    other.see(nobody, worker(7))
    assert other.see(node(7), worker(7)) == (7, -1, 0, "broker")
    assert other.see(workers=worker(9)) == (9, -1, 0, "workers")


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0])
def test_what_is_no_count_is_not_told(watch: Watch, number: float) -> None:
    watch.see(node(5))
    assert watch.see(node(number)) is None
    assert watch.see(node(6)) == (1, -1, -1, "broker")


def test_a_queue_that_is_watched_no_more_begins_anew(watch: Watch) -> None:
    watch.see(node(5))
    watch.see(node(8))
    watch.flows.update([], watch.now, {Process(("n1",)): {}}, {})
    assert watch.see(node(20)) == (0, -1, -1, "broker")


def test_a_queue_that_is_watched_later_does_not_begin_with_what_was_before(watch: Watch) -> None:
    workers: Reading = {Process(("pool", "w1"), BEGAN - 1): {}}
    watch.flows.update([("/", "other")], watch.now - 5, {Process(("n1",)): {}}, workers)
    assert watch.see(node(20, x=30), worker(9, started=BEGAN - 1)) == (0, 0, 0, "broker")


def test_queues_of_the_same_name_are_apart(watch: Watch) -> None:
    watch.see(node(5))
    assert watch.see(node(5, queue=("other", "q"))) is None


readings = st.one_of(st.none(), st.integers(0, 50))


@given(st.lists(st.tuples(readings, readings, readings, st.booleans()), max_size=30))
def test_totals_never_fall(told: list[tuple[int | None, int | None, int | None, bool]]) -> None:
    watch, least = Watch(), (0.0, 0.0)
    for first, second, of_worker, anew in told:
        broker = (node(first, x=first) if first is not None else {}) | (
            node(second, "n2") if second is not None else {}
        )
        started = watch.now - 1 if anew else 0.0
        seen = watch.see(broker, worker(of_worker, started=started) if of_worker is not None else {})
        if seen:
            now = (max(least[0], seen[0]), max(least[1], seen[1]))
            assert (seen[0] in {-1, now[0]}, seen[1] in {-1, now[1]}) == (True, True)
            least = now
