"""A fleet that knows nothing of the kit: an unmodified Celery app with `rpc://`, on a classic queue."""

import os
import subprocess
import sys

import pytest

from celerykit.link import Link, NoQueue
from tests.integration.support import eventually

pytestmark = pytest.mark.integration

TASKS = """
import os
from celery import Celery
app = Celery("tasks", broker=os.environ["BROKER"], backend="rpc://")

@app.task
def add(x, y):
    return x + y

@app.task
def fail():
    raise KeyError("plain")
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, broker_url):
    """One such worker, started by hand as its authors do."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "tasks.py").write_text(TASKS)
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-Q", "foreign", "-c1", "-lINFO"],
            cwd=folder,
            env=os.environ | {"BROKER": broker_url},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        eventually(lambda: " ready." in log.read_text(), what="the foreign worker")
        yield
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


@pytest.fixture
async def link(settings):
    """A link with a foreign route."""
    queues = {"tasks.add": "foreign", "tasks.fail": "foreign", "tasks.nowhere": "misspelt"}
    link = Link(settings, queues=queues, foreign=["foreign", "misspelt"])
    await link.start()
    yield link
    await link.close()


@pytest.mark.usefixtures("fleet")
async def test_a_foreign_worker_answers(link):
    assert (await link.call("tasks.add", [2, 3], wait=20)).result == 5


@pytest.mark.usefixtures("fleet")
async def test_a_foreign_failure_is_an_outcome(link):
    outcome = await link.call("tasks.fail", wait=20)
    assert (outcome.state, outcome.result["exc_type"]) == ("FAILURE", "KeyError")


async def test_a_misspelt_foreign_queue_is_refused_and_not_made(link):
    with pytest.raises(NoQueue):
        await link.send("tasks.nowhere")
