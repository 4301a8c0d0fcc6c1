"""Envelopes: what Celery itself would send, and no socket is opened for it.

Handlers of `before_task_publish` and routers run on the caller's event loop, where a slow one would hold up
all requests. The gateway has none that could be: it loads no module of a user's, sends tasks by their names,
and the one handler is ours, which writes a time into the headers. Who uses the link in a program of their own
answers for their own handlers.
"""

import json
import socket
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from functools import wraps

import pytest
from celery import Celery, chain, chord, group
from celery.signals import before_task_publish
from kombu.exceptions import EncodeError
from msgspec.structs import replace
from pamqp import decode

from celerykit.amqp import entries
from celerykit.envelope import Envelopes
from celerykit.settings import Settings

SETTINGS = Settings(broker_url="amqp://u:p@127.0.0.1:1/v", database_url="mysql://u:p@127.0.0.1:1/d")


@pytest.fixture
def envelopes(monkeypatch):
    """Envelopes of a caller that may not open a socket."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("an envelope opened a socket")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return Envelopes(SETTINGS, lambda: "gw.reply.test")


def one(envelopes, *args, **kwargs):
    """The id and the message of a task, whose headers are as the broker gets them."""
    (task_id,), (message,) = envelopes.build(*args, **({"queue": "work"} | kwargs))
    table = message.constant + entries(message.headers)
    _, headers = decode.field_table(len(table).to_bytes(4) + table)
    return task_id, replace(message, headers=headers, constant=b"")


@pytest.fixture
def observed():
    """Somebody else who wants to see each message of Celery's: no template is taken."""
    seen = []

    def see(headers=None, **_):
        seen.append(headers["id"])

    before_task_publish.connect(see)
    yield seen
    before_task_publish.disconnect(see)


def test_a_message_goes_to_the_topic_exchange_of_its_queue(envelopes):
    _, message = one(envelopes, "proj.add", [2, 3], {"z": 1})
    assert (message.exchange, message.routing_key) == ("work", "work")


def test_a_message_is_what_a_worker_expects(envelopes):
    task_id, message = one(envelopes, "proj.add", [2, 3], {"z": 1}, time_limit=9, soft_time_limit=5)
    args, kwargs, embed = json.loads(message.body)
    assert (args, kwargs) == ([2, 3], {"z": 1})
    assert set(embed) == {"callbacks", "errbacks", "chain", "chord"}
    assert message.headers["task"] == "proj.add"
    assert message.headers["id"] == message.properties["correlation_id"] == task_id
    assert message.headers["timelimit"] == [9, 5]
    assert message.properties["reply_to"] == "gw.reply.test"
    assert message.properties["delivery_mode"] == 2
    assert message.properties["content_type"] == "application/json"


def test_a_message_says_when_it_was_published(envelopes):
    before = datetime.now(UTC).timestamp()
    _, message = one(envelopes, "proj.add", [], {})
    assert before <= float(message.headers["x-published-at"]) <= datetime.now(UTC).timestamp()


def test_a_countdown_goes_by_delayed_delivery_and_is_rounded_up(envelopes):
    _, message = one(envelopes, "proj.add", [], {}, countdown=0.4)
    assert message.exchange == "celery_delayed_27"
    assert message.routing_key == ".".join(["0"] * 27 + ["1", "work"])


def test_an_expiry_is_left_to_the_worker_which_stores_a_result(envelopes):
    _, message = one(envelopes, "proj.add", [], {}, expires=30)
    assert "expiration" not in message.properties
    assert datetime.fromisoformat(message.headers["expires"]) > datetime.now(UTC)


def test_a_task_that_is_not_to_be_stored_says_so(envelopes):
    assert "x-gw-store" not in one(envelopes, "proj.add", [], {})[1].headers
    assert one(envelopes, "proj.add", [], {}, store=False)[1].headers["x-gw-store"] == "no"


def test_an_argument_that_is_no_json_is_refused(envelopes):
    with pytest.raises((EncodeError, TypeError)):
        one(envelopes, "proj.add", [object()], {})


OPTIONS = [
    {},
    {"store": False},
    {"priority": 3},
    {"priority": None},
    {"time_limit": 9, "soft_time_limit": 5},
    {"time_limit": 9},
]
ARGUMENTS = [
    ([], {}),
    ([2, 3], {"z": 1}),
    (("ä", None, 1.5, True), {"nested": {"deep": [{}]}}),
    ([datetime(2026, 1, 1, tzinfo=UTC), Decimal("1.5")], {}),
    (["x" * 3000], {"y": "x" * 3000}),
    ([{"a": {"b": {"c": {"d": {"e": [1]}}}}}], {}),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda given: str(given)[:30])
