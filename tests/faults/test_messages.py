"""Messages that no worker survives or understands."""

import json
import uuid

import pytest

from tests.faults.harness import flowing, now
from tests.faults.load import Load
from tests.integration.support import eventually

pytestmark = pytest.mark.integration


@pytest.mark.fault(
    "A poison message: its task kills whoever runs it (delivery limit 3)",
    "after the limit it is among the dead letters; others are not disturbed",
)
def test_poison(site, measured):
    site.environment = {"CELERYKIT_DELIVERY_LIMIT": "3"}
    site.start(workers=1)
    with Load(site.url, rate=6) as load:
        flowing(load, 5)
        began = now()
        status, operation = site.post("fault.poison")
        assert status == 202
        eventually(lambda: operation["id"] in site.dead(), 60, "the dead letter")
        took = now() - began
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    attempts = sum(row.task_id == operation["id"] for row in site.rows())
    measured(f"dead after {attempts} attempts and {took:.1f} s; {verdict}")
    verdict.check()
    assert site.broker.depth("default.dlq") == 1
    assert attempts == 4


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


@pytest.mark.fault(
    "Malformed messages are published past the gateway: not JSON, a pickle, an unknown task, a wrong body",
    "each ends among the dead letters or as a failure with a row; the worker lives, others are not disturbed",
)
def test_malformed(site, measured):
    site.start(workers=1)
    (worker,) = site.workers
    pid = site.run.processes.find(worker).pid
    fates = {}
    with Load(site.url, rate=6) as load:
        flowing(load, 5)
        for name, (body, head, properties) in MALFORMED.items():
            had = site.broker.depth("default.dlq")
            site.broker.publish(body, head, **properties)
            fates[name] = fate(site, had, head.get("id"))
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    dead = sum(word == "dead" for word in fates.values())
    measured(f"{dead} of {len(fates)} among the dead letters, the others failed with a row; {verdict}")
    assert set(fates.values()) <= {"dead", "failed"}, [name for name, word in fates.items() if word == "gone"]
    verdict.check()
    assert site.run.processes.find(worker).pid == pid


def fate(site, had, task):
    """What became of a message: "dead", "failed", or "gone" if nothing tells of it."""

    def known():
        if task and site.administer(
            f"SELECT 1 FROM `{site.database}`.celery_taskmeta WHERE task_id = '{task}' AND status = 'FAILURE'"
        ):
            return "failed"
        return "dead" if site.broker.depth("default.dlq") > had else None

    try:
        return eventually(known, 8)
    except AssertionError:
        return "gone"
