"""The transport on a broker of several nodes, which is made up here."""

import asyncio
from types import SimpleNamespace

import pytest
from aiormq.exceptions import ChannelNotFoundEntity

from celerykit import transport
from celerykit.settings import Broker
from celerykit.transport import Transport


class Node:
    """What the transport asks of a connection, of a broker that has lost the node of the queues `lost`."""

    lost: set[str] = set()  # noqa: RUF012  # each test has its own

    def __init__(self, *_, **__):
        self.closing = asyncio.get_running_loop().create_future()
        self.on_consumer_cancel_callbacks = set()

    async def connect(self):
        pass

    async def close(self):
        pass

    async def channel(self, **_):
        return self

    async def queue_declare(self, name, **_):
        if name in self.lost:
            raise ChannelNotFoundEntity("home node of durable queue is down or inaccessible")

    async def basic_consume(self, *_, **__):
        Node.consuming = self


@pytest.fixture
def connects():
    """Gets an item each time that the transport has connected."""
    return asyncio.Queue()


@pytest.fixture
async def link(monkeypatch, connects):
    """A transport that connects to a made-up broker."""
    monkeypatch.setattr(transport, "Connection", Node)
    monkeypatch.setattr(transport, "BACKOFF", (0.0, 0.0))
    made = Transport(
        Broker(broker_url="amqp://u:p@127.0.0.1:1/v"),
        "gw.reply.t",
        lambda *_: None,
        lambda: connects.put_nowait(None),
    )
    yield made
    await made.close()


async def test_a_reply_queue_whose_node_is_away_gives_way_to_another(link, connects, monkeypatch):
    first = link.reply_queue
    monkeypatch.setattr(Node, "lost", {first})
    link.start()
    await asyncio.wait_for(connects.get(), 5)
    assert link.reply_queue != first
    assert link.reply_queue.startswith("gw.reply.t.")


async def test_a_reply_queue_that_is_there_is_kept_over_a_lost_connection(link, connects):
    first = link.reply_queue
    link.start()
    await asyncio.wait_for(connects.get(), 5)
    link._connection.closing.set_result(None)
    await asyncio.wait_for(connects.get(), 5)
    assert link.reply_queue == first


async def test_a_consumer_that_the_broker_cancels_is_made_anew(link, connects):
    link.start()
    await asyncio.wait_for(connects.get(), 5)
    for callback in Node.consuming.on_consumer_cancel_callbacks:
        callback(SimpleNamespace())
    await asyncio.wait_for(connects.get(), 5)
