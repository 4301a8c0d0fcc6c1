"""The transport at a broker that is made up here, for what a real one does not do on demand."""

import asyncio

import pytest
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from celerykit import transport
from celerykit.amqp import WORK, Connection
from celerykit.envelope import Message
from celerykit.settings import Broker
from celerykit.transport import NoQueue, Publish, Transport, Unavailable, Unsendable

SOON = 5  # seconds
NOT_FOUND = commands.Channel.Close(404, "NOT_FOUND - home node of durable queue is down", 50, 10)
ANSWERS = {
    commands.Connection.StartOk: commands.Connection.Tune(0, 0, 0),
    commands.Connection.Open: commands.Connection.OpenOk(),
    commands.Connection.Close: commands.Connection.CloseOk(),
    commands.Channel.Open: commands.Channel.OpenOk(),
    commands.Channel.Close: commands.Channel.CloseOk(),
    commands.Confirm.Select: commands.Confirm.SelectOk(),
    commands.Exchange.Declare: commands.Exchange.DeclareOk(),
    commands.Queue.Declare: commands.Queue.DeclareOk("q", 0, 0),
    commands.Basic.Consume: commands.Basic.ConsumeOk("tag"),
}


class MadeUp:
    """A broker that has all exchanges and takes every message, and confirms none by itself."""

    def __init__(self):
        self.lost = set()  # queues whose node is away
        self.published = asyncio.Queue()  # the bodies
        self.asked = []  # the methods that it got
        self.deaf = asyncio.Event()  # while cleared it reads nothing
        self.deaf.set()
        self.publisher = self.consumer = None

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"amqp://u:p@127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        mine = asyncio.current_task()
        serving = [task for task in asyncio.all_tasks() if task is not mine and "_serve" in repr(task)]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def say(self, method, channel=WORK):
        """Tell the connection that publishes."""
        self.publisher.write(frame.marshal(method, channel))

    async def _serve(self, reader, writer):
        try:
            await reader.readexactly(8)
            writer.write(frame.marshal(commands.Connection.Start(0, 9, {}), 0))
            while True:
                await self.deaf.wait()
                start = await reader.readexactly(7)
                rest = await reader.readexactly(int.from_bytes(start[3:]) + 1)
                self._take(writer, *frame.unmarshal(start + rest)[1:])
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    def _take(self, writer, channel, got):
        match got:
            case ContentBody():
                self.published.put_nowait(got.value)
                return
            case commands.Confirm.Select():
                self.publisher = writer
            case commands.Basic.Consume():
                self.consumer = writer
        self.asked.append(got)
        away = isinstance(got, commands.Queue.Declare) and got.queue in self.lost
        answer = NOT_FOUND if away else ANSWERS.get(type(got))
        if answer is not None:  # one without fields is false
            writer.write(frame.marshal(answer, channel))


@pytest.fixture
async def broker():
    """A broker of this test's own."""
    async with MadeUp() as made:
        yield made


@pytest.fixture
def connects():
    """Gets an item each time that the transport has connected."""
    return asyncio.Queue()


@pytest.fixture
def replies():
    """Gets each reply."""
    return asyncio.Queue()


@pytest.fixture
async def link(monkeypatch, broker, connects, replies):
    """A transport that is not started."""
    monkeypatch.setattr(transport, "BACKOFF", (0.0, 0.0))
    made = Transport(
        Broker(broker_url=broker.url),
        "gw.reply.t",
        lambda *reply: replies.put_nowait(reply),
        lambda: connects.put_nowait(None),
    )
    yield made
    await made.close()


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, SOON)


@pytest.fixture
async def connected(link, connects):
    """The same, connected."""
    link.start()
    await soon(connects.get())
    return link


def message(body=b"[]", key="k", **headers):
    return Message("e", key, body, headers, {"correlation_id": "i"})


async def test_a_reply_queue_whose_node_is_away_gives_way_to_another(link, connects, broker):
    first = link.reply_queue
    broker.lost = {first}
    link.start()
    await soon(connects.get())
    assert link.reply_queue != first
    assert link.reply_queue.startswith("gw.reply.t.")


async def test_a_reply_queue_that_is_there_is_kept_over_a_lost_connection(connected, connects, broker):
    first = connected.reply_queue
    broker.publisher.close()
    await soon(connects.get())
    assert connected.reply_queue == first


async def test_a_consumer_that_the_broker_cancels_is_made_anew(connected, connects, broker):
    broker.consumer.write(frame.marshal(commands.Basic.Cancel("tag"), WORK))
    await soon(connects.get())


