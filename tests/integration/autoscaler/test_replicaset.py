"""The bench's workers of which only the number is set: who goes is picked as a ReplicaSet does."""

import time

from autoscaler.model import Action, Decision, Reason
from tests.bench.replicaset import ReplicaSet
from tests.integration.autoscaler.conftest import TOKEN, Place, tick, until


def number(workers: int, start: int = 0, drain: tuple[str, ...] = ()) -> Decision:
    return Decision(workers, Action.HOLD, Reason.DEADBAND, "", start=start, drain=drain)


async def test_who_is_ready_for_the_shortest_time_is_ended_whoever_else_was_picked(place: Place) -> None:
    since: dict[str, float] = {}
    actuator = ReplicaSet(place.config, TOKEN, grace=600, ready=since.get, seed=0)
    place.open.append(actuator)
    await tick(actuator, number(2, start=2))
    first, second = (await until(actuator, lambda fleet: fleet.ready == 2, number(2))).workers
    since |= {first.name: time.time() - 100, second.name: time.time() - 1}
    await tick(actuator, number(1, drain=(first.name,)))
    await until(actuator, lambda fleet: len(fleet.workers) == 1, number(1))
    await until(actuator, lambda _: not place.records().get(second.name), number(1))
    assert list(place.ended()) == [second.name]
    assert [worker.name for worker in (await tick(actuator, number(1))).serving] == [first.name]
