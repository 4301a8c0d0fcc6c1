"""Publishing and consuming at a real broker; its HTTP API and another client bear witness."""

import asyncio
import json
from contextlib import asynccontextmanager
from urllib.parse import quote
from uuid import uuid4

import aiormq
import pytest

from celerykit.amqp import Closed, Connection, entries
from celerykit.envelope import Message
from celerykit.settings import Broker
from celerykit.transport import NoQueue, Transport, Unavailable, Unsendable
from local.http import request
from local.ports import HOST
from tests.faults.harness import Broker as Operator
from tests.integration.proxy import Proxy

pytestmark = pytest.mark.integration

SOON = 20  # seconds
HEARTBEAT = 1  # seconds
LARGE = bytes(range(256)) * 20_000  # 5 MB


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, SOON)


async def become(condition):
    """Await a condition of which there is no event."""
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class Linked(Transport):
    """A transport that keeps its replies and tells its connections."""

    def __init__(self, url):
        self.replies, self.connects = asyncio.Queue(), asyncio.Queue()
        super().__init__(
            Broker(broker_url=url),
            "gw.reply.amqp",
            lambda *reply: self.replies.put_nowait(reply),
            lambda: self.connects.put_nowait(None),
        )

    def reply(self, name, body):
        """Send itself what a worker would."""
        properties = {"correlation_id": name, "delivery_mode": 1, "content_type": "application/json"}
        return self.publish(Message("", self.reply_queue, body, {}, properties), SOON)


@asynccontextmanager
async def connected(url):
    link = Linked(url)
    link.start()
    try:
        await soon(link.connects.get())
        yield link
    finally:
        await link.close()


@pytest.fixture
async def link(broker_url):
    """A transport that is connected."""
    async with connected(broker_url) as link:
        yield link