async def test_a_reply_that_cannot_be_handled_does_not_stop_those_after_it(
    connected, broker, replies, monkeypatch
):
    taken = connected._on_reply
    monkeypatch.setattr(connected, "_on_reply", lambda name, body: taken(name, body) if name else 1 / 0)
    for name in (None, "i"):
        start = commands.Basic.Deliver("tag", 1, False, "", "q")
        header = ContentHeader(0, 2, commands.Basic.Properties(correlation_id=name))
        broker.consumer.write(
            b"".join(frame.marshal(one, WORK) for one in (start, header, ContentBody(b"[]")))
        )
    assert await soon(replies.get()) == ("i", b"[]")


async def test_what_is_published_at_once_is_written_at_once_and_confirmed_together(
    connected, broker, monkeypatch
):
    first = connected.publish(message(), SOON)  # its exchange is found on the way
    await soon(broker.published.get())
    writes = []
    write = Connection.write
    monkeypatch.setattr(Connection, "write", lambda self, data: (writes.append(data), write(self, data)))
    more = [connected.publish(message(str(number).encode()), SOON) for number in range(100)]
    for number in range(100):
        assert await soon(broker.published.get()) == str(number).encode()
    assert len(writes) == 1
    broker.say(commands.Basic.Ack(50, multiple=True))
    await soon(asyncio.gather(first, *more[:49]))
    assert not any(publish.done() for publish in more[49:])
    broker.say(commands.Basic.Ack(60))
    broker.say(commands.Basic.Ack(101, multiple=True))
    await soon(asyncio.gather(*more))


async def test_confirms_may_come_in_any_order_and_together(connected, broker):
    publishes = {number: connected.publish(message(), SOON) for number in range(1, 8)}
    for _ in publishes:
        await soon(broker.published.get())
    broker.say(commands.Basic.Ack(3))
    broker.say(commands.Basic.Nack(2))
    broker.say(commands.Basic.Ack(5, multiple=True))
    broker.say(commands.Basic.Nack(7, multiple=True))
    ends = await soon(asyncio.gather(*publishes.values(), return_exceptions=True))
    refused = {number for number, end in zip(publishes, ends, strict=True) if isinstance(end, Unavailable)}
    assert refused == {2, 6, 7}
    assert not connected._unconfirmed


async def test_a_confirm_of_many_costs_nothing_for_those_that_came_alone_before(link):
    loop = asyncio.get_running_loop()
    late = Publish(message(), SOON, loop.time() + SOON, loop.create_future())
    link._unconfirmed = {999_999_999_999: late}
    link._confirm(999_999_999_999, True, True)
    await soon(late.future)


async def test_an_exchange_is_asked_for_once_by_all_who_need_it(connected, broker):
    for _ in range(10):
        connected.publish(message(), SOON)
    for _ in range(10):
        await soon(broker.published.get())
    connected.publish(message(), SOON)
    await soon(broker.published.get())
    assert [asked.exchange for asked in broker.asked if isinstance(asked, commands.Exchange.Declare)] == ["e"]


async def test_a_delayed_message_needs_the_exchange_behind_the_delay_as_well(connected, broker):
    connected.publish(Message("celery_delayed_27", "0." * 28 + "default", b"[]", {}, {}), SOON)
    await soon(broker.published.get())
    asked = [asked.exchange for asked in broker.asked if isinstance(asked, commands.Exchange.Declare)]
    assert asked == ["celery_delayed_27", "default"]


async def test_a_message_that_the_broker_refuses_is_told(connected, broker):
    refused = connected.publish(message(), SOON)
    await soon(broker.published.get())
    broker.say(commands.Basic.Nack(1))
    with pytest.raises(Unavailable, match="the broker refused the message"):
        await soon(refused)


async def test_a_message_that_is_never_confirmed_ends_in_its_time_and_is_forgotten(connected, broker):
    unheard = connected.publish(message(), 0.2)
    patient = connected.publish(message(), SOON)
    with pytest.raises(Unavailable, match=r"did not take the message within 0\.2 s"):
        await soon(unheard)
    assert list(connected._unconfirmed) == [2]
    broker.say(commands.Basic.Ack(2, multiple=True))
    await soon(patient)


