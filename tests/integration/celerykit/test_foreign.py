"""A fleet that knows nothing of the kit: an unmodified Celery app with `rpc://`, on a classic queue."""

import pytest

from celerykit.link import NoQueue
from tests.integration.support import PlainWorker, linked

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, broker_url):
    """One such worker."""
    worker = PlainWorker(tmp_path_factory.mktemp("foreign"), broker_url, "foreign")
    yield
    worker.end()


@pytest.fixture
async def link(settings):
    """A link with a foreign route."""
    queues = {"plain.add": "foreign", "plain.fail": "foreign", "plain.nowhere": "misspelt"}
    async with linked(settings, queues=queues, foreign=["foreign", "misspelt"]) as link:
        yield link


@pytest.mark.usefixtures("fleet")
async def test_a_foreign_worker_answers(link):
    assert (await link.call("plain.add", [2, 3], wait=20)).result == 5


@pytest.mark.usefixtures("fleet")
async def test_a_foreign_failure_is_an_outcome(link):
    outcome = await link.call("plain.fail", wait=20)
    assert (outcome.state, outcome.result["exc_type"]) == ("FAILURE", "KeyError")


async def test_a_misspelt_foreign_queue_is_refused_and_not_made(link):
    with pytest.raises(NoQueue):
        await link.send("plain.nowhere")
