"""What a Prometheus remembers of one queue, as a test tells it."""

from collections.abc import Mapping, Sequence
from typing import Any

from autoscaler.history import PART_SECONDS
from tests.unit.autoscaler.fake_prometheus import NOW, matrix, vector

STEP = 5
WORKER = {"pool": "default", "instance": "w1"}
MISSING = "missing"


def course(
    ready: Sequence[Any],
    taken: Sequence[Any],
    queue: str = "default",
    vhost: str = "/",
    **told: Sequence[Any],
) -> bytes:
    """Samples at every step until NOW; `told` may be `acknowledged`, or `ended` by workers, who started then.

    MISSING is no sample at all.
    """
    count = len(ready)
    times = [NOW - STEP * (count - 1 - number) for number in range(count)]

    def series(what: str, values: Sequence[Any], labels: Mapping[str, str]) -> dict[str, Any]:
        samples = [[at, str(one)] for at, one in zip(times, values, strict=True) if one != MISSING]
        return {"metric": {"what": what, **labels}, "values": samples}

    of_queue = {"queue": queue, "vhost": vhost}
    rows = [
        series("moment", times, {}),
        series("ready", ready, of_queue),
        series("unacknowledged", taken, of_queue),
    ]
    if "acknowledged" in told:
        rows.append(series("acknowledged", told["acknowledged"], of_queue | {"instance": "b1"}))
    if "ended" in told:
        started = [MISSING if one == MISSING else times[0] - 1 for one in told["ended"]]
        rows.append(series("started", started, WORKER | {"queue": queue}))
        rows.append(series("ended", told["ended"], WORKER | {"queue": queue}))
    return matrix(*rows)


def tasks(took: Mapping[str, float], seconds: float, queue: str = "default") -> bytes:
    """How many tasks took how long at most, and how long all together, in each of the last two parts."""
    of_queue = {"pool": "default", "queue": queue}
    counts = [(of_queue | {"le": le}, count) for le, count in took.items()]
    parts = [NOW - PART_SECONDS, NOW]
    return matrix(
        *(
            {"metric": labels, "values": [[at, str(count)] for at in parts]}
            for labels, count in [*counts, (of_queue, seconds)]
        )
    )


def remembers(past: bytes, known: Sequence[str] = ("default",), took: bytes | None = None) -> dict[str, Any]:
    """All answers to the questions of `recommend`, and of a loop that starts."""
    return {
        "group by": vector(*(({"queue": name}, 1) for name in known)),
        "_(bucket|sum)": took or vector(),
        "label_replace(vector(time())": past,
        "vector(time())": vector(({}, NOW)),
    }