async def test_what_waits_for_an_exchange_that_nobody_answers_for_ends_in_its_time_and_is_forgotten(
    connected, broker, monkeypatch
):
    monkeypatch.delitem(ANSWERS, commands.Exchange.Declare)
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"did not take the message within 0\.1 s"):
            await soon(connected.publish(message(), 0.1))
        assert connected._held == {"e": []}
    patient = connected.publish(message(b"1"), SOON)
    broker.say(commands.Exchange.DeclareOk(), WORK + 1)
    assert await soon(broker.published.get()) == b"1"
    broker.say(commands.Basic.Ack(1))
    await soon(patient)
    assert [asked.exchange for asked in broker.asked if isinstance(asked, commands.Exchange.Declare)] == ["e"]


async def test_a_message_that_was_cancelled_before_it_was_written_is_not_sent(connected, broker):
    connected.publish(message(b"1"), SOON)
    assert await soon(broker.published.get()) == b"1"
    connected.publish(message(b"2"), SOON).cancel()
    connected.publish(message(b"3"), SOON)
    assert await soon(broker.published.get()) == b"3"


async def test_while_the_broker_blocks_nothing_is_sent_and_what_was_given_up_never(connected, broker):
    first = connected.publish(message(b"1"), SOON)
    await soon(broker.published.get())
    broker.say(commands.Connection.Blocked("low on memory"), 0)
    broker.say(commands.Basic.Ack(1))
    await soon(first)
    late, cancelled, patient = (
        connected.publish(message(b), t) for b, t in ((b"2", 0.1), (b"3", 9), (b"4", 9))
    )
    with pytest.raises(Unavailable, match="did not take the message within"):
        await soon(late)
    cancelled.cancel()
    assert broker.published.empty()
    broker.say(commands.Connection.Unblocked(), 0)
    assert await soon(broker.published.get()) == b"4"
    broker.say(commands.Basic.Ack(2))
    await soon(patient)


async def test_no_more_is_buffered_than_the_network_takes(connected, broker):
    connected.publish(message(b"1"), SOON)
    await soon(broker.published.get())
    broker.deaf.clear()
    large = [connected.publish(message(bytes(10**6)), 60) for _ in range(30)]
    await asyncio.sleep(0)
    assert len(connected._unconfirmed) < 30
    large[-1].cancel()
    connected.publish(message(b"last"), 60)
    broker.deaf.set()
    size = 0
    while (part := await soon(broker.published.get())) != b"last":
        size += len(part)
    assert size == 29 * 10**6


async def test_what_waits_for_a_connection_goes_with_the_next_and_what_was_sent_fails(
    connected, broker, connects
):
    connected.publish(message(b"1"), SOON)
    await soon(broker.published.get())
    sent = connected.publish(message(b"2"), SOON)
    await soon(broker.published.get())
    broker.say(commands.Connection.Close(320, "CONNECTION_FORCED - maintenance", 0, 0), 0)
    with pytest.raises(
        Unavailable, match="connection to the broker broke: 320 CONNECTION_FORCED - maintenance"
    ):
        await soon(sent)
    connected.publish(message(b"3"), SOON)
    assert await soon(broker.published.get()) == b"3"


async def test_an_exchange_that_has_gone_is_no_queue_for_its_own_messages_alone(connected, broker):
    gone, other = message(), Message("other", "k", b"[]", {}, {})
    publishes = [connected.publish(one, SOON) for one in (gone, other)]
    for _ in publishes:
        await soon(broker.published.get())
    broker.say(commands.Channel.Close(404, "NOT_FOUND - no exchange 'e' in vhost 'v'", 60, 40))
    with pytest.raises(NoQueue, match="no queue takes messages for 'k'"):
        await soon(publishes[0])
    with pytest.raises(Unavailable, match="the connection to the broker broke"):
        await soon(publishes[1])


async def test_a_message_that_amqp_cannot_carry_fails_alone(connected, broker):
    connected.publish(message(b"1"), SOON)
    await soon(broker.published.get())
    wrong = connected.publish(message(b"2", baggage=object()), SOON)
    long = connected.publish(message(b"3", key="k" * 256), SOON)
    last = connected.publish(message(b"4"), SOON)
    with pytest.raises(Unsendable, match="baggage") as refused:
        await soon(wrong)
    assert refused.value.part == "headers"
    with pytest.raises(Unsendable, match="255 at most") as refused:
        await soon(long)
    assert refused.value.part == "routing_key"
    assert await soon(broker.published.get()) == b"4"
    broker.say(commands.Basic.Ack(2, multiple=True))
    await soon(last)


