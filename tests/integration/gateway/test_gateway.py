"""The gateway with a real broker, database and worker."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = pytest.mark.integration


def eventually(condition, seconds=40):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)
    return value


def test_a_task_is_answered_with_its_result(gateway):
    value = {"text": "Grüße", "list": [1, 2.5, None, True]}
    answer = gateway.post("task.echo", [value], Prefer="wait=20")
    assert (answer.status, answer.json["state"], answer.json["result"]) == (200, "SUCCESS", value)


def test_an_accepted_task_can_be_waited_for_later(gateway):
    accepted = gateway.post("task.echo", [7])
    assert (accepted.status, accepted.json["done"]) == (202, False)
    ended = gateway.get(accepted.headers["Location"] + "?wait=20")
    assert ended.status == 200
    assert (ended.json["task"], ended.json["state"], ended.json["result"]) == ("task.echo", "SUCCESS", 7)
    assert ended.json["acceptedAt"] == accepted.json["acceptedAt"]


def test_a_task_that_outlasts_its_wait_is_accepted_and_ends_later(gateway):
    began = time.monotonic()
    accepted = gateway.post("task.sleep", [2.5], Prefer="wait=1")
    assert 0.9 < time.monotonic() - began < 2.5
    assert accepted.status == 202
    assert gateway.get(accepted.headers["Location"] + "?wait=20").json["result"] == 2.5


def test_a_failed_task_is_a_500_when_waited_for_and_an_error_of_its_operation(gateway):
    failed = gateway.post("task.fail", ["on purpose"], Prefer="wait=20")
    assert failed.status == 500
    assert failed.headers["Content-Type"] == "application/problem+json"
    assert (failed.json["exc_type"], failed.json["message"]) == ("ValueError", "on purpose")
    operation = gateway.post("task.fail", ["on purpose"]).headers["Location"]
    told = gateway.get(f"{operation}?wait=20")
    assert (told.status, told.json["state"], told.json["done"]) == (200, "FAILURE", True)
    assert told.json["error"]["message"] == "on purpose"


def test_while_a_slow_query_runs_the_quick_route_answers_before_it(gateway):
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(gateway.get, "/mysql_query/2?delay=2")
        time.sleep(0.3)
        began = time.monotonic()
        assert gateway.get("/i_want_you_now").status == 200
        assert time.monotonic() - began < 0.5
        assert not slow.done()
        rows = slow.result()
    assert rows.status == 200
    assert [(row["name"], row["flag"]) for row in rows.json] == [("Margaret", 2), ("Radia", 2)]


def test_an_unknown_task_and_an_unknown_operation_are_404s(gateway):
    assert gateway.post("task.none").status == 404
    assert gateway.get("/v1/operations/00000000-0000-4000-8000-000000000000").status == 404


def test_one_gateway_tells_the_operations_of_another(gateway, start_gateway):
    other = start_gateway()
    location = gateway.post("task.sleep", [1.5]).headers["Location"]
    assert other.get(location).json["state"] == "PENDING"
    ended = other.get(f"{location}?wait=20")
    assert (ended.json["state"], ended.json["result"]) == ("SUCCESS", 1.5)


def test_a_delay_that_makes_the_way_to_a_queue_too_long_is_a_422_that_names_it(
    start_gateway, catalogue, worker
):
    queue = "q" * 251  # as long as one may be; a delay puts 56 letters before it
    gateway = start_gateway(catalogue=catalogue({"task.far": {"queue": queue}}))
    for prefer in ({"Prefer": "wait=5"}, {}):
        body = {"options": {"countdown": 5}}
        refused = gateway.request("POST", "/v1/tasks/task.far", body, **prefer)
        assert refused.status == 422
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json["field"] == "options.countdown"
        assert "too long for a delay" in refused.json["detail"]
        assert gateway.post("task.far", **prefer).json["type"] == "/problems/no-queue"


def test_a_gateway_told_to_stop_answers_those_who_wait(start_gateway, worker):
    leaving = start_gateway()
    process = leaving.process
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(leaving.post, "task.sleep", [1.5], Prefer="wait=20")
        eventually(lambda: "gateway_waits_in_flight 1.0" in leaving.get("/metrics").json)
        process.terminate()
        answer = waiting.result()
    assert (answer.status, answer.json["result"]) == (200, 1.5)
    process.wait(10)


def test_a_gateway_told_to_stop_tells_those_who_wait_too_long_where_to_ask(start_gateway, gateway):
    leaving = start_gateway(shutdown_seconds="1")
    process = leaving.process
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(leaving.post, "task.sleep", [4], Prefer="wait=30")
        eventually(lambda: "gateway_waits_in_flight 1.0" in leaving.get("/metrics").json)
        process.terminate()
        answer = waiting.result()
    assert answer.status == 202
    process.wait(10)
    assert gateway.get(answer.headers["Location"] + "?wait=20").json["result"] == 4


def test_an_idle_gateway_takes_less_than_96_mib(gateway):
    assert gateway.process.memory_info().rss < 96 * 2**20


@pytest.mark.own_stores
def test_without_the_broker_it_is_a_503_and_with_it_again_all_is_well(gateway, stores):
    stores.rabbitmq.stop()
    try:
        eventually(lambda: gateway.get("/readyz").status == 503)
        assert gateway.get("/readyz").json == {
            "ready": False,
            "broker": False,
            "database": True,
            "stopping": False,
        }
        for prefer in ("wait=1", "respond-async"):
            refused = gateway.post("task.echo", [1], Prefer=prefer)
            assert refused.status == 503
            assert refused.headers["Retry-After"]
        for style in ("coroutine", "callback"):
            refused = gateway.get(f"/examples/{style}/mysql_query/1")
            assert (refused.status, refused.json["type"]) == (503, "/problems/broker-unavailable")
        assert gateway.get("/i_want_you_now").status == 200
    finally:
        stores.rabbitmq.start()
    eventually(lambda: gateway.get("/readyz").status == 200)
    assert gateway.post("task.echo", [2], Prefer="wait=50").status == 200


@pytest.mark.own_stores
def test_without_the_database_nothing_is_accepted(gateway, stores):
    stores.mysql.stop()
    try:
        assert gateway.get("/readyz").json["database"] is False
        assert gateway.post("task.echo", [1]).status == 503
        assert gateway.get("/v1/operations/00000000-0000-4000-8000-000000000000").status == 503
    finally:
        stores.mysql.start()
    assert gateway.post("task.echo", [1]).status == 202
