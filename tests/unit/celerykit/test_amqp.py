"""The AMQP connection without a network: what it writes is pamqp's, and what comes may come in any pieces."""

import asyncio
import random
from itertools import combinations

import pytest
from pamqp import commands, encode, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader, ProtocolHeader
from pamqp.heartbeat import Heartbeat

from celerykit.amqp import (
    FRAME_MAX,
    WORK,
    Closed,
    Connection,
    Uncarriable,
    correlation_id,
    entries,
    publishing,
)

URL = "amqp://user:secret@127.0.0.1:5672/v"
PROPERTIES = {
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "delivery_mode": 2,
    "priority": 0,
    "correlation_id": "5b2c8a3e",
    "reply_to": "gw.reply.t.ü",
}
HEADERS = {
    "id": "5b2c8a3e",
    "ignored": False,
    "none": None,
    "retries": 0,
    "stamps": {"a": ["b", 1]},
    "task": "ü",
    "timelimit": [None, 70000],
}


class Wire:
    """What asyncio gives a protocol to write to."""

    def __init__(self):
        self.written = bytearray()
        self.aborted = False

    def write(self, data):
        assert not self.aborted
        self.written += data

    def abort(self):
        self.aborted = True

    def methods(self):
        """The methods that were written, each with its channel."""
        data, found = bytes(self.written), []
        self.written.clear()
        while data:
            size, channel, value = frame.unmarshal(data)
            found.append((channel, value))
            data = data[size:]
        return found


@pytest.fixture
def wire():
    """The other end of the connection."""
    return Wire()


@pytest.fixture
async def connection(wire):
    """A connection that is made and not logged in."""
    made = Connection()
    made.connection_made(wire)
    return made


@pytest.fixture
async def opening(monkeypatch, wire):
    """Open a connection to a broker that the test plays; returns the task, and what it is about to return."""
    started = []

    async def connect(factory, host, port, **_):
        made = factory()
        made.connection_made(wire)
        wire.address = host, port
        wire.connection = made
        return wire, made

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", connect)

    async def start(url, heartbeat=0):
        started.append(asyncio.create_task(Connection.open(url, heartbeat)))
        await turns()
        assert bytes(wire.written) == ProtocolHeader().marshal()
        wire.written.clear()
        return started[0], wire.connection

    yield start
    for task in started:
        task.cancel()
    await asyncio.gather(*started, return_exceptions=True)


def method(value, channel=WORK):
    return frame.marshal(value, channel)


def content(start, properties, body, size=FRAME_MAX - 8):
    """The frames of a message from the broker."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    frames = [start, ContentHeader(0, len(body), properties), *map(ContentBody, parts)]
    return b"".join(frame.marshal(one, WORK) for one in frames)


def delivery(name, body, size=FRAME_MAX - 8):
    start = commands.Basic.Deliver("tag", 1, False, "", "queue")
    properties = commands.Basic.Properties(correlation_id=name, headers={"a": 1}, delivery_mode=2)
    return content(start, properties, body, size)


def deliveries(connection):
    """A list that gets what is delivered."""
    got = []
    connection.on_delivery = lambda *delivered: got.append(delivered)
    return got


async def turns():
    """Let whatever is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("body", [b"", b"[]", b"x" * 300])
@pytest.mark.parametrize("headers", [{}, HEADERS])
@pytest.mark.parametrize("left_out", [(), ("priority", "reply_to"), tuple(PROPERTIES)])
def test_the_bytes_of_a_publish_are_those_of_pamqp(headers, body, left_out):
    properties = {name: value for name, value in PROPERTIES.items() if name not in left_out}
    publish = commands.Basic.Publish(exchange="e", routing_key="k", mandatory=True)
    known = commands.Basic.Properties(headers=headers, message_id="7", **properties)
    for frame_max in (300, FRAME_MAX):  # the least that holds these headers, and all
        got = publishing(7, "e", "k", properties, entries(headers), body, frame_max)
        assert b"".join(got) == content(publish, known, body, frame_max - 8)


def test_an_empty_text_among_the_properties_is_left_out_as_by_pamqp():
    assert publishing(1, "", "k", {"reply_to": ""}, b"", b"") == publishing(1, "", "k", {}, b"", b"")


