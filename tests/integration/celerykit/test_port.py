"""A worker's own port: what it tells, and how a worker drains."""

import pytest

from local.http import request
from tests.integration.support import TOKEN, eventually, run_worker, started

pytestmark = pytest.mark.integration


@pytest.fixture
def purged(stores, vhost):
    """Nothing is left in the queue for the next test."""
    yield
    rabbitmq = stores.rabbitmq
    request("DELETE", f"{rabbitmq.management}/api/queues/{vhost}/default/contents", login=rabbitmq.login)


def test_a_ready_worker_tells_its_state(worker):
    status, report = worker.http("GET", "/readyz")
    assert status == 200
    assert report["ready"]
    assert not report["draining"]
    assert (report["active"], report["reserved"], report["slots"]) == (0, 0, 2)
    assert report["worker"].startswith("default-")
    assert worker.http("GET", "/livez") == (200, {"alive": True})


def test_an_unknown_path_is_a_404_that_names_the_known_ones(worker):
    assert worker.http("GET", "/")[0] == 404
    assert "/drain" in worker.http("POST", "/")[1]["error"]


@pytest.mark.parametrize("token", [None, "wrong", ""])
def test_drain_asks_for_the_token(worker, token):
    assert worker.http("POST", "/drain", token)[0] == 401
    assert worker.http("GET", "/readyz")[0] == 200


async def test_what_tasks_did_is_counted(worker, link):
    await link.call("task.echo", [1], wait=20)
    await link.call("task.fail", ["x"], wait=20)

    def counted(name, task, outcome=""):
        labels = f'{{{outcome}queue="default",task="{task}"}}'
        return worker.metric(f"worker_task_{name}{labels}")

    eventually(lambda: counted("finished_total", "task.echo", 'outcome="success",') >= 1)
    eventually(lambda: counted("finished_total", "task.fail", 'outcome="failure",') >= 1)
    assert counted("runtime_seconds_count", "task.echo") >= 1
    assert 0 <= counted("queue_wait_seconds_sum", "task.echo") < 60
    assert worker.metric('worker_slots{queue="default"}') == 2
    assert worker.metric("worker_consumer_registered") == 1
    assert worker.metric('worker_replies_total{outcome="pushed"}') >= 2


async def test_a_draining_worker_ends_its_task_and_takes_no_more(worker, link, ledger, purged):
    running = await started(link, ledger, "task.sleep", [1.5])
    status, report = worker.http("POST", "/drain", TOKEN)
    assert (status, report["draining"], report["ready"], report["active"]) == (200, True, False, 1)
    waiting = await link.send("task.echo", [1])
    assert worker.http("GET", "/readyz")[0] == 200, "Kubernetes must not take it for one that may go"
    assert worker.http("GET", "/livez")[0] == 200
    assert worker.http("POST", "/drain", TOKEN)[0] == 200, "a second drain changes nothing"
    assert (await link.wait(running, 20)).state == "SUCCESS"
    eventually(lambda: worker.http("GET", "/readyz")[1]["reserved"] == 0, what="the worker is empty")
    assert worker.http("GET", "/readyz")[0] == 503
    assert ledger(waiting) == ()

    status, report = worker.http("POST", "/undrain", TOKEN)
    assert (status, report["draining"]) == (200, False)
    assert (await link.wait(waiting, 20)).state == "SUCCESS"


def test_a_taken_port_ends_the_worker_with_code_2(worker):
    done = run_worker(CELERYKIT_WORKER_PORT=str(worker.port), CELERYKIT_WORKER_HOST="127.0.0.1")
    assert done.returncode == 2
    assert f"CELERYKIT_WORKER_PORT: cannot open 127.0.0.1:{worker.port}" in done.stderr + done.stdout