@pytest.mark.parametrize("name", ["unhappy", "e" * 256])
async def test_what_amqp_cannot_carry_is_told_before_its_exchange_is_looked_for(connected, broker, name):
    wrong = connected.publish(Message(name, "k" * 256, b"[]", {}, {}), SOON)
    with pytest.raises(Unsendable):
        await soon(wrong)
    connected.publish(message(b"1"), SOON)
    assert await soon(broker.published.get()) == b"1"
    assert [asked.exchange for asked in broker.asked if isinstance(asked, commands.Exchange.Declare)] == ["e"]


async def test_headers_larger_than_the_brokers_frames_are_told_and_large_bodies_go(
    link, broker, connects, monkeypatch
):
    monkeypatch.setitem(ANSWERS, commands.Connection.StartOk, commands.Connection.Tune(0, 4096, 0))
    link.start()
    await soon(connects.get())
    with pytest.raises(Unsendable, match=r"^headers: \d+ bytes are too large: the broker takes 4088"):
        await soon(link.publish(message(argsrepr="x" * 4096), SOON))
    link.publish(message(bytes(10_000)), SOON)
    sizes = [len(await soon(broker.published.get())) for _ in range(3)]
    assert sizes == [4088, 4088, 1824]


@pytest.mark.parametrize(
    "words",
    [
        "message size 5000 larger than max size 4000",
        "message size 5000 is larger than configured max size 4000",
    ],
)
async def test_a_message_that_the_broker_finds_too_large_ends_one_connection_and_not_the_next(
    connected, broker, connects, words
):
    connected.publish(message(b"1"), SOON)
    await soon(broker.published.get())
    large = connected.publish(message(bytes(5000)), SOON)
    await soon(broker.published.get())
    broker.say(commands.Channel.Close(406, f"PRECONDITION_FAILED - {words}", 60, 40))
    with pytest.raises(
        Unsendable, match=r"^body: 5000 bytes are too large: the broker takes 4000"
    ) as refused:
        await soon(large)
    assert refused.value.part == "body"
    await soon(connects.get())
    with pytest.raises(Unsendable):
        await soon(connected.publish(message(bytes(4001)), SOON))
    connected.publish(message(bytes(4000)), SOON)
    assert len(await soon(broker.published.get())) == 4000
    broker.say(commands.Connection.Close(320, "CONNECTION_FORCED - a restart, with another limit", 0, 0), 0)
    await soon(connects.get())
    connected.publish(message(bytes(5000)), SOON)
    assert len(await soon(broker.published.get())) == 5000


async def test_whatever_goes_wrong_with_a_message_is_its_own(connected, broker):
    connected.publish(message(b"1"), SOON)
    await soon(broker.published.get())
    wrong = connected.publish(Message("e", "k", b"", {}, None), SOON)
    connected.publish(message(b"2"), SOON)
    with pytest.raises(Unsendable):
        await soon(wrong)
    assert await soon(broker.published.get()) == b"2"


async def test_a_broker_that_has_been_away_for_long_is_told_at_once(link):
    refused = link.publish(message(), SOON)
    assert refused.done()
    with pytest.raises(Unavailable, match="the broker cannot be reached"):
        await refused


async def test_whoever_publishes_while_it_connects_waits_for_that(link, broker):
    link.start()
    link.publish(message(b"1"), SOON)
    assert await soon(broker.published.get()) == b"1"


async def test_whatever_waits_ends_when_the_transport_is_closed(connected, broker):
    sent = connected.publish(message(), SOON)
    await soon(broker.published.get())
    waiting = connected.publish(Message("other", "k", b"[]", {}, {}), SOON)
    await connected.close()
    for publish in (sent, waiting):
        with pytest.raises(Unavailable):
            await soon(publish)


async def test_nobody_need_look_at_a_publish_that_failed(connected, broker):
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    connected.publish(message(), SOON)
    await soon(broker.published.get())
    broker.say(commands.Basic.Nack(1))
    seen = connected.publish(message(), SOON)
    await soon(broker.published.get())
    broker.say(commands.Basic.Ack(2))
    await soon(seen)
    assert complaints == []


async def test_why_there_is_no_broker_is_in_the_log(link, broker, caplog, monkeypatch):
    refusal = commands.Connection.Close(403, "ACCESS_REFUSED - Login was refused", 0, 0)
    monkeypatch.setitem(ANSWERS, commands.Connection.StartOk, refusal)
    link.start()
    while "no broker" not in caplog.text:  # noqa: ASYNC110  # there is no event of it
        await asyncio.sleep(0.01)
    assert "403 ACCESS_REFUSED - Login was refused" in caplog.text
