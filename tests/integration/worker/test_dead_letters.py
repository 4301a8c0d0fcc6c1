"""The command for dead letters, on letters that became so as in life."""

import json
import os
import subprocess
import sys

import pytest
from kombu import Connection, Producer

from celerykit import database
from celerykit.dead_letters import DeadLetterError, opened
from celerykit.settings import Broker
from tests.integration.support import SERVICES, eventually

pytestmark = pytest.mark.integration

BAD = """
from celery.exceptions import Reject

@app.task(name="own.bad")
def bad(n):
    raise Reject("no use", requeue=False)

@app.task(name="own.killer")
def killer():
    os.kill(os.getpid(), 9)
"""
GOOD = "@app.task(name='own.bad', bind=True)\ndef bad(self, n):\n    return [n, self.request.headers]\n"


@pytest.fixture
def command(broker_url):
    """Run the command to its end; returns its code, its lines of JSON and what it says of errors."""

    def run(*words, url=broker_url):
        done = subprocess.run(
            [sys.executable, "-m", "celerykit.dead_letters", *words],
            env=os.environ | {"CELERYKIT_BROKER_URL": url, "PYTHONPATH": str(SERVICES)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return run


@pytest.fixture
async def letters(start, link, queue, broker):
    """The ids of three tasks that were rejected; their worker is gone."""
    worker = start(BAD, CELERYKIT_WORKER_CONCURRENCY="1")
    ids = [await link.send("own.bad", [n], headers={"own": f"h{n}"}) for n in range(3)]
    eventually(lambda: in_box(broker, queue) == 3, what="three dead letters")
    worker.end()
    return ids


@pytest.fixture
def success(database_url):
    """Await that a task has succeeded, of which the rejected run is on record; returns its result."""

    def row(task_id):
        with database.connect(database_url) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT result FROM celery_taskmeta WHERE task_id = %s AND status = 'SUCCESS'", (task_id,)
            )
            return cursor.fetchone()

    return lambda task_id: json.loads(eventually(lambda: row(task_id))[0])


def in_box(broker, queue):
    return (broker(f"{queue}.dlq") or {}).get("messages")


async def test_list_counts_and_says_since_when_of_which_tasks_and_why(command, letters, queue):
    code, (answer,), _ = command("list", queue)
    assert code == 0
    assert answer["oldest"].endswith("+00:00")
    assert answer | {"oldest": ""} == {
        "queue": queue,
        "count": 3,
        "oldest": "",
        "tasks": {"own.bad": 3},
        "reasons": {"rejected": 3},
    }


async def test_show_tells_of_each_and_takes_none(command, letters, queue, broker):
    code, shown, _ = command("show", queue)
    assert code == 0
    assert [letter["id"] for letter in shown] == letters
    assert [letter["args"] for letter in shown] == ["[0]", "[1]", "[2]"]
    assert shown[1]["headers"]["own"] == "h1"
    assert shown[1]["headers"]["x-death"][0]["queue"] == queue
    assert command("show", queue, "--id", letters[2])[1] == [shown[2] | {"headers": any_delivery(shown[2])}]
    eventually(lambda: in_box(broker, queue) == 3)


def any_delivery(letter):
    """Its headers, after it was looked at once more."""
    count = letter["headers"].get("x-delivery-count")
    return letter["headers"] | {"x-delivery-count": (count or 0) + 1}


async def test_requeue_by_id_runs_that_task_again_with_its_headers(
    command, letters, queue, broker, start, success
):
    code, (answer,), _ = command("requeue", queue, "--id", letters[1])
    assert (code, answer) == (0, {"queue": queue, "requeued": 1})
    start(GOOD)
    number, headers = success(letters[1])
    assert number == 1
    assert headers["own"] == "h1"
    assert not [name for name in headers if name.startswith(("x-death", "x-first-death", "x-delivery"))]
    eventually(lambda: in_box(broker, queue) == 2)


async def test_requeue_of_all_empties_the_box(command, letters, queue, broker, start, success):
    assert command("requeue", queue, "--all")[1] == [{"queue": queue, "requeued": 3}]
    start(GOOD)
    assert [success(task_id)[0] for task_id in letters] == [0, 1, 2]
    eventually(lambda: in_box(broker, queue) == 0)


async def test_a_requeued_message_has_all_its_deliveries_again(command, start, link, queue, broker):
    worker = start(BAD, CELERYKIT_DELIVERY_LIMIT="2", CELERYKIT_WORKER_CONCURRENCY="1")
    await link.send("own.killer")
    eventually(lambda: in_box(broker, queue) == 1, seconds=60)
    received = f'worker_task_received_total{{queue="{queue}",redelivered="%s",task="own.killer"}}'
    before = worker.metric(received % "true")
    assert command("requeue", queue, "--all")[0] == 0
    eventually(
        lambda: worker.metric(received % "true") == 2 * before and in_box(broker, queue) == 1, seconds=60
    )
    assert worker.metric(received % "false") == 2


async def test_an_id_that_is_not_there_is_named_and_the_others_go(command, letters, queue):
    code, answers, words = command("requeue", queue, "--id", letters[0], "nobody")
    assert (code, answers) == (1, [])
    assert "1 went back" in words
    assert "nobody" in words
    assert command("list", queue)[1][0]["count"] == 2


async def test_a_requeue_that_is_cut_off_between_confirm_and_acknowledgement_loses_nothing(
    letters, queue, broker, broker_url, monkeypatch
):
    monkeypatch.setattr("kombu.transport.pyamqp.Message.ack", lambda self: os_error())
    with pytest.raises(DeadLetterError, match="gone"), opened(Broker(broker_url=broker_url), queue) as box:
        box.requeue(None)
    eventually(lambda: in_box(broker, queue) == 3, what="all are still there")
    eventually(lambda: broker(queue)["messages"] == 1, what="and the first went back as well")


def os_error():
    raise OSError("gone")


async def test_what_is_no_task_is_shown_as_it_is(command, start, queue, broker, broker_url):
    worker = start()
    with Connection(broker_url) as connection:
        Producer(connection.default_channel).publish(
            b"\xffno task", routing_key=queue, content_type="text/odd", headers={"x": 1}
        )
    eventually(lambda: in_box(broker, queue) == 1, what="the worker has rejected it")
    worker.end()
    code, shown, _ = command("show", queue)
    assert code == 0
    assert "no task" in shown[-1]["body"]
    assert (shown[-1]["id"], shown[-1]["task"], shown[-1]["headers"]["x"]) == (None, None, 1)
    assert command("list", queue)[1][0]["tasks"] == {"unknown": 1}


def test_an_unknown_queue_is_an_error_that_names_it(command):
    code, answers, words = command("list", "nowhere")
    assert (code, answers) == (1, [])
    assert "'nowhere.dlq'" in words
    assert words.count("\n") == 1


def test_a_broker_that_is_away_is_an_error_in_one_line_without_its_password(command):
    code, answers, words = command("list", "default", url="amqp://kit:s3cret@127.0.0.1:1/")
    assert (code, answers) == (1, [])
    assert "refused" in words
    assert "s3cret" not in words
    assert words.count("\n") == 1


@pytest.mark.parametrize(
    "words", [("list",), ("requeue", "q"), ("requeue", "q", "--all", "--id", "x"), ("burn", "q")]
)
def test_what_makes_no_sense_ends_with_code_2(command, words):
    assert command(*words)[0] == 2


def test_a_bad_url_ends_with_code_2_and_names_the_variable(command):
    code, _, words = command("list", "q", url="nonsense")
    assert code == 2
    assert words.startswith("CELERYKIT_BROKER_URL: ")