def test_entries_are_a_table_without_its_length_and_can_be_joined():
    table = encode.field_table(HEADERS)
    assert entries(HEADERS) == table[4:]
    one, other = dict(list(HEADERS.items())[:3]), dict(list(HEADERS.items())[3:])
    assert entries(one) + entries(other) == table[4:]


def test_a_float_goes_as_text_of_all_its_digits():
    assert entries({"x-published-at": 1700000000.123456}) == entries({"x-published-at": "1700000000.123456"})


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("exchange", {"exchange": "e" * 256}),
        ("routing_key", {"routing_key": "k" * 256}),
        ("reply_to", {"properties": {"reply_to": "ü" * 128}}),
        ("priority", {"properties": {"priority": 256}}),
        ("priority", {"properties": {"priority": -1}}),
        ("priority", {"properties": {"priority": 1.5}}),
        ("headers", {"table": b"x" * FRAME_MAX}),
    ],
)
def test_what_amqp_cannot_carry_is_refused_by_name(part, wrong):
    good = {"exchange": "", "routing_key": "k", "properties": {}, "table": b""}
    with pytest.raises(Uncarriable, match=rf"^{part}: .*(255|too large)") as refused:
        publishing(1, body=b"", **good | wrong)
    assert refused.value.part == part


@pytest.mark.parametrize("value", [object(), 2**64, {"deep": [object()]}])
def test_a_header_that_amqp_has_no_value_for_is_refused_by_name(value):
    with pytest.raises(Uncarriable, match=r"^headers: baggage has no value of AMQP's") as refused:
        entries({"task": "t", "baggage": value})
    assert refused.value.part == "headers"


def test_a_header_of_too_long_a_name_is_refused():
    with pytest.raises(Uncarriable, match=r"^headers: .*255 at most"):
        entries({"n" * 256: 1})


@pytest.mark.parametrize("count", range(9))
def test_a_correlation_id_is_found_among_any_properties(count):
    every = {
        **PROPERTIES,
        "headers": {"a": {"b": "c"}},
        "expiration": "1",
        "message_id": "m",
        "message_type": "t",
    }
    for names in combinations(every, count):
        encoded = commands.Basic.Properties(**{name: every[name] for name in names}).marshal()
        expected = every["correlation_id"] if "correlation_id" in names else ""
        assert correlation_id(b"before" + encoded, 6) == expected


@pytest.mark.parametrize("size", [1, 2, 7, 8, 100, 10**6])
async def test_frames_may_come_in_pieces_of_any_size(connection, size):
    got = deliveries(connection)
    sent = [("a", b"1"), ("", b""), ("b", b"x" * 1000), ("c", bytes(range(256)))]
    data = b"".join(delivery(*one, size=300) for one in sent) + Heartbeat().marshal() + delivery("d", b"2")
    for at in range(0, len(data), size):
        connection.data_received(data[at : at + size])
    assert got == [*sent, ("d", b"2")]


async def test_frames_may_come_in_pieces_of_no_size_in_particular(connection):
    got, chance = deliveries(connection), random.Random(7)
    sent = [(str(number), chance.randbytes(chance.randrange(500))) for number in range(200)]
    data = b"".join(delivery(*one, size=chance.randrange(1, 200)) for one in sent)
    while data:
        size = chance.randrange(1, 2000)
        connection.data_received(data[:size])
        data = data[size:]
    assert got == sent


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"AMQP\0\0\x09\x01",  # what a broker says that speaks another version
        method(commands.Channel.OpenOk())[:-1] + b"x",
        method(commands.Channel.OpenOk()).replace(b"\0\x14\0\x0b", b"\xff\x14\0\x0b"),
    ],
)
async def test_what_is_no_amqp_ends_the_connection(connection, wire, garbage):
    connection.data_received(garbage)
    with pytest.raises(Closed, match="not understood"):
        await connection.lost
    assert wire.aborted


async def test_confirms_come_with_their_number_and_their_meaning(connection):
    got = []
    connection.on_confirm = lambda *confirm: got.append(confirm)
    connection.data_received(method(commands.Basic.Ack(3, multiple=True)) + method(commands.Basic.Ack(5)))
    connection.data_received(method(commands.Basic.Nack(6, multiple=True)))
    assert got == [(3, True, True), (5, False, True), (6, True, False)]


