"""A worker, or the process in it that runs a task, is ended in the midst of its work."""

import time
from pathlib import Path

import pytest

from local.ledger import count
from tests.faults.harness import SLOTS, flowing, now
from tests.faults.load import Load
from tests.integration.support import eventually

pytestmark = pytest.mark.integration

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
CGROUPS = Path("/sys/fs/cgroup")
HOUR = 3600


@pytest.mark.fault(
    "A worker is killed (SIGKILL), another one stays",
    "the broker gives its tasks to others; the attempts that were cut short are counted",
)
def test_worker_killed(site, measured):
    site.start()
    with Load(site.url, seconds=0.5, rate=12) as load:
        flowing(load)
        site.kill_worker(site.workers[0])
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(verdict)
    verdict.check()
    assert 0 < verdict.counts.interrupted <= SLOTS


@pytest.mark.fault(
    "A process of a worker's pool is killed (SIGKILL) in the midst of a task",
    "the task is given out again at once and done; the worker makes a new process",
)
def test_child_killed(site, measured):
    site.start(workers=1)
    with Load(site.url, seconds=0.5, rate=6) as load:
        flowing(load, 5)
        (worker,) = site.workers
        began = len(site.children(worker))
        cut = cut_short(site)
        for child in site.children(worker)[:2]:
            child.kill()
        mended = now()
        flowing(load)
        eventually(lambda: len(site.children(worker)) == began, what="the pool is whole again")
    verdict = site.judge(load, mended=mended)
    measured(f"2 processes killed, {cut_short(site) - cut} attempts cut short; {verdict}")
    verdict.check()


def cut_short(site):
    """Attempts that began over five seconds ago and have no end."""
    return sum(row.ended_at is None and row.started_at < time.time() - 5 for row in site.rows())


@pytest.fixture
def cgroup(site):
    """A control group of 64 MiB."""
    v1 = CGROUPS / "memory"
    folder = (v1 if v1.is_dir() else CGROUPS) / site.name
    try:
        folder.mkdir()
        limit = folder / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")
        limit.write_text(str(64 * 2**20))
    except OSError as error:
        pytest.skip(f"no control group may be made here: {error}")
    yield folder
    eventually(lambda: not (folder / "cgroup.procs").read_text(), what="the control group is empty")
    folder.rmdir()


@pytest.mark.fault(
    "The kernel kills a process of the pool that is out of memory (control group of 64 MiB)",
    "as above: the task is given out again; others are not disturbed",
)
def test_out_of_memory(site, cgroup, measured):
    site.start(workers=1)
    with Load(site.url, rate=6) as load:
        flowing(load, 5)
        status, operation = site.post("fault.grow", [str(cgroup), 128])
        assert status == 202
        told = site.ends(operation["id"])
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    attempts = [row for row in site.rows() if row.task_id == operation["id"]]
    measured(f"done at attempt {len(attempts)}; {verdict}")
    assert (told["state"], told.get("result"), len(attempts)) == ("SUCCESS", "survived", 2)
    verdict.check()


@pytest.mark.fault(
    "A task runs into its hard time limit (2 s)",
    "its caller is told `TimeLimitExceeded`, it is not run again; others are not disturbed",
)
def test_time_limit(site, measured):
    site.start(workers=1)
    with Load(site.url, rate=6) as load:
        flowing(load, 5)
        began = now()
        status, problem = site.post("fault.limited", [60], wait=15)
        told = now() - began
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(f"told after {told:.1f} s; {verdict}")
    assert (status, problem["type"], problem["exc_type"]) == (
        500,
        "/problems/task-failed",
        "TimeLimitExceeded",
    )
    assert sum(row.task_id == problem["id"] for row in site.rows()) == 1
    verdict.check()


@pytest.mark.fault(
    "A worker is told to stop (SIGTERM) in the midst of its tasks",
    "it ends them first: none is cut short, none runs twice",
)
def test_stop_mid_task(site, measured):
    site.start()
    with Load(site.url, seconds=0.5, rate=12) as load:
        flowing(load)
        leaving = site.workers[0]
        process = site.run.processes.find(leaving)
        site.stopped.add(leaving)
        began = now()
        process.terminate()
        process.wait(30)
        took = now() - began
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(f"gone after {took:.1f} s; {verdict}")
    verdict.check()
    assert verdict.counts.interrupted == 0


@pytest.mark.fault(
    "Messages are delivered twice: the connection is lost while all slots run tasks of 4 s",
    "Celery runs again what had not ended, once for each slot at most (at least once, as documented;"
    " `worker_cancel_long_running_tasks_on_connection_loss` is off)",
)
def test_duplicate_delivery(site, measured):
    site.start()
    eventually(lambda: len(site.broker.connections()) >= 6, what="the API knows the connections")
    ids = [site.post("fault.work", [4])[1]["id"] for _ in range(2 * SLOTS)]
    eventually(lambda: site.running() == 2 * SLOTS, what="all slots are busy")
    closed = site.broker.close_connections()
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
def test_clock_jump(site, tmp_path, measured):
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
    with Load(site.url, rate=6) as load:
        flowing(load, 10)
        for jump in (HOUR, -HOUR):
            offset.write_text(f"{jump:+d}")
            flowing(load, 10)
        offset.write_text("+0")
        mended = now()
        flowing(load, 10)
    verdict = site.judge(load, mended=mended)
    jumped = {round((row.started_at - time.time()) / HOUR) for row in site.rows()}
    measured(verdict)
    assert jumped == {-1, 0, 1}
    verdict.check()
