"""Chains, groups, chords, retries and replacements through the link, as Celery's own canvas writes them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from celery import chain, chord, group

from celerykit.link import Unavailable

SOURCE = """
from celery import chain, group
from celery.exceptions import Ignore, Reject

@app.task(name="own.add")
def add(*numbers):
    return sum(numbers)

@app.task(name="own.sum")
def total(numbers):
    return sum(numbers)

@app.task(name="own.double", bind=True)
def double(self, n):
    return 2 * n

@app.task(name="own.retry", bind=True, max_retries=3)
def retry(self, times):
    if self.request.retries < times:
        raise self.retry(countdown=0)
    return self.request.retries

@app.task(name="own.retry_soon", bind=True)
def retry_soon(self):
    if not self.request.retries:
        raise self.retry(countdown=0.5)
    return self.request.retries

@app.task(name="own.give_back", bind=True)
def give_back(self):
    if not self.request.delivery_info["redelivered"]:
        raise Reject(requeue=True)
    return "the second time"

@app.task(name="own.replace", bind=True)
def replace(self, n):
    return self.replace(double.s(n))

@app.task(name="own.replace_later", bind=True)
def replace_later(self, n):
    return self.replace(double.s(n).set(countdown=3))

@app.task(name="own.replace_by_chain", bind=True)
def replace_by_chain(self, n):
    return self.replace(chain(double.s(n), double.s()))

@app.task(name="own.header", bind=True)
def header(self):
    return self.request.headers.get("traceparent")

@app.task(name="own.replace_header", bind=True)
def replace_header(self):
    return self.replace(header.s())

@app.task(name="own.ignore", bind=True)
def ignore(self):
    raise Ignore()
"""


@pytest.fixture
def worker(start_own):
    """A worker that knows the tasks above."""
    return start_own(SOURCE)


pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("worker")]


async def test_a_chain_ends_with_its_last_result(link):
    steps = chain(
        link.signature("own.add", [1, 2]), link.signature("own.double"), link.signature("own.double")
    )
    (outcome,) = await link.call_canvas(steps, wait=20)
    assert (outcome.state, outcome.result) == ("SUCCESS", 12)


async def test_a_chain_that_fails_ends_with_the_failure(link):
    steps = chain(link.signature("task.fail", ["first"]), link.signature("own.double"))
    (outcome,) = await link.call_canvas(steps, wait=20)
    assert outcome.state == "FAILURE"
    assert outcome.result["exc_type"] == "ValueError"


async def test_a_group_has_an_outcome_for_each_member_in_their_order(link):
    members = group(link.signature("own.double", [n]) for n in range(5))
    outcomes = await link.call_canvas(members, wait=20)
    assert [outcome.result for outcome in outcomes] == [0, 2, 4, 6, 8]


async def test_a_chord_ends_with_the_result_of_its_body(link):
    header = [link.signature("own.double", [n]) for n in range(3)]
    (outcome,) = await link.call_canvas(chord(header, link.signature("own.sum")), wait=30)
    assert (outcome.state, outcome.result) == ("SUCCESS", 6)


async def test_a_retried_task_answers_when_it_has_ended(link):
    outcome = await link.call("own.retry", [2], wait=20)
    assert (outcome.state, outcome.result) == ("SUCCESS", 2)


@pytest.mark.parametrize(("name", "result"), [("own.replace", 6), ("own.replace_by_chain", 12)])
async def test_a_replaced_task_answers_the_caller_by_push(link, monkeypatch, name, result):
    async def no_sweep(_ids):
        return {}

    monkeypatch.setattr(link.results, "fetch", no_sweep)
    outcome = await link.call(name, [3], wait=20)
    assert (outcome.state, outcome.result) == ("SUCCESS", result)


async def test_a_replacement_keeps_the_headers(link):
    outcome = await link.call("own.replace_header", wait=20, headers={"traceparent": "00-abc"})
    assert outcome.result == "00-abc"


async def test_a_delayed_task_can_be_replaced_by_one_with_the_same_delay(link):
    # 3 s are two queues' delay: from the first, RabbitMQ drops what it noted to have been in the second
    outcome = await link.call("own.replace_later", [3], wait=20, countdown=3)
    assert (outcome.state, outcome.result) == ("SUCCESS", 6)


async def test_an_eta_by_countdown_is_kept_in_a_chain(link):
    loop = asyncio.get_running_loop()
    began = loop.time()
    steps = chain(link.signature("own.add", [1]), link.signature("own.double", countdown=1))
    (outcome,) = await link.call_canvas(steps, wait=20)
    assert outcome.result == 2
    assert loop.time() - began > 0.9


async def test_a_task_that_gives_its_message_back_answers_when_it_has_run(link):
    assert (await link.call("own.give_back", wait=20)).result == "the second time"


async def test_a_delay_below_a_second_is_rounded_up_wherever_it_is_given(link):
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    steps = chain(link.signature("own.add", [1]), link.signature("own.double", countdown=0.5))
    assert (await link.call_canvas(steps, wait=20))[0].result == 2
    assert (await link.call("own.double", [1], wait=20, eta=soon)).result == 2
    assert (await link.call("own.retry_soon", wait=20)).result == 1


async def test_a_task_that_ignores_its_result_ends_no_wait_and_holds_no_place(link):
    assert await link.wait(await link.send("own.ignore"), 1) is None
    assert link.in_flight == 0


async def test_callback_style_gives_the_outcome(link):
    done = asyncio.Event()
    seen = []

    def callback(future):
        seen.append(future.result())
        done.set()

    link.apply_async("own.double", [4], callback=callback, wait=20)
    await asyncio.wait_for(done.wait(), 20)
    assert seen[0].result == 8


async def test_errors_reach_the_callback_too(link, monkeypatch):
    refused = asyncio.get_running_loop().create_future()
    refused.set_exception(Unavailable("no broker"))
    monkeypatch.setattr(link._transport, "publish", lambda *_: refused)
    done = asyncio.Event()
    seen = []

    def callback(future):
        seen.append(future.exception())
        done.set()

    link.apply_async("own.double", [4], callback=callback, wait=20)
    await asyncio.wait_for(done.wait(), 20)
    assert isinstance(seen[0], Unavailable)