async def test_a_message_that_comes_back_is_told_by_its_number(connection):
    got = []
    connection.on_return = got.append
    back = commands.Basic.Return(312, "NO_ROUTE", "e", "k")
    for body in (b"", b"x" * 50):
        connection.data_received(content(back, commands.Basic.Properties(message_id="17"), body, 20))
    assert got == [17, 17]


async def test_an_answer_goes_to_the_channel_that_asked(connection):
    asked = [asyncio.create_task(connection.ask(channel, commands.Queue.Declare())) for channel in (1, 2)]
    await turns()
    connection.data_received(method(commands.Queue.DeclareOk("two", 0, 0), 2))
    assert (await asked[1]).queue == "two"
    assert not asked[0].done()
    connection.data_received(method(commands.Queue.DeclareOk("one", 0, 0), 1))
    assert (await asked[0]).queue == "one"


async def test_a_channel_closed_for_a_question_fails_that_question_alone(connection, wire):
    asked = asyncio.create_task(connection.look_for("nowhere and ü"))
    await turns()
    connection.data_received(method(commands.Channel.OpenOk(), 2))
    await turns()
    connection.data_received(method(commands.Channel.Close(404, "NOT_FOUND - no exchange", 40, 10), 2))
    with pytest.raises(Closed, match="404 NOT_FOUND - no exchange") as closed:
        await asked
    assert closed.value.code == 404
    assert not connection.lost.done()
    said = wire.methods()
    assert [channel for channel, _ in said] == [2, 2, 2]
    assert said[1][1].exchange == "nowhere and ü"
    assert said[1][1].passive
    assert isinstance(said[2][1], commands.Channel.CloseOk)


@pytest.mark.parametrize(
    ("end", "says", "code"),
    [
        (method(commands.Channel.Close(404, "NOT_FOUND", 60, 40)), "404 NOT_FOUND", 404),
        (method(commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0), 0), "320 CONNECTION_FORCED", 320),
        (method(commands.Basic.Cancel("tag")), "took the consumer away", 0),
    ],
)
async def test_the_brokers_reason_to_end_it_is_told_to_all_who_wait(connection, end, says, code):
    asked = asyncio.create_task(connection.ask(2, commands.Channel.Open()))
    await turns()
    connection.data_received(end)
    for waiting in (connection.lost, asked, connection.ask(3, commands.Channel.Open())):
        with pytest.raises(Closed, match=says) as closed:
            await waiting
        assert closed.value.code == code
    assert not connection.writable


@pytest.mark.parametrize(
    ("error", "says"), [(None, "the other side closed it"), (OSError(113, "no route"), "no route")]
)
async def test_a_connection_that_breaks_says_how(connection, error, says):
    connection.connection_lost(error)
    with pytest.raises(Closed, match=says):
        await connection.lost


async def test_nothing_is_writable_while_the_broker_blocks_or_the_network_is_full(connection):
    told = []
    connection.on_writable = lambda: told.append(connection.writable)
    assert connection.writable
    connection.data_received(method(commands.Connection.Blocked("low on memory"), 0))
    assert not connection.writable
    connection.pause_writing()
    connection.data_received(method(commands.Connection.Unblocked(), 0))
    assert not connection.writable
    connection.resume_writing()
    assert told == [False, True]


async def log_in(connection, **tune):
    """Answer as a broker does until it is open."""
    connection.data_received(method(commands.Connection.Start(0, 9, {}), 0))
    await turns()
    connection.data_received(method(commands.Connection.Tune(**tune), 0))
    await turns()
    connection.data_received(method(commands.Connection.OpenOk(), 0))
    await turns()


@pytest.mark.parametrize(
    ("url", "address", "login", "vhost"),
    [
        (URL, ("127.0.0.1", 5672), "\0user\0secret", "v"),
        ("amqp://host", ("host", 5672), "\0guest\0guest", "/"),
        ("amqp://host/", ("host", 5672), "\0guest\0guest", "/"),
        ("amqps://host/%2F", ("host", 5671), "\0guest\0guest", "/"),
        ("amqp://a%40b:p%3A%2F%C3%BC@[::1]:5673/a%2Fb%20c", ("::1", 5673), "\0a@b\0p:/ü", "a/b c"),
    ],
)
async def test_a_url_says_where_who_and_what(opening, wire, url, address, login, vhost):
    task, connection = await opening(url)
    await log_in(connection)
    assert await task is connection
    assert wire.address == address
    (_, start_ok), _, (_, opened) = wire.methods()
    assert (start_ok.mechanism, start_ok.response) == ("PLAIN", login)
    assert opened.virtual_host == vhost