@pytest.fixture
def api(stores):
    """Asks the broker's HTTP API; returns what it answers."""

    def ask(method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        url = f"{stores.rabbitmq.management}/api/{path}"
        status, answer = request(method, url, data, stores.rabbitmq.login, timeout=SOON)
        assert status < 400, answer
        return json.loads(answer) if answer else None

    return ask


@pytest.fixture
def declare(api, vhost):
    """Declares a queue and an exchange as a worker does, and returns their name."""

    def declare(name):
        at = quote(name, safe="")
        api("PUT", f"queues/{vhost}/{at}", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
        api("PUT", f"exchanges/{vhost}/{at}", {"durable": True, "type": "topic"})
        api("POST", f"bindings/{vhost}/e/{at}/q/{at}", {"routing_key": name})
        return name

    return declare


@pytest.fixture
def queue(declare):
    """A queue of this test's own."""
    return declare(f"q-{uuid4().hex[:8]}")


@pytest.fixture
def taken(api, vhost):
    """Takes the messages of a queue."""

    def take(queue):
        wanted = {"count": 10**4, "ackmode": "ack_requeue_false", "encoding": "auto"}
        return api("POST", f"queues/{vhost}/{quote(queue, safe='')}/get", wanted)

    return take


@pytest.fixture
async def witness(broker_url):
    """A channel of another client's."""
    connection = await aiormq.connect(broker_url)
    yield await connection.channel(publisher_confirms=False)
    await connection.close()


@pytest.fixture
def proxy(run):
    """A network in front of the broker."""
    with Proxy(run.ports.amqp) as proxy:
        yield proxy


@pytest.fixture
async def behind(proxy, run, broker_url):
    """A transport that is connected through that network, with a short heartbeat."""
    there, here = f"{HOST}:{run.ports.amqp}/", f"{HOST}:{proxy.port}/"
    async with connected(f"{broker_url.replace(there, here)}?heartbeat={HEARTBEAT}") as link:
        yield link


def to(queue, body=b"[]", **headers):
    return Message(queue, queue, body, headers, {"correlation_id": "i", "delivery_mode": 2})


async def test_many_messages_at_once_are_confirmed_and_arrive_in_their_order(link, queue, taken):
    await soon(asyncio.gather(*(link.publish(to(queue, b"%d" % number), SOON) for number in range(2000))))
    assert [message["payload"] for message in taken(queue)] == [str(number) for number in range(2000)]
    assert not link._unconfirmed


async def test_another_client_reads_a_message_as_it_was_given(link, queue, witness):
    headers = {"task": "ü", "timelimit": [None, 7], "stamps": {"a": {"b": False}}, "at": 1700000000.123}
    properties = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 3,
        "correlation_id": "ü",
        "reply_to": link.reply_queue,
    }
    constant = {"lang": "py", "shadow": None}
    await soon(link.publish(Message(queue, queue, b"[1]", headers, properties, entries(constant)), SOON))
    got = await soon(witness.basic_get(queue, no_ack=True))
    assert got.body == b"[1]"
    read = dict(got.header.properties.headers)
    read.pop("x-delivery-count", None)  # RabbitMQ 3 puts it on the first delivery, too
    assert read == constant | headers | {"at": "1700000000.123"}
    for name, value in {**properties, "message_id": "1"}.items():
        assert got.header.properties[name] == value


async def test_a_message_of_five_megabytes_goes_both_ways(link):
    await soon(link.reply("large", LARGE))
    assert await soon(link.replies.get()) == ("large", LARGE)
    await soon(link.reply("small", b""))
    assert await soon(link.replies.get()) == ("small", b"")


@pytest.mark.parametrize("name", ["bücher & mehr", "q" * 251])
async def test_a_queue_may_have_any_name_that_the_broker_takes(link, declare, taken, name):
    declare(name)
    await soon(link.publish(to(name), SOON))
    assert len(taken(name)) == 1


async def test_a_message_that_no_queue_takes_is_told_and_harms_no_other(link, queue):
    there, nowhere = to(queue), Message(queue, "elsewhere", b"x" * 300_000, {}, {})
    first, lost, second = [link.publish(message, SOON) for message in (there, nowhere, there)]
    await soon(asyncio.gather(first, second))
    with pytest.raises(NoQueue, match="no queue takes messages for 'elsewhere': is a worker up"):
        await soon(lost)
    assert link.connects.empty()


async def test_an_exchange_that_is_missing_is_told_and_may_come_later(link, declare, taken):
    with pytest.raises(NoQueue):
        await soon(link.publish(to("not-yet"), SOON))
    declare("not-yet")
    await soon(link.publish(to("not-yet"), SOON))
    assert len(taken("not-yet")) == 1
    assert link.connects.empty()


async def test_an_exchange_that_goes_away_is_told_and_the_link_connects_anew(link, queue, api, vhost):
    await soon(link.publish(to(queue), SOON))
    api("DELETE", f"exchanges/{vhost}/{queue}")
    with pytest.raises(NoQueue):
        await soon(link.publish(to(queue), SOON))
    await soon(link.connects.get())
    await soon(link.reply("i", b"[]"))


async def test_a_connection_that_an_operator_closes_is_made_anew(link, queue, api, vhost):
    await become(lambda: len(api("GET", f"vhosts/{vhost}/connections")) == 2)
    for connection in api("GET", f"vhosts/{vhost}/connections"):
        api("DELETE", f"connections/{quote(connection['name'])}")
    await soon(link.connects.get())
    await soon(link.publish(to(queue), SOON))
    await soon(link.reply("i", b"[]"))
    assert await soon(link.replies.get()) == ("i", b"[]")


async def test_the_broker_shows_who_is_connected(broker_url, api, vhost):
    def names():
        found = api("GET", f"vhosts/{vhost}/connections")
        return [connection["client_properties"].get("connection_name") for connection in found]

    async with connected(broker_url + "?name=gateway-1"):
        await become(lambda: names() == ["gateway-1"] * 2)


async def test_a_login_may_have_any_signs(api, vhost, broker_url):
    user, password = "a@b:c/ü", "p%40:/ ü?#"
    at = quote(user, safe="")
    api("PUT", f"users/{at}", {"password": password, "tags": ""})
    api("PUT", f"permissions/{vhost}/{at}", {"configure": ".*", "write": ".*", "read": ".*"})
    try:
        address = broker_url.rpartition("@")[2]
        async with connected(f"amqp://{at}:{quote(password, safe='')}@{address}") as link:
            await soon(link.reply("i", b"[]"))
    finally:
        api("DELETE", f"users/{at}")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda url: url.replace("@", "-wrong@"), "403 ACCESS_REFUSED"),
        (lambda url: url + "-missing", "530 NOT_ALLOWED"),
    ],
)
async def test_a_broker_that_refuses_the_login_says_why(broker_url, wrong, says):
    with pytest.raises(Closed, match=says):
        await soon(Connection.open(wrong(broker_url), 20))


