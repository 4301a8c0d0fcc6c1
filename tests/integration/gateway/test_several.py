"""Two gateways on one broker: each answers its own callers, and goes on when the other is gone.

Their database is not the worker's, where they would find what was pushed to the wrong one.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from celerykit import schema
from tests.integration.gateway.support import Gateway
from tests.integration.support import eventually

pytestmark = pytest.mark.integration

WAITS = 30  # at once, on each gateway


@pytest.fixture
def gateways(run, environ, empty_database, worker):
    """Two gateways, and one worker for both."""
    schema.upgrade(empty_database)
    apart = environ | {"CELERYKIT_DATABASE_URL": empty_database}
    both = []
    try:
        both += [Gateway(run, apart, f"several-{number}") for number in range(2)]
        yield both
    finally:
        for number in range(2):
            run.processes.stop(f"gateway-test-several-{number}")


@pytest.fixture
def clients():
    """Threads enough for all who wait."""
    with ThreadPoolExecutor(2 * WAITS) as pool:
        yield pool


def waiting(gateway):
    """How many of its callers wait."""
    return float(gateway.get("/metrics").json.partition("\ngateway_waits_in_flight ")[2].split("\n")[0])


def test_each_of_two_gateways_gives_each_caller_its_own_answer(gateways, clients):
    values = [f"{number} of gateway {which}" for number in range(200) for which in range(2)]
    calls = [
        clients.submit(gateways[place % 2].post, "task.echo", [value], Prefer="wait=30")
        for place, value in enumerate(values)
    ]
    assert [(call.result().status, call.result().json.get("result")) for call in calls] == [
        (200, value) for value in values
    ]


def test_the_waits_of_a_gateway_end_well_when_another_is_killed_amid_its_own(gateways, clients):
    stays, goes = gateways
    calls = [
        [clients.submit(gateway.post, "task.sleep", [0.2], Prefer="wait=50") for _ in range(WAITS)]
        for gateway in gateways
    ]
    eventually(lambda: min(map(waiting, gateways)) > WAITS / 2, what="that callers wait on both")
    goes.process.kill()
    assert [(call.result().status, call.result().json["result"]) for call in calls[0]] == [(200, 0.2)] * WAITS
    assert any(call.exception() for call in calls[1])
    assert stays.post("task.echo", ["after all"], Prefer="wait=30").json["result"] == "after all"
