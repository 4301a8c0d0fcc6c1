"""Prometheus' answers, read series by series as they come: whole they take many times what is kept."""

from collections.abc import Callable
from typing import Generic, Literal, TypeVar

import msgspec

PART_BYTES = 64 * 1024  # that are read together

_S = TypeVar("_S")


class QueryError(Exception):
    """Prometheus gave no data; the text says why."""


class _Data(msgspec.Struct, rename="camel"):
    result_type: str
    result: msgspec.Raw


class _Answer(msgspec.Struct):
    status: Literal["success"]
    data: _Data
    warnings: list[str] = []


class Answer(Generic[_S]):
    """One answer of a shape, whose series are of a kind; each is given to `take`, in their order.

    What was taken counts only when the end has come without a QueryError.
    """

    def __init__(
        self, shape: Literal["matrix", "vector"], kind: type[_S], take: Callable[[_S], object]
    ) -> None:
        self._shape = shape
        self._series = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
        self._take = take
        self._wrong: msgspec.DecodeError | None = None
        self.rest = bytearray()  # what is not taken yet, or not to be taken

    def feed(self, chunk: bytes) -> None:
        """Read what has come so far."""
        self.rest += chunk
        if len(self.rest) < PART_BYTES or self._wrong:
            return
        # No text within the answer has a bare quote, so that these are where series begin. What is left is
        # an answer still, with fewer of them; that of one who writes JSON with blanks is read at the end.
        first, last = self.rest.find(b'[{"metric":'), self.rest.rfind(b',{"metric":')
        if 0 <= first < last:
            part = self.rest[first:last] + b"]"
            del self.rest[first + 1 : last + 1]
            try:
                self._give(part)
            except msgspec.DecodeError as error:
                self._wrong = error

    def end(self) -> None:
        """Read the rest; raises QueryError."""
        try:
            if self._wrong:
                raise self._wrong
            answer = msgspec.json.decode(self.rest, type=_Answer)
            if answer.data.result_type != self._shape:
                raise QueryError(
                    f"Prometheus' answer is not a {self._shape}, but a {answer.data.result_type}"
                )
            if answer.warnings:  # part of the data may be missing
                raise QueryError(f"Prometheus warns: {answer.warnings[0][:200]}")
            self._give(answer.data.result)
        except msgspec.DecodeError as error:
            raise QueryError(f"Prometheus' answer is not a {self._shape}: {error}") from error

    def _give(self, part: bytearray | msgspec.Raw) -> None:
        for series in self._series.decode(part):
            self._take(series)
