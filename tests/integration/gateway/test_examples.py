"""The article's styles side by side: the same rows, and what each does to the others."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.support import eventually

pytestmark = pytest.mark.integration

STYLES = ["blocking", "coroutine", "callback", "executor"]


def queries(gateway):
    """Requests under way, this one not counted."""
    return "gateway_http_requests_in_flight 2.0" in gateway.get("/metrics").json


@pytest.mark.parametrize("flag", [0, 1, 2, 3])
def test_all_styles_answer_the_same_rows(gateway, flag):
    answers = [gateway.get(f"/examples/{style}/mysql_query/{flag}") for style in STYLES]
    answers.append(gateway.get(f"/mysql_query/{flag}"))
    assert [answer.status for answer in answers] == [200] * 5
    assert all(answer.json == answers[0].json for answer in answers)
    assert all(row["flag"] == flag for row in answers[0].json)
    assert bool(answers[0].json) == (flag < 3)


@pytest.mark.parametrize("style", ["coroutine", "callback", "executor"])
def test_the_quick_route_is_answered_before_a_slow_query(gateway, style):
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(gateway.get, f"/examples/{style}/mysql_query/2?delay=2")
        eventually(lambda: queries(gateway))
        assert gateway.get("/i_want_you_now").json == "I love you"
        assert not slow.done()
        assert [row["name"] for row in slow.result().json] == ["Margaret", "Radia"]


def test_the_quick_route_is_answered_after_a_slow_query_that_blocks(gateway, database_processes):
    ended = {}

    def get(path):
        answer = gateway.get(path)
        ended[path] = time.monotonic()
        return answer

    slow, quick = "/examples/blocking/mysql_query/2?delay=2", "/i_want_you_now"
    with ThreadPoolExecutor() as pool:
        blocking = pool.submit(get, slow)
        eventually(database_processes)
        began = time.monotonic()
        assert get(quick).status == blocking.result().status == 200
    # the query had more than a second to go, through which the quick one had to wait
    assert ended[quick] - began > 1


def test_with_all_threads_busy_the_executor_is_a_503_at_once(gateway, database_processes):
    with ThreadPoolExecutor() as pool:
        path = "/examples/executor/mysql_query/2"
        busy = [pool.submit(gateway.get, f"{path}?delay=2") for _ in range(2)]
        eventually(lambda: database_processes() == 2)
        refused = gateway.get(path)
        assert (refused.status, refused.json["type"]) == (503, "/problems/threads-busy")
        assert refused.headers["Retry-After"]
        assert not any(query.done() for query in busy)
        assert [query.result().status for query in busy] == [200, 200]
    assert gateway.get(path).status == 200


def test_a_failed_task_and_a_bad_flag_are_the_same_problem_for_coroutine_and_callback(
    start_gateway, worker, catalogue
):
    limited = catalogue({"task.query_users": {"queue": "default", "timeLimitSeconds": 1}})
    gateway = start_gateway(examples="true", catalogue=limited)
    for path, status in (("/mysql_query/1?delay=9", 500), ("/mysql_query/one", 422)):
        answers = [gateway.get(f"/examples/{style}{path}") for style in ("coroutine", "callback")]
        for answer in answers:
            assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
            answer.json.pop("id", None)
        assert answers[0].json == answers[1].json


@pytest.fixture
def database_processes(database_url):
    """A function that counts the statements that sleep now."""
    from celerykit import database

    with database.connect(database_url) as connection:

        def count():
            with connection.cursor() as cursor:
                cursor.execute("SHOW FULL PROCESSLIST")
                name = database.parse(database_url)["database"]
                return sum(row[3] == name and "SLEEP" in str(row[7]) for row in cursor.fetchall())

        yield count
