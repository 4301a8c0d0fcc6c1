"""What queueing theory says of tasks that arrive at random and wait in one line for several slots.

M/M/n, as in any textbook: Gross and Harris, Fundamentals of Queueing Theory, chapter 2. For many slots the
limit of Halfin and Whitt (Operations Research 29, 1981) is exact enough, and as fast for a million.
"""

import math

MANY = 1000  # slots from which on the limit is taken: it is then within a per cent of the sum


def waiting_probability(slots: int, load: float) -> float:
    """Erlang's C: the part of all tasks that has to wait; `load` is arrivals a second x seconds a task."""
    if load <= 0:
        return 0.0
    if slots <= load:
        return 1.0
    if slots > MANY:
        return _halfin_whitt((slots - load) / math.sqrt(load))
    lost = 1.0  # Erlang's B, the part that finds every slot taken, for one slot more in each turn
    for number in range(1, slots + 1):
        lost = load * lost / (number + load * lost)
    return lost / (1 - load / slots * (1 - lost))


def late_part(slots: int, load: float, service: float, promise: float) -> float:
    """The part of all tasks that waits longer than the promise; both times in seconds."""
    if slots <= load:
        return 1.0
    return waiting_probability(slots, load) * math.exp(-(slots - load) * promise / service)


def slots_for(load: float, service: float, promise: float, part: float) -> int:
    """The fewest slots with which at most this part of all tasks waits longer than the promise."""
    if load <= 0:
        return 0
    least = math.floor(load) + 1
    step = 1
    while late_part(least + step - 1, load, service, promise) > part:
        step *= 2
    low, high = least + step // 2, least + step - 1
    while low < high:
        middle = (low + high) // 2
        if late_part(middle, load, service, promise) > part:
            low = middle + 1
        else:
            high = middle
    return low


def _halfin_whitt(spare: float) -> float:
    """For slots = load + spare x sqrt(load)."""
    density = math.exp(-spare * spare / 2) / math.sqrt(math.tau)
    below = math.erfc(-spare / math.sqrt(2)) / 2
    return density / (density + spare * below)
