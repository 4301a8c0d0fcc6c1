"""How a worker ends, is killed or loses its broker, and what becomes of its tasks."""

import os
import signal

import psutil
import pytest

from tests.integration.support import TOKEN, eventually, run_worker, started

pytestmark = pytest.mark.integration


def children(worker):
    return psutil.Process(worker.process.pid).children()


@pytest.mark.behaviour("C20")
async def test_a_worker_told_to_stop_ends_its_task_first(start_worker, link, ledger):
    worker = start_worker()
    task_id = await started(link, ledger, "task.sleep", [2])
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(30) == 0
    ((_, _, began, ended),) = ledger(task_id)
    assert ended - began >= 2
    assert (await link.wait(task_id, 5)).result == 2


@pytest.mark.behaviour("C21")
async def test_a_task_of_a_killed_worker_is_ended_by_another(start_worker, link, ledger):
    first = start_worker()
    task_id = await started(link, ledger, "task.sleep", [2])
    first.end()
    second = start_worker()
    assert (await link.wait(task_id, 30)).state == "SUCCESS"
    (killed, done) = ledger(task_id)
    assert killed[3] is None, "the first attempt has no end"
    assert done[3] is not None
    assert killed[1] != done[1]
    assert (
        second.metric('worker_task_received_total{queue="default",redelivered="true",task="task.sleep"}') == 1
    )


async def test_a_child_that_is_killed_is_counted_and_its_task_runs_again(start_worker, link, ledger):
    worker = start_worker(CELERYKIT_WORKER_CONCURRENCY="1")
    task_id = await started(link, ledger, "task.sleep", [2])
    (child,) = children(worker)
    os.kill(child.pid, signal.SIGKILL)
    assert (await link.wait(task_id, 30)).state == "SUCCESS"
    assert len(ledger(task_id)) == 2
    lost = 'worker_task_finished_total{outcome="worker_lost",queue="default",task="task.sleep"}'
    assert worker.metric(lost) == 1
    assert worker.http("GET", "/livez")[0] == 200


async def test_a_task_beyond_its_hard_limit_is_a_failure_and_counted(start_worker, link):
    worker = start_worker()
    outcome = await link.call("task.sleep", [30], wait=30, time_limit=1)
    assert outcome.state == "FAILURE"
    assert outcome.result["exc_type"] == "TimeLimitExceeded"
    timeout = 'worker_task_finished_total{outcome="timeout",queue="default",task="task.sleep"}'
    eventually(lambda: worker.metric(timeout) == 1)


@pytest.mark.own_stores
@pytest.mark.behaviour("C15")
def test_while_the_broker_is_away_a_worker_is_alive_and_not_ready(start_worker, stores):
    worker = start_worker()
    stores.rabbitmq.stop()
    try:
        eventually(lambda: worker.http("GET", "/readyz")[0] == 503, what="not ready")
        assert worker.http("GET", "/livez")[0] == 200
        assert worker.metric("worker_broker_connected") == 0
        assert worker.http("POST", "/drain", TOKEN)[0] == 503
    finally:
        stores.rabbitmq.start()
    eventually(lambda: worker.http("GET", "/readyz")[0] == 200, what="ready again")
    assert worker.metric("worker_broker_reconnects_total") == 1


@pytest.mark.own_stores
def test_a_drained_worker_stays_drained_when_it_connects_again(start_worker, stores):
    worker = start_worker()
    assert worker.http("POST", "/drain", TOKEN)[0] == 200
    stores.rabbitmq.stop()
    stores.rabbitmq.start()
    eventually(lambda: worker.metric("worker_broker_reconnects_total") == 1, what="a new connection")
    eventually(lambda: worker.http("GET", "/readyz")[0] == 503, what="empty, if there was a task left")
    report = worker.http("GET", "/readyz")[1]
    assert (report["ready"], report["draining"]) == (False, True)
    assert worker.http("POST", "/undrain", TOKEN)[0] == 200
    eventually(lambda: worker.http("GET", "/readyz")[0] == 200, what="consuming again")


def test_a_drain_that_nobody_repeats_ends_by_itself(start_worker):
    worker = start_worker(CELERYKIT_DRAIN_SECONDS="7")
    assert worker.http("POST", "/drain", TOKEN)[0] == 200
    eventually(lambda: worker.http("GET", "/readyz")[0] == 503, what="empty, if there was a task left")
    eventually(lambda: worker.http("GET", "/readyz")[0] == 200, seconds=30, what="consuming again")


async def test_tasks_of_ones_own_are_loaded_by_the_name_of_their_module(start_own, link):
    start_own("@app.task(name='own.double')\ndef double(n):\n    return 2 * n\n")
    assert (await link.call("own.double", [21], wait=20)).result == 42


@pytest.mark.parametrize(
    ("variable", "value", "right"),
    [
        ("CELERYKIT_BROKER_URL", "nonsense", "amqp://USER:PASSWORD@HOST:PORT"),
        ("CELERYKIT_WORKER_CONCURRENCY", "0", ">= 1"),
        ("CELERYKIT_WORKER_POOL_TYPE", "solo", "prefork"),
        ("CELERYKIT_WORKER_TASK_MODULES", "no.such.module", "no.such.module"),
    ],
)
def test_a_wrong_setting_ends_the_worker_with_code_2_and_one_line(variable, value, right):
    done = run_worker(**{variable: value})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(variable + ": ")
    assert right in line
