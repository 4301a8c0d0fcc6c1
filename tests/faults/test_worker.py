"""A worker, or the process in it that runs a task, is ended in the midst of its work."""

import time
from pathlib import Path

import pytest

from local.ledger import count
from tests.faults.harness import SLOTS, now
from tests.integration.support import eventually

pytestmark = pytest.mark.integration

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
HOUR = 3600


@pytest.mark.fault(
    "A worker is killed (SIGKILL), another one stays",
    "the broker gives its tasks to others; the attempts that were cut short are counted",
)
def test_worker_killed(site, fault):
    site.start()
    with fault(site, seconds=0.5, rate=12) as trial:
        site.kill_worker(site.workers[0])
    assert 0 < trial.verdict.counts.interrupted <= SLOTS


@pytest.mark.fault(
    "A process of a worker's pool is killed (SIGKILL) in the midst of a task",
    "the task is given out again at once and done; the worker makes a new process",
)
def test_child_killed(site, fault):
    site.start(workers=1)
    (worker,) = site.workers
    pool = len(site.children(worker))
    with fault(site, seconds=0.5, rate=6, before=5) as trial:
        cut = cut_short(site)
        for child in site.children(worker)[:2]:
            child.kill()
        eventually(lambda: len(site.children(worker)) == pool, what="the pool is whole again")
    trial.note(f"2 processes killed, {cut_short(site) - cut} attempts cut short")


def cut_short(site):
    """Attempts that began over five seconds ago and have no end."""
    return sum(row.ended_at is None and row.started_at < time.time() - 5 for row in site.rows())


@pytest.mark.fault(
    "The kernel kills a process of the pool that is out of memory (control group of 64 MiB)",
    "as above: the task is given out again; others are not disturbed",
)
def test_out_of_memory(site, cgroup, fault):
    site.start(workers=1)
    with fault(site, rate=6, before=5) as trial:
        _, operation = site.post("fault.grow", [str(cgroup), 128])
        told = site.ends(operation["id"])
    attempts = sum(row.task_id == operation["id"] for row in site.rows())
    trial.note(f"done at attempt {attempts}")
    assert (told["state"], told.get("result"), attempts) == ("SUCCESS", "survived", 2)


@pytest.mark.fault(
    "A task runs into its hard time limit (2 s)",
    "its caller is told `TimeLimitExceeded`, it is not run again; others are not disturbed",
)
def test_time_limit(site, fault):
    site.start(workers=1)
    with fault(site, rate=6, before=5) as trial:
        began = now()
        status, problem = site.post("fault.limited", [60], wait=15)
        trial.note(f"told after {now() - began:.1f} s")
    told = (status, problem["type"], problem["exc_type"])
    assert told == (500, "/problems/task-failed", "TimeLimitExceeded")
    assert sum(row.task_id == problem["id"] for row in site.rows()) == 1


@pytest.mark.fault(
    "A worker is told to stop (SIGTERM) in the midst of its tasks",
    "it ends them first: none is cut short, none runs twice",
)
def test_stop_mid_task(site, fault):
    site.start()
    with fault(site, seconds=0.5, rate=12) as trial:
        leaving = site.workers[0]
        site.stopped.add(leaving)
        process = site.processes()[leaving]
        began = now()
        process.terminate()
        process.wait(30)
        trial.note(f"gone after {now() - began:.1f} s")
    assert trial.verdict.counts.interrupted == 0


@pytest.mark.fault(
    "Messages are delivered twice: the connection is lost while all slots run tasks of 4 s",
    "Celery runs again what had not ended, once for each slot at most (at least once, as documented;"
    " `worker_cancel_long_running_tasks_on_connection_loss` is off)",
)
def test_duplicate_delivery(site, measured):
    site.start()
    ids = [site.post("fault.work", [4])[1]["id"] for _ in range(2 * SLOTS)]
    eventually(lambda: site.running() == 2 * SLOTS, what="all slots are busy")
    closed = site.close_connections()
    mended = now()
    for task in ids:
        assert site.ends(task)["state"] == "SUCCESS"
    eventually(site.drained, 60, "the end of second attempts")
    counts = count(ids, site.rows(), site.dead(), site.stopped)
    attempts = len(site.rows())
    measured(
        f"{closed} connections closed; {len(ids)} tasks, {counts.lost} lost, {counts.run_twice} run twice,"
        f" {attempts} attempts; all over after {now() - mended:.1f} s"
    )
    assert counts.lost == 0
    assert counts.run_twice <= 2 * SLOTS
    assert attempts <= 4 * SLOTS


@pytest.mark.fault(
    "The clock of a worker jumps an hour ahead, then two hours back",
    "tasks go on, nobody hangs",
)
def test_clock_jump(site, tmp_path, fault):
    if not FAKETIME.exists():
        pytest.skip("the Debian package faketime is not installed")
    offset = tmp_path / "offset"
    offset.write_text("+0")
    site.environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    site.launch_worker()
    site.environment = {}
    site.launch_gateway()
    site.ready()
    with fault(site, rate=6, before=8, after=8) as trial:
        for jump in (HOUR, -HOUR):
            offset.write_text(f"{jump:+d}")
            trial.flowing(8)
        offset.write_text("+0")
    jumped = {round((row.started_at - time.time()) / HOUR) for row in site.rows()}
    assert jumped == {-1, 0, 1}
