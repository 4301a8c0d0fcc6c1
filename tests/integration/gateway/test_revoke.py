"""Revoking, with real workers of one slot each."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.support import eventually

pytestmark = pytest.mark.integration

ONE_SLOT = {"CELERYKIT_WORKER_CONCURRENCY": "1"}


@pytest.fixture(scope="module")
def gateway(start_gateway, catalogue):
    """A gateway that may end one of its tasks while it runs, and no worker."""
    tasks = {
        "task.sleep": {"queue": "default", "terminable": True},
        "task.echo": {"queue": "default"},
        "task.cpu": {"queue": "default"},
    }
    return start_gateway(catalogue=catalogue(tasks))


def running(gateway, ledger, task, args):
    """Have a task accepted and await that it runs; returns its operation."""
    accepted = gateway.post(task, args)
    eventually(lambda: ledger(accepted.json["id"]), what="the task's start")
    return accepted.headers["Location"]


def test_a_task_that_waits_never_runs_and_one_that_runs_goes_on(gateway, start_worker, ledger):
    # the second worker knows nothing of what the first one runs
    start_worker(**ONE_SLOT)
    start_worker(**ONE_SLOT)
    runs = [running(gateway, ledger, "task.sleep", [3]) for _ in range(2)]
    waits = gateway.post("task.echo", [1])
    assert gateway.delete(waits.headers["Location"]).status == 202
    refused = gateway.delete(runs[0])
    assert (refused.status, refused.json["state"], refused.json["done"]) == (202, "REVOKING", False)
    assert gateway.get(f"{runs[0]}?wait=1").json["state"] == "REVOKING"
    assert gateway.get(f"{runs[0]}?wait=20").json["result"] == 3
    told = gateway.get(waits.headers["Location"] + "?wait=20").json
    assert (told["state"], told["error"]["type"]) == ("REVOKED", "/problems/task-revoked")
    assert ledger(waits.json["id"]) == ()
    late = gateway.delete(runs[0])
    assert (late.status, late.json["state"]) == (200, "SUCCESS")


def test_with_no_worker_up_the_revocation_holds_for_those_that_start_later(gateway, start_worker, ledger):
    start_worker(**ONE_SLOT).end()
    revoked, kept = (gateway.post("task.echo", [value]) for value in (1, 2))
    assert gateway.delete(revoked.headers["Location"]).json["state"] == "REVOKING"
    start_worker(**ONE_SLOT)
    assert gateway.get(kept.headers["Location"] + "?wait=30").json["result"] == 2
    assert gateway.get(revoked.headers["Location"] + "?wait=10").json["state"] == "REVOKED"
    assert ledger(revoked.json["id"]) == ()


def test_a_task_that_may_be_terminated_ends_while_it_runs_and_its_worker_takes_the_next(
    gateway, start_worker, ledger
):
    start_worker(**ONE_SLOT)
    long = running(gateway, ledger, "task.sleep", [60])
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(gateway.get, f"{long}?wait=30")
        assert gateway.delete(f"{long}?terminate=true").status == 202
        told = waiting.result().json
    assert (told["state"], told["error"]["message"]) == ("REVOKED", "terminated")
    assert gateway.post("task.echo", [1], Prefer="wait=20").status == 200


def test_a_task_that_may_not_be_terminated_is_left_alone(gateway, start_worker, ledger):
    start_worker(**ONE_SLOT)
    busy = running(gateway, ledger, "task.cpu", [0.5])
    assert gateway.delete(f"{busy}?terminate=true").status == 403
    assert gateway.get(f"{busy}?wait=20").json["state"] == "SUCCESS"
