"""The link with a real broker, a real database and a real worker."""

import asyncio
import json
import time

import pytest

from celerykit.link import Link, NoQueue, NotFinished, Saturated, Unavailable
from celerykit.settings import Settings
from local.http import request
from tests.integration.support import linked

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("worker")]


async def test_a_call_returns_the_result(link):
    outcome = await link.call("task.echo", [{"a": [1, None, "ü"]}], wait=20)
    assert (outcome.state, outcome.result) == ("SUCCESS", {"a": [1, None, "ü"]})


async def test_a_call_is_answered_by_push_long_before_the_sweep(link):
    await link.call("task.echo", [1], wait=20)
    start = time.monotonic()
    await link.call("task.echo", [1], wait=20)
    assert time.monotonic() - start < 1  # the sweep looks after a wait of 3 s for the first time


async def test_a_query_runs_in_the_database(link):
    outcome = await link.call("task.query_users", [2], wait=20)
    assert [row["name"] for row in outcome.result] == ["Margaret", "Radia"]


async def test_a_failed_task_is_an_outcome_and_no_exception(link):
    outcome = await link.call("task.fail", ["boom"], wait=20)
    assert outcome.state == "FAILURE"
    assert outcome.result == {"exc_type": "ValueError", "exc_message": ["boom"], "exc_module": "builtins"}
    assert "ValueError: boom" in outcome.traceback


async def test_a_task_that_takes_longer_can_be_awaited_again(link):
    with pytest.raises(NotFinished) as unfinished:
        await link.call("task.sleep", [1.5], wait=0.2)
    outcome = await link.wait(unfinished.value.task_id, 20)
    assert (outcome.state, outcome.result) == ("SUCCESS", 1.5)


async def test_a_sent_task_is_run(link):
    task_id = await link.send("task.echo", [3])
    assert (await link.wait(task_id, 20)).result == 3


async def test_a_countdown_is_kept(link):
    task_id = await link.send("task.echo", [4], countdown=1)
    sent = time.monotonic()
    assert (await link.wait(task_id, 20)).result == 4
    assert time.monotonic() - sent > 0.9


async def test_an_unfinished_task_awaited_for_too_short_a_time_gives_none(link):
    assert await link.wait("00000000-0000-0000-0000-000000000000", 0) is None
    assert await link.wait("00000000-0000-0000-0000-000000000000", 0.2) is None


async def test_a_task_of_another_link_can_be_awaited(link, settings):
    async with linked(settings, service="other", queues={"task.sleep": "default"}) as other:
        task_id = await other.send("task.sleep", [0.5])
        assert (await link.wait(task_id, 20)).result == 0.5


async def test_a_hundred_calls_at_once_each_get_their_own_answer(link):
    outcomes = await asyncio.gather(*(link.call("task.echo", [number], wait=60) for number in range(100)))
    assert [outcome.result for outcome in outcomes] == list(range(100))
    assert link.in_flight == 0


async def test_a_call_that_is_not_stored_is_answered_and_leaves_no_row(link):
    outcome = await link.call("task.echo", [5], wait=20, store=False)
    assert outcome.result == 5
    assert await link.results.fetch([outcome.task_id]) == {}


@pytest.mark.behaviour("S19")
async def test_waits_are_bounded(settings):
    queues = {"task.sleep": "default", "task.echo": "default"}
    async with linked(settings, queues=queues, max_in_flight=1) as link:
        first = asyncio.create_task(link.call("task.sleep", [0.5], wait=20))
        await asyncio.sleep(0)
        with pytest.raises(Saturated):
            await link.call("task.echo", [1], wait=20)
        assert (await first).result == 0.5
        assert (await link.call("task.echo", [1], wait=20)).result == 1


async def test_a_queue_that_no_worker_has_declared_is_refused(settings):
    async with linked(settings, queues={"task.echo": "nobody"}) as link:
        with pytest.raises(NoQueue):
            await link.send("task.echo", [1])
        with pytest.raises(NoQueue):
            await link.call("task.echo", [1], wait=20)
        with pytest.raises(NoQueue):
            await link.send("task.echo", [1], countdown=5)
        assert link.in_flight == 0


async def test_an_expired_task_ends_revoked_and_does_not_run(link):
    running = [await link.send("task.sleep", [2]) for _ in range(2)]  # both slots
    outcome = await link.call("task.echo", [1], wait=20, expires=0.5)
    assert outcome.state == "REVOKED"
    for task_id in running:
        assert (await link.wait(task_id, 20)).state == "SUCCESS"


async def test_a_broker_that_is_away_is_told_and_leaves_no_wait(database_url):
    away = Settings(broker_url="amqp://u:p@127.0.0.1:1/v", database_url=database_url)
    link = Link(away, queues={"task.echo": "default"})
    await link.start()
    try:
        assert not link.connected
        with pytest.raises(Unavailable):
            await link.send("task.echo", [1])
        with pytest.raises(Unavailable):
            await link.call("task.echo", [1], wait=20)
        assert link.in_flight == 0
    finally:
        await link.close()


async def test_a_caller_that_leaves_frees_its_place(link):
    call = asyncio.create_task(link.call("task.sleep", [0.5], wait=20))
    await asyncio.sleep(0)  # the call begins to wait before it first gives way
    assert link.in_flight == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert link.in_flight == 0


async def test_a_result_whose_reply_was_lost_is_found_by_the_sweep(link, monkeypatch):
    monkeypatch.setattr(link._transport, "_on_reply", lambda *_: None)
    outcome = await link.call("task.echo", [6], wait=20)
    assert outcome.result == 6


async def test_the_reply_queue_is_what_the_contract_says(link, stores, vhost):
    await link.call("task.echo", [1], wait=20)
    rabbitmq = stores.rabbitmq
    status, body = request("GET", f"{rabbitmq.management}/api/queues/{vhost}", login=rabbitmq.login)
    assert status == 200
    queues = {queue["name"]: queue for queue in json.loads(body)}
    replies = [queue for name, queue in queues.items() if name.startswith("gw.reply.test.")]
    assert replies
    assert all(
        queue["type"] == "classic" and queue["durable"] and not queue["exclusive"] for queue in replies
    )
    assert queues["default"]["type"] == "quorum"
    assert queues["default"]["arguments"]["x-delivery-limit"] == 20
    assert "default.dlq" in queues


async def test_a_reply_queue_that_is_taken_away_is_made_again(link, stores, vhost, monkeypatch):
    again = asyncio.Event()
    monkeypatch.setattr(link._transport, "_on_connect", again.set)
    rabbitmq = stores.rabbitmq
    url = f"{rabbitmq.management}/api/queues/{vhost}/{link._transport.reply_queue}"
    assert request("DELETE", url, login=rabbitmq.login)[0] == 204
    await asyncio.wait_for(again.wait(), 20)
    await link.call("task.echo", [1], wait=20)
    start = time.monotonic()
    await link.call("task.echo", [1], wait=20)
    assert time.monotonic() - start < 1  # pushed: the sweep looks after a wait of 3 s for the first time
