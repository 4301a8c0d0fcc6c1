"""What more workers would not mend: consumers that stand still, and slots that do not get more done."""

from dataclasses import dataclass
from typing import NamedTuple

from autoscaler.policies.rows import Rows

WATCHED_SECONDS = 300.0
STALLED_SECONDS = 30.0
MORE_SLOTS = 1.5  # times as many
NO_MORE_ENDS = 1.1  # times as many tasks


class Look(NamedTuple):
    """A pool at one tick."""

    at: float
    slots: float  # that are ready
    waiting: float  # tasks
    busy: float  # slots
    ended: float  # tasks so far


NO_LOOKS = Rows(len(Look._fields))


@dataclass(frozen=True, slots=True)
class Watch:
    """The looks of the last minutes."""

    looks: Rows = NO_LOOKS

    def add(self, look: Look) -> "Watch":
        """Keep it, and forget what is older than what is watched."""
        first = 0
        while first < len(self.looks) and look.at - self.looks[first][0] > WATCHED_SECONDS:
            first += 1
        return Watch(self.looks.add(look, first))

    @property
    def stalled(self) -> float:
        """For how many seconds tasks have waited for ready slots of which none took one."""
        last = Look(*self.looks[-1])
        since = last.at
        for look in map(Look._make, reversed(self.looks)):
            if look.busy or not look.waiting or not look.slots or look.ended != last.ended:
                break
            since = look.at
        return last.at - since

    @property
    def useless(self) -> bool:
        """Whether half as many slots more have not ended more tasks, and the backlog grows all the same."""
        first, last = Look(*self.looks[0]), Look(*self.looks[-1])
        half = Look(*self.looks[self.looks.first((first.at + last.at) / 2)])
        if last.at - first.at < 0.9 * WATCHED_SECONDS or first.slots == 0 or half.at == last.at:
            return False
        before = (half.ended - first.ended) / (half.at - first.at)
        now = (last.ended - half.ended) / (last.at - half.at)
        return (
            half.slots >= MORE_SLOTS * first.slots
            and last.slots >= half.slots
            and now <= NO_MORE_ENDS * before
            and first.waiting < half.waiting < last.waiting
        )
