"""What becomes of a message that no worker survives; the limit is low here, so this has queues of its own."""

import json

import pytest

from local.http import request
from tests.integration.support import eventually

pytestmark = pytest.mark.integration


async def test_a_message_that_kills_every_worker_ends_among_the_dead_letters(start_own, link, stores, vhost):
    start_own(
        "@app.task(name='own.die')\ndef die():\n    os.kill(os.getpid(), 9)\n",
        CELERYKIT_WORKER_CONCURRENCY="1",
        CELERYKIT_DELIVERY_LIMIT="2",
    )
    await link.send("own.die")
    rabbitmq = stores.rabbitmq
    url = f"{rabbitmq.management}/api/queues/{vhost}/default.dlq"
    eventually(
        lambda: json.loads(request("GET", url, login=rabbitmq.login)[1]).get("messages") == 1,
        seconds=60,
        what="the message among the dead letters",
    )