@pytest.mark.own_stores
async def test_a_message_larger_than_the_broker_takes_ends_one_connection_and_not_the_next(
    stores, broker_url, queue, vhost
):
    operator = Operator(stores.rabbitmq, vhost)

    def take(size):  # by the ways of RabbitMQ 3 and 4
        operator.ctl("eval", f"application:set_env(rabbit, max_message_size, {size}).")
        operator.ctl("eval", f"persistent_term:put(max_message_size, {size}).")

    take(100_000)
    try:
        async with connected(broker_url) as link:
            await soon(link.publish(to(queue, bytes(100_000)), SOON))
            with pytest.raises(Unsendable, match="100001 bytes are too large: the broker takes 100000"):
                await soon(link.publish(to(queue, bytes(100_001)), SOON))
            await soon(link.connects.get())
            with pytest.raises(Unsendable):
                await soon(link.publish(to(queue, bytes(200_000)), SOON))
            await soon(link.publish(to(queue), SOON))
            assert link.connects.empty()
    finally:
        take(134_217_728)


@pytest.mark.own_stores
async def test_a_silent_network_is_noticed_within_two_heartbeats(behind, proxy):
    clock = asyncio.get_running_loop().time
    await soon(behind.reply("before", b"[]"))
    proxy.silence()
    began = clock()
    unheard = behind.reply("unheard", b"[]")
    with pytest.raises(Unavailable, match="the connection to the broker broke: it went silent"):
        await soon(unheard)
    assert clock() - began < 2 * HEARTBEAT + 1  # for a busy machine
    assert not behind.connected
    proxy.speak()
    await soon(behind.connects.get())
    await soon(behind.reply("after", b"[]"))


@pytest.mark.own_stores
async def test_what_comes_and_what_is_published_while_the_network_is_gone_arrives_when_it_is_back(
    behind, proxy, link, witness
):
    proxy.silence()
    assert proxy.reset() == 2
    await become(lambda: not behind.connected)
    while (await witness.queue_declare(behind.reply_queue, passive=True)).consumer_count:
        pass  # the broker would send it to nobody
    await soon(link.publish(Message("", behind.reply_queue, b"[1]", {}, {"correlation_id": "i"}), SOON))
    waiting = behind.reply("j", b"[2]")
    proxy.speak()
    await soon(waiting)
    assert [await soon(behind.replies.get()) for _ in range(2)] == [("i", b"[1]"), ("j", b"[2]")]


@pytest.mark.own_stores
async def test_while_the_broker_blocks_publishers_replies_come_and_nothing_is_sent(
    stores, link, queue, taken, vhost, api
):
    operator = Operator(stores.rabbitmq, vhost)
    operator.ctl("set_disk_free_limit", "100000GB")
    try:
        last = link.publish(to(queue, b"on the wire"), SOON)  # the broker blocks those who publish
        await become(lambda: not link._connection.writable)
        refused = link.publish(to(queue, b"refused"), 0.2)
        with pytest.raises(Unavailable, match=r"did not take the message within 0\.2 s"):
            await refused
        reply = {
            "properties": {},
            "routing_key": link.reply_queue,
            "payload": "[]",
            "payload_encoding": "string",
        }
        api("POST", f"exchanges/{vhost}/amq.default/publish", reply)
        assert await soon(link.replies.get()) == ("", b"[]")
        patient = link.publish(to(queue, b"patient"), SOON)
    finally:
        operator.ctl("set_disk_free_limit", "200MB")
    await soon(asyncio.gather(last, patient))
    assert [message["payload"] for message in taken(queue)] == ["on the wire", "patient"]