async def test_the_broker_is_told_what_the_client_is_and_can(opening, wire):
    _, connection = await opening(URL + "?name=gateway-1")
    await log_in(connection)
    properties = wire.methods()[0][1].client_properties
    assert properties["product"] == "celery-kit"
    assert properties["connection_name"] == "gateway-1"
    assert all(properties["capabilities"].values())
    assert "consumer_cancel_notify" in properties["capabilities"]


@pytest.mark.parametrize(
    ("offered", "taken"),
    [((0, 0), (65535, FRAME_MAX)), ((7, 4096), (7, 4096)), ((2047, 10**6), (2047, FRAME_MAX))],
)
async def test_no_more_channels_and_no_larger_frames_are_used_than_both_take(opening, wire, offered, taken):
    _, connection = await opening(URL)
    await log_in(connection, channel_max=offered[0], frame_max=offered[1])
    tuned = wire.methods()[1][1]
    assert (tuned.channel_max, tuned.frame_max) == taken
    assert connection.frame_max == taken[1]


async def test_more_questions_at_once_than_the_broker_allows_channels_are_refused(opening):
    _, connection = await opening(URL)
    await log_in(connection, channel_max=2)
    asked = asyncio.create_task(connection.look_for("a"))
    await turns()
    with pytest.raises(Closed, match="no more than 2 channels"):
        await connection.look_for("b")
    asked.cancel()


async def test_a_login_that_is_refused_says_why(opening):
    task, connection = await opening(URL)
    connection.data_received(method(commands.Connection.Start(0, 9, {}), 0))
    await turns()
    connection.data_received(
        method(commands.Connection.Close(403, "ACCESS_REFUSED - Login was refused", 0, 0), 0)
    )
    with pytest.raises(Closed, match="403 ACCESS_REFUSED - Login was refused") as closed:
        await task
    assert closed.value.code == 403


async def test_a_login_that_is_given_up_leaves_no_connection(opening, wire):
    task, _ = await opening(URL)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert wire.aborted


@pytest.mark.parametrize(("query", "seconds"), [("", 40), ("?heartbeat=8", 8), ("?heartbeat=0", 0)])
async def test_the_urls_heartbeat_goes_before_our_own(opening, wire, query, seconds):
    _, connection = await opening(URL + query, heartbeat=40)
    await log_in(connection)
    assert wire.methods()[1][1].heartbeat == seconds


@pytest.mark.parametrize("wrong", ["ten", "-1", "1.5"])
async def test_a_heartbeat_that_is_no_number_of_seconds_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=f"heartbeat={wrong} in the broker's URL: must be whole seconds"):
        await Connection.open(f"{URL}?heartbeat={wrong}", 20)


@pytest.fixture
async def beats(monkeypatch):
    """The calls that the loop was asked to make later, which the test makes: delay, function, arguments."""
    calls = []

    def call_later(*call):
        calls.append(call)
        return asyncio.Handle(call[1], call[2:], loop)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", call_later)

    def beat():
        delay, call, *arguments = calls.pop()
        call(*arguments)
        return delay

    return beat


async def test_a_silent_broker_is_given_up_within_two_heartbeats(opening, beats):
    _, connection = await opening(URL, heartbeat=40)
    await log_in(connection)
    seconds = 0
    while not connection.lost.done():
        seconds += beats()
    assert 40 < seconds <= 80
    with pytest.raises(Closed, match="it went silent"):
        await connection.lost


async def test_a_broker_that_gives_signs_of_life_is_kept_and_gets_ours(opening, wire, beats):
    _, connection = await opening(URL, heartbeat=40)
    await log_in(connection)
    wire.written.clear()
    for _ in range(50):
        beats()
        assert isinstance(wire.methods()[0][1], Heartbeat)
        connection.data_received(Heartbeat().marshal()[:3])
        connection.data_received(Heartbeat().marshal()[3:])
    assert not connection.lost.done()
