"""Rows of numbers that are kept for each of many pools: eight bytes a number, a tenth of what tuples take."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

Row = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of `width` numbers, of which the first is a time that rises from row to row."""

    width: int
    numbers: "array[float]" = field(default_factory=lambda: array("d"))  # row after row; never changed

    def __len__(self) -> int:
        return len(self.numbers) // self.width

    def __getitem__(self, index: int) -> Row:
        begin = (index if index >= 0 else len(self) + index) * self.width
        if not 0 <= begin < len(self.numbers):
            raise IndexError(index)
        return tuple(self.numbers[begin : begin + self.width])

    def __iter__(self) -> Iterator[Row]:
        return zip(*map(self.column, range(self.width)), strict=True)

    def column(self, which: int) -> "array[float]":
        """Give one number of each row."""
        return self.numbers[which :: self.width]

    def first(self, at: float) -> int:
        """Find the first row that is no earlier."""
        return bisect_left(self.column(0), at)

    def add(self, row: Row, first: int = 0) -> "Rows":
        """Give the rows from the first that is kept on, and one more."""
        return Rows(self.width, self.numbers[first * self.width :] + array("d", row))
