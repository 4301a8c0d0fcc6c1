"""Messages that no worker survives or understands."""

import json
import time
import uuid

import pytest

from tests.faults.harness import SLOTS, now
from tests.integration.support import eventually

pytestmark = pytest.mark.integration

MB = 10**6


@pytest.mark.fault(
    "A poison message: its task kills whoever runs it (delivery limit 3)",
    "after the limit it is among the dead letters; others are not disturbed",
)
def test_poison(site, fault):
    site.environment = {"CELERYKIT_DELIVERY_LIMIT": "3"}
    site.start(workers=1)
    with fault(site, rate=6, before=5) as trial:
        dies(site, trial, "fault.poison", [])


def dies(site, trial, task, args):
    """See a task to its end among the dead letters."""
    began = now()
    code, operation = site.post(task, args)
    assert code == 202
    eventually(lambda: operation["id"] in site.dead(), 60, "the dead letter")
    attempts = sum(row.task_id == operation["id"] for row in site.rows())
    trial.note(f"dead after {attempts} attempts and {now() - began:.1f} s")
    assert attempts == 4
    eventually(lambda: site.broker.depth("default.dlq") == 1, what="one dead letter")


@pytest.mark.fault(
    "The same by its hunger: each time the kernel kills it, as it outgrows its control group of 64 MiB",
    "the same",
)
def test_hungry_poison(site, cgroup, fault):
    site.environment = {"CELERYKIT_DELIVERY_LIMIT": "3"}
    site.start(workers=1)
    with fault(site, rate=6, before=5) as trial:
        dies(site, trial, "fault.grow", [str(cgroup), 128, True])


@pytest.mark.fault(
    "A request of 10 MB, results of 10 MB and of 20 MB, which is more than MySQL takes at once"
    " (`max_allowed_packet`)",
    "413 for the request; the first result arrives and is stored, the other ends as a failure that says why;"
    " others are not disturbed",
)
def test_large(site, fault):
    site.start(workers=1)
    with fault(site, rate=6, before=5) as trial:
        code, problem = site.post("fault.work", ["x" * 10 * MB])
        assert (code, problem["type"]) == (413, "/problems/body-too-large")
        began = now()
        code, body = site.post("fault.work", [0, 10 * MB], wait=15)
        trial.note(f"10 MB after {now() - began:.1f} s")
        assert (code, len(body["result"])) == (200, 10 * MB)
        began = now()
        code, problem = site.post("fault.work", [0, 20 * MB], wait=15)
        trial.note(f"20 MB: `{problem['message']}` after {now() - began:.1f} s")
        assert (code, problem["type"], problem["exc_type"]) == (500, "/problems/task-failed", "EncodeError")


def headers(task="fault.work", **more):
    return {"lang": "py", "task": task, "id": str(uuid.uuid4()), **more}


BODY = json.dumps([[0.1], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
MALFORMED = {
    "no headers, not JSON": ("{nonsense", {}, JSON),
    "no headers, JSON of another shape": ('{"hello": 1}', {}, JSON),
    "no headers, a pickle": ("gASVAAAAAA==", {}, {**JSON, "content_type": "application/x-python-serialize"}),
    "an unknown task": (BODY, headers("fault.unknown"), JSON),
    "a task, not JSON": ("{nonsense", headers(), JSON),
    "a task, a pickle": (BODY, headers(), {**JSON, "content_type": "application/x-python-serialize"}),
    "a task, a body of another shape": ('{"hello": 1}', headers(), JSON),
    "a task, an unknown content type": (BODY, headers(), {**JSON, "content_type": "text/nonsense"}),
    "a task, an eta that is no time": (BODY, headers(eta="tomorrow"), JSON),
}


DELAY = 5  # seconds


@pytest.mark.fault(
    f"A flood of tasks that are due in an hour, twenty for each slot, and of others due in {DELAY} s",
    "those without a delay do not wait for them; those that are due start, none before its time",
)
def test_delayed_flood(site, fault):
    site.start(workers=1)
    with fault(site, rate=6, before=8) as trial:
        calm = slowest(trial.load, since=0)
        began = now()
        later = [site.post("fault.work", [0], countdown=3600)[0] for _ in range(20 * SLOTS)]
        due = {}
        for _ in range(10 * SLOTS):
            at = time.time() + DELAY
            due[site.post("fault.work", [0], countdown=DELAY)[1]["id"]] = at
        eventually(lambda: due.keys() <= starts(site).keys(), what="all that are due have started")
    flooded = slowest(trial.load, since=began)
    late = [started - due[task] for task, started in starts(site).items() if task in due]
    trial.note(f"slowest result {calm:.1f} s before, {flooded:.1f} s meanwhile")
    trial.note(f"those due started {min(late):.1f} to {max(late):.1f} s after their time")
    assert flooded < 3
    assert min(late) >= 0
    assert set(later) == {202}
    eventually(lambda: site.broker.delayed() == len(later), what="the broker has all that are due later")


def slowest(load, since):
    """Seconds of the slowest answer with a result, of those asked for since a moment."""
    return max(a.ended - a.began for a in load.answers if a.status == 200 and a.began > since)


def starts(site):
    return {row.task_id: row.started_at for row in site.rows()}


@pytest.mark.fault(
    "Malformed messages are published past the gateway: not JSON, a pickle, an unknown task, a wrong body",
    "each ends among the dead letters or as a failure with a row; the worker lives, others are not disturbed",
)
@pytest.mark.behaviour("S12")
def test_malformed(site, fault):
    site.start(workers=1)
    programs = site.processes()
    with fault(site, rate=6, before=5) as trial:
        for body, head, properties in MALFORMED.values():
            site.broker.publish(body, head, **properties)
        eventually(lambda: dead_or_failed(site) == len(MALFORMED), what="all of them have ended")
    dead = site.broker.depth("default.dlq")
    trial.note(f"{dead} among the dead letters, {len(MALFORMED) - dead} failed with a row")
    assert site.processes() == programs


def dead_or_failed(site):
    """How many messages are; one that is both counts once."""
    failed = site.administer(
        f"SELECT task_id FROM `{site.database}`.celery_taskmeta WHERE status = 'FAILURE'"
    )
    return site.broker.depth("default.dlq") + len({task for (task,) in failed} - site.dead())
