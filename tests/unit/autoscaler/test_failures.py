"""What may be wrong with Prometheus or the broker, at the whole loop and under both policies."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from autoscaler.model import Reason
from autoscaler.prometheus import MAX_ANSWER_BYTES
from tests.unit.autoscaler.fake_prometheus import NOW, FakePrometheus, matrix, series
from tests.unit.autoscaler.test_loop import Bench

READY, UNACKED = ("ready", "/", "default"), ("unacked", "/", "default")
WINDOW = 60


def fails(status: int, body: bytes | None = b"") -> Callable[[FakePrometheus], None]:
    def play(fake: FakePrometheus) -> None:
        fake.status, fake.body = status, body

    return play


FAULTS: dict[str, tuple[Callable[[FakePrometheus], None], Reason]] = {
    "down": (fails(503), Reason.QUERY_ERROR),
    "an error in the query": (fails(422, b'{"status":"error"}'), Reason.QUERY_ERROR),
    "no answer in time": (fails(200, None), Reason.QUERY_ERROR),
    "more than is read": (fails(200, b"x" * (MAX_ANSWER_BYTES + 1)), Reason.QUERY_ERROR),
    "a warning": (lambda fake: fake.answers(warnings=["a store is gone"]), Reason.QUERY_ERROR),
    "nothing": (lambda fake: fake.answers(), Reason.HOLD_STALE_METRICS),
    "one of two series": (lambda fake: fake.answers((*READY, [(NOW, "0")])), Reason.HOLD_STALE_METRICS),
    "other queues only": (lambda fake: fake.backlog(0, queue="other"), Reason.HOLD_STALE_METRICS),
    "no number": (
        lambda fake: fake.answers((*READY, [(NOW, "NaN")]), (*UNACKED, [(NOW, "0")])),
        Reason.HOLD_STALE_METRICS,
    ),
    "an old sample": (lambda fake: fake.backlog(0, age=31), Reason.HOLD_STALE_METRICS),
    "two series of one queue": (
        lambda fake: fake.answers((*READY, [(NOW, "0")]), (*READY, [(NOW, "0")]), (*UNACKED, [(NOW, "0")])),
        Reason.SEVERAL_SERIES,
    ),
}


@pytest.fixture(params=["slo", "threshold"])
async def bench(request: pytest.FixtureRequest, fake: FakePrometheus, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(fake, tmp_path / "autoscaler.yaml")
    scale = {"policy": request.param, "downWindowSeconds": WINDOW}
    bench.write({"default": {"queues": ["default"], "autoscale": scale}})
    yield bench
    bench.prometheus.close()


async def grown(bench: Bench) -> int:
    """Have workers that are needed, and have been for longer than the window."""
    for _ in range(2 * WINDOW // 5):
        bench.fake.backlog(0, 40)
        workers = (await bench.tick()).workers
    assert workers > 2
    return workers


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.behaviour("F1", "F2")
async def test_whatever_is_wrong_with_prometheus_the_number_is_held_and_the_reason_says_so(
    bench: Bench, fault: str
) -> None:
    before = await grown(bench)
    play, reason = FAULTS[fault]
    play(bench.fake)
    for _ in range(4):
        decision = await bench.tick(seconds=WINDOW)
        assert (decision.workers, decision.reason) == (before, reason)
    bench.fake.backlog(0)
    assert (await bench.tick()).workers == before  # it watches for a whole window first
    for _ in range(2 * WINDOW // 5):
        decision = await bench.tick()
    assert decision.workers < before


@pytest.mark.behaviour("F1")
async def test_an_answer_of_ten_megabytes_is_read(bench: Bench) -> None:
    names = ("messages_ready", "messages_unacked", "messages_acked_total")
    others = [
        series(f"rabbitmq_detailed_queue_{name}", 1, vhost="/", queue=f"queue-{number}", more="x" * 300)
        for number in range(10_000)
        for name in names
    ]
    ours = [series(f"rabbitmq_detailed_queue_{name}", 7, vhost="/", queue="default") for name in names[:2]]
    bench.fake.status, bench.fake.body = 200, matrix(*others, *ours)
    assert len(bench.fake.body) > 10 * 2**20
    assert (await bench.tick()).reason not in {Reason.QUERY_ERROR, Reason.HOLD_STALE_METRICS}


@pytest.mark.behaviour("F15")
async def test_a_broker_that_puts_back_what_was_at_work_changes_no_number(bench: Bench) -> None:
    before = await grown(bench)
    bench.fake.backlog(40, 0)
    for _ in range(3):
        assert (await bench.tick()).workers == before
