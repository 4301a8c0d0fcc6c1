"""What may go wrong in a simulation, and when; times are seconds from its start."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outage:
    """Prometheus does not answer."""

    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Stale:
    """Prometheus answers, and cannot scrape the broker: the newest sample grows old."""

    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Restart:
    """The autoscaler begins anew and has forgotten everything."""

    at: float


@dataclass(frozen=True, slots=True)
class Crash:
    """So many workers die at once; their pods start again."""

    at: float
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Slow:
    """What tasks call is slow: those that begin meanwhile take so many times as long."""

    begin: float
    end: float
    factor: float


Fault = Outage | Stale | Restart | Crash | Slow

FORMS = {
    "outage": (Outage, "outage:FROM:TO"),
    "stale": (Stale, "stale:FROM:TO"),
    "restart": (Restart, "restart:AT"),
    "crash": (Crash, "crash:AT[:WORKERS]"),
    "slow": (Slow, "slow:FROM:TO:FACTOR"),
}


def parse(text: str) -> Fault:
    """Read a fault as the command has it; raises ValueError with what would be right."""
    kind, *words = text.split(":")
    if kind not in FORMS:
        known = ", ".join(form for _, form in FORMS.values())
        raise ValueError(f"fault: {text!r} is not known; known are {known}")
    make, form = FORMS[kind]
    wrong = ValueError(f"fault: {text!r} must look like {form}, in seconds, each 0 or more")
    try:
        numbers = [float(word) for word in words]
        fault: Fault = make(*numbers)
    except (TypeError, ValueError):
        raise wrong from None
    if not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise wrong
    match fault:
        case Crash(at, workers):
            if workers < 1 or workers != int(workers):
                raise ValueError(f"fault: {text!r}: WORKERS must be a whole number, 1 or more")
            return Crash(at, int(workers))
        case Outage(begin, end) | Stale(begin, end) | Slow(begin, end, _):
            if begin >= end:
                raise ValueError(f"fault: {text!r}: FROM must be before TO")
            if isinstance(fault, Slow) and not fault.factor:
                raise ValueError(f"fault: {text!r}: FACTOR must be above 0")
    return fault
