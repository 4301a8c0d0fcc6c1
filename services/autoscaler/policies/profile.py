"""A daily profile: what work arrived at which time of the day before, to be ready for it today.

It is a floor. A forecast that is wrong may cost a worker for a while, but never takes one away.
"""

import math
from array import array
from dataclasses import dataclass, field, replace

DAY = 86400.0
BUCKET_SECONDS = 300.0
BUCKETS = int(DAY / BUCKET_SECONDS)
NEWEST = 0.5  # the weight of the last day
COMPARED = 6  # buckets over which today is held against the days before
NONE = array("d")
UNKNOWN = array("d", (math.nan,) * BUCKETS)  # one for all pools, and never changed


@dataclass(frozen=True, slots=True)
class Profile:
    """Work that arrives, in slots, by the time of day in UTC; times are unix seconds."""

    loads: "array[float]" = field(default_factory=lambda: UNKNOWN)  # by bucket of the day; never changed
    bucket: int = -1  # since the start of 1970; the one that is filled
    begun: float = math.nan
    work: float = 0.0  # slot-seconds in it so far
    came: "array[float]" = field(default_factory=lambda: NONE)  # in the last buckets, at most COMPARED
    before: "array[float]" = field(default_factory=lambda: NONE)  # and what was expected in them

    def add(self, at: float, work: float) -> "Profile":
        """Take in what arrived since the last call, in slot-seconds."""
        bucket = int(at // BUCKET_SECONDS)
        if bucket == self.bucket:
            return replace(self, work=self.work + work)
        whole = bucket == self.bucket + 1 and self.begun - self.bucket * BUCKET_SECONDS < BUCKET_SECONDS / 10
        filled = self._filled() if whole else replace(self, came=NONE, before=NONE)
        return replace(filled, bucket=bucket, begun=at, work=work)

    def expected(self, at: float) -> float:
        """The slots that are at work then, if the day goes on like those before; 0 if none is known."""
        load = self.loads[int(at // BUCKET_SECONDS) % BUCKETS]
        came, before = math.fsum(self.came), math.fsum(self.before)
        like = min(1.0, came / before) if before else 1.0
        return 0.0 if math.isnan(load) else load * like

    def _filled(self) -> "Profile":
        index = self.bucket % BUCKETS
        load, before = self.work / BUCKET_SECONDS, self.loads[index]
        known = not math.isnan(before)
        learned = NEWEST * load + (1 - NEWEST) * before if known else load
        loads = self.loads[:]
        loads[index] = learned
        if not known:
            return replace(self, loads=loads, came=NONE, before=NONE)
        return replace(self, loads=loads, came=_last(self.came, load), before=_last(self.before, before))


def _last(numbers: "array[float]", number: float) -> "array[float]":
    return (numbers + array("d", (number,)))[-COMPARED:]
