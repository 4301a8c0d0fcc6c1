"""Workers that know nothing of the kit, behind the gateway."""

import pytest

from tests.integration.support import PlainWorker, eventually

pytestmark = pytest.mark.integration

TASKS = ("plain.add", "plain.fail", "plain.sleep")


@pytest.fixture(scope="module")
def gateway(start_gateway, catalogue, tmp_path_factory, broker_url):
    """A gateway whose catalogue calls a queue foreign, and one plain worker there."""
    worker = PlainWorker(tmp_path_factory.mktemp("plain"), broker_url, "theirs")
    yield start_gateway(catalogue=catalogue({name: {"queue": "theirs", "foreign": True} for name in TASKS}))
    worker.end()


def test_a_foreign_worker_answers_whoever_waits(gateway):
    answer = gateway.post("plain.add", [2, 3], Prefer="wait=20")
    assert (answer.status, answer.json["result"]) == (200, 5)
    failed = gateway.post("plain.fail", Prefer="wait=20")
    assert (failed.status, failed.json["exc_type"]) == (500, "KeyError")


def test_an_accepted_foreign_task_can_be_asked_for_later_at_any_gateway(gateway, start_gateway):
    other = start_gateway()
    at_once = gateway.post("plain.add", [2, 3])
    after_a_wait = gateway.post("plain.sleep", [1.5], Prefer="wait=1")
    assert (at_once.status, after_a_wait.status) == (202, 202)
    for accepted, result in ((at_once, 5), (after_a_wait, 1.5)):
        told = other.get(accepted.headers["Location"] + "?wait=20").json
        assert (told["state"], told["result"]) == ("SUCCESS", result)


def test_an_accepted_foreign_task_that_fails_tells_its_error(gateway):
    accepted = gateway.post("plain.fail")
    told = gateway.get(accepted.headers["Location"] + "?wait=20").json
    assert (told["state"], told["error"]["exc_type"], told["error"]["message"]) == (
        "FAILURE",
        "KeyError",
        "plain",
    )


def test_a_foreign_task_that_waits_can_be_revoked(gateway):
    gateway.post("plain.sleep", [2])
    waiting = gateway.post("plain.add", [1, 1]).headers["Location"]
    assert gateway.delete(waiting).json["state"] == "REVOKING"
    assert eventually(lambda: gateway.get(f"{waiting}?wait=5").json["state"] == "REVOKED")
