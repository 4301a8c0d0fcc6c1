"""The link without a broker: which replies end a wait, and who waits for what."""

import asyncio
import json
import sys
from types import SimpleNamespace

import pytest
from celery import group

from celerykit.link import Link, NotFinished, Unavailable
from celerykit.results import decode
from celerykit.settings import Settings

SETTINGS = Settings(broker_url="amqp://u:p@127.0.0.1:1/v", database_url="mysql://u:p@127.0.0.1:1/d")


@pytest.fixture
def link():
    """A link that is not started."""
    return Link(SETTINGS, queues={"t": "default"})


@pytest.fixture
def published(link, monkeypatch):
    """The messages that were handed to the broker, which confirms none of them."""
    messages = asyncio.Queue()

    def publish(message, _timeout):
        messages.put_nowait(message)
        return asyncio.get_running_loop().create_future()

    monkeypatch.setattr(link._transport, "publish", publish)
    return messages


def reply(link, message, state, result=None):
    link._on_reply(
        message.properties["correlation_id"], json.dumps({"status": state, "result": result}).encode()
    )


async def called(link, published, **options):
    """Begin a call; returns it and its message."""
    call = asyncio.create_task(link.call("t", wait=5, **options))
    return call, await published.get()


async def test_an_answer_is_as_good_as_a_confirm(link, published):
    call, message = await called(link, published)
    reply(link, message, "SUCCESS", 7)
    assert (await asyncio.wait_for(call, 1)).result == 7


@pytest.mark.parametrize("state", ["STARTED", "RETRY", "PROGRESS", "REVOKING"])
async def test_what_is_no_end_ends_no_wait(link, published, state):
    call, message = await called(link, published)
    reply(link, message, state)
    await asyncio.sleep(0)
    assert not call.done()
    reply(link, message, "SUCCESS")
    assert (await call).state == "SUCCESS"


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[]", b"null", b"{}", b'{"status": 1}', b'{"status": []}', b"\xff"]
)
async def test_a_reply_that_is_none_disturbs_nobody(link, published, body):
    call, message = await called(link, published)
    link._on_reply(message.properties["correlation_id"], body)
    link._on_reply("", body)
    reply(link, message, "SUCCESS")
    assert (await call).state == "SUCCESS"


async def test_a_second_reply_and_one_for_nobody_are_nothing(link, published):
    call, message = await called(link, published)
    reply(link, message, "SUCCESS", 1)
    reply(link, message, "FAILURE", 2)
    assert (await call).result == 1
    reply(link, message, "SUCCESS", 3)
    assert link.in_flight == 0


async def test_links_of_one_thread_have_their_own_reply_queues(link, published):
    other = Link(SETTINGS, queues={"t": "default"})
    queues = set()
    for one in (link, other, link):
        (message,) = one._envelopes.build("t", [], {}, queue="default")[1]
        queues.add(message.properties["reply_to"])
    assert len(queues) == 2


async def test_waits_that_are_ended_from_outside_are_not_finished(link, monkeypatch):
    confirmed = asyncio.get_running_loop().create_future()
    confirmed.set_result(None)
    monkeypatch.setattr(link._transport, "publish", lambda *_: confirmed)
    call = asyncio.create_task(link.call("t", wait=60))
    await asyncio.sleep(0)  # the call begins to wait before it first gives way
    link.end_waits()
    with pytest.raises(NotFinished):
        await asyncio.wait_for(call, 1)


async def test_a_publish_that_fails_while_its_caller_waits_is_told_at_once(link, monkeypatch):
    refused = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(link._transport, "publish", lambda *_: refused)
    asyncio.get_running_loop().call_soon(refused.set_exception, Unavailable("no broker"))
    with pytest.raises(Unavailable):
        await asyncio.wait_for(link.call("t", wait=60), 1)
    assert link.in_flight == 0


async def test_a_message_whose_caller_has_gone_before_it_was_written_is_taken_back(link, monkeypatch):
    unwritten = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(link._transport, "publish", lambda *_: unwritten)
    call = asyncio.create_task(link.call("t", wait=60))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert unwritten.cancelled()
    assert link.in_flight == 0


async def test_a_canvas_goes_whole_also_if_its_caller_has_gone(link, published, monkeypatch):
    waits = asyncio.Event()

    async def publish(message, _timeout):
        published.put_nowait(message)
        await waits.wait()

    monkeypatch.setattr(link._transport, "publish", publish)
    canvas = group(link.signature("t") for _ in range(3))
    call = asyncio.create_task(link.call_canvas(canvas, wait=60))
    await published.get()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    waits.set()
    await asyncio.wait_for(asyncio.gather(published.get(), published.get()), 1)


@pytest.mark.behaviour("S12")
def test_a_pickle_in_the_table_is_never_loaded():
    bomb = b"cbuiltins\nprint\n(S'executed'\ntR."
    assert decode(bomb) == f"<{len(bomb)} bytes that are not JSON>"


@pytest.fixture
def hostile(monkeypatch, tmp_path):
    """What was run of two modules that a failure may name: one can be imported, one is imported already."""
    ran = []

    class Boom(Exception):
        def __init__(self, *args):
            ran.append(args)

    monkeypatch.setitem(sys.modules, "hostile_loaded", SimpleNamespace(Boom=Boom, ran=ran))
    (tmp_path / "hostile_new.py").write_text("import hostile_loaded\nhostile_loaded.ran.append('import')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield ran
    sys.modules.pop("hostile_new", None)


@pytest.mark.parametrize("module", ["hostile_new", "hostile_loaded"])
async def test_the_exception_of_a_failure_is_data_that_nobody_imports_or_calls(
    link, published, monkeypatch, hostile, module
):
    told = {"exc_type": "Boom", "exc_message": ["bad"], "exc_module": module}

    async def rows(*_):
        return [("t1", "FAILURE", json.dumps(told).encode(), None, None)]

    monkeypatch.setattr(link.database, "execute", rows)
    call, message = await called(link, published)
    reply(link, message, "FAILURE", told)
    pushed, stored = await call, (await link.results.fetch(["t1"]))["t1"]
    assert pushed.result == stored.result == told
    assert hostile == []