def test_a_message_made_after_another_is_the_one_that_celery_makes(envelopes, observed, options, arguments):
    args, kwargs = arguments
    built = one(envelopes, "proj.add", args, kwargs, task_id="t1", **options)
    assert observed == ["t1"]
    observed.clear()
    before_task_publish.disconnect(before_task_publish.receivers[-1][1]())
    for _ in range(2):
        made = one(envelopes, "proj.add", args, kwargs, task_id="t1", **options)
        published = {"x-published-at": built[1].headers["x-published-at"]}
        assert observed == []
        assert replace(made[1], headers=made[1].headers | published) == built[1]


def test_who_observes_each_message_of_celerys_sees_it(envelopes, observed):
    ids = [one(envelopes, "proj.add", [n], {})[0] for n in range(3)]
    assert observed == ids


def test_who_has_wrapped_celerys_own_function_gives_each_message_its_headers(monkeypatch):
    traces, send_task = iter(range(9)), Celery.send_task

    @wraps(send_task)
    def traced(*args, headers=None, **options):
        return send_task(*args, headers={**headers, "trace": next(traces)}, **options)

    monkeypatch.setattr(Celery, "send_task", traced)
    envelopes = Envelopes(SETTINGS, lambda: "gw.reply.test")
    assert [one(envelopes, "proj.add", [], {})[1].headers["trace"] for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("first", [True, False])
def test_a_task_that_another_sends_has_it_as_parent_and_no_other_message_has(envelopes, first):
    app = Celery("parent", set_as_current=False)

    @app.task(name="parent", shared=False)
    def send():
        return one(envelopes, "proj.add", [2], {})[1].headers

    def lineage(headers):
        return headers["parent_id"], headers["root_id"] == headers["id"]

    alone = [lineage(one(envelopes, "proj.add", [1], {})[1].headers)] if not first else []
    inside = send.apply(task_id="p1").get()
    assert (inside["parent_id"], inside["root_id"]) == ("p1", "p1")
    alone.append(lineage(one(envelopes, "proj.add", [3], {})[1].headers))
    assert set(alone) == {(None, True)}


def test_messages_of_one_kind_share_nothing_but_the_constant(envelopes):
    first, second = (one(envelopes, "proj.add", [n], {}, task_id=f"t{n}")[1] for n in range(2))
    assert (first.headers["id"], second.headers["root_id"]) == ("t0", "t1")
    assert (first.properties["correlation_id"], second.properties["correlation_id"]) == ("t0", "t1")
    assert (json.loads(first.body)[0], json.loads(second.body)[0]) == ([0], [1])


def test_a_new_reply_queue_is_in_the_next_message(monkeypatch):
    queue = "first"
    envelopes = Envelopes(SETTINGS, lambda: queue)
    assert one(envelopes, "proj.add", [], {})[1].properties["reply_to"] == "first"
    queue = "second"
    assert one(envelopes, "proj.add", [], {})[1].properties["reply_to"] == "second"


def test_each_message_has_an_id_of_its_own(envelopes):
    assert one(envelopes, "a", [], {})[0] != one(envelopes, "a", [], {})[0]


@pytest.mark.parametrize(
    ("canvas", "names"),
    [
        (lambda parts, last: chain(*parts, last), ["part"]),  # each step sends the next
        (lambda parts, _: group(parts), ["part"] * 3),
        (chord, ["part"] * 3 + ["celery.chord_unlock"]),
    ],
    ids=["chain", "group", "chord"],
)
def test_every_message_of_a_canvas_is_caught_and_answers_to_us(envelopes, canvas, names):
    parts = [envelopes.signature("part", [n], {}, queue="work") for n in range(3)]
    last = envelopes.signature("last", [], {}, queue="work")
    _, messages = envelopes.canvas(canvas(parts, last))
    assert sorted(message.headers["task"] for message in messages) == sorted(names)
    assert {message.properties["reply_to"] for message in messages} == {"gw.reply.test"}


def test_the_gateway_has_no_publish_handler_but_ours_and_no_router():
    program = f"""
from celery.signals import before_task_publish
from celerykit.envelope import Envelopes
from celerykit.settings import Settings
import gateway.__main__

settings = Settings(broker_url={SETTINGS.broker_url!r}, database_url={SETTINGS.database_url!r})
app = Envelopes(settings, lambda: "r")._app
app.finalize()
print([receiver().__qualname__ for _, receiver in before_task_publish.receivers], app.amqp.router.routes)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['stamp_publish_time'] ()"
