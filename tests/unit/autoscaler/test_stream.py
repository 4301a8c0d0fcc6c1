"""An answer of Prometheus is read as it comes, and gives what it would give as a whole, or nothing."""

import json
from typing import Any

import pytest

from autoscaler import stream
from autoscaler.prometheus import Sample
from autoscaler.stream import Answer, QueryError

BLANKS = [(",", ":"), (", ", ": ")]
NAMES = ["a", '",{"metric":', "}]", '[{"metric":', "ü", "metric"]


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PART_BYTES", 40)


def body(blanks: tuple[str, str] = BLANKS[0], **more: Any) -> bytes:
    result = [{"metric": {"queue": name, "metric": name}, "value": [1, "2"]} for name in NAMES]
    answer = {"status": "success", "data": {"resultType": "vector", "result": result}} | more
    return json.dumps(answer, separators=blanks, ensure_ascii=False).encode()


def read(text: bytes, size: int) -> list[str]:
    """Give what was taken of an answer that comes in pieces."""
    taken: list[Sample] = []
    answer = Answer("vector", Sample, taken.append)
    for begin in range(0, len(text), size):
        answer.feed(text[begin : begin + size])
    answer.end()
    return [sample.metric.queue for sample in taken]


@pytest.mark.parametrize("blanks", BLANKS)
@pytest.mark.parametrize("size", [1, 7, 60, 10_000])
def test_each_series_is_taken_once_and_in_order_whatever_pieces_come(
    blanks: tuple[str, str], size: int
) -> None:
    assert read(body(blanks), size) == NAMES


def test_what_has_come_is_not_kept() -> None:
    answer = Answer("vector", Sample, lambda _: None)
    text = body()
    answer.feed(text[:-10])
    assert len(answer.rest) < len(text) / 2


@pytest.mark.parametrize("size", [1, 60, 10_000])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (body().replace(b'[1,"2"]', b'"2"', 1), "not a vector"),
        (body()[:-1], "not a vector"),
        (body(warnings=["a store is gone"]), "a store is gone"),
        (body().replace(b"success", b"error"), "not a vector"),
        (body().replace(b'"vector"', b'"matrix"'), "but a matrix"),
    ],
)
def test_an_answer_that_turns_out_to_be_none_is_an_error(text: bytes, said: str, size: int) -> None:
    with pytest.raises(QueryError, match=said):
        read(text, size)
