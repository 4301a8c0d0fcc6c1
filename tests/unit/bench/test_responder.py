"""The bench's responder speaks AMQP and the worker's wire format as pamqp and the link read them."""

import json
import time

import pytest
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from tests.bench.responder import Answers

BODY = b'[["hello"], {}, {"callbacks": null}]'


def delivery(tag, **properties):
    parts = (
        commands.Basic.Deliver("consumer", tag, exchange="default", routing_key="default"),
        ContentHeader(0, len(BODY), commands.Basic.Properties(**properties)),
        ContentBody(BODY),
    )
    return b"".join(frame.marshal(part, 1) for part in parts)


def task(tag, task_id="one", reply_to="replies", **properties):
    sent = {"content_type": "application/json", "content_encoding": "utf-8", "headers": {"id": task_id}}
    return delivery(tag, **sent, delivery_mode=2, correlation_id=task_id, reply_to=reply_to, **properties)


def read(written):
    """All frames of what was written."""
    found = []
    while written:
        size, _, part = frame.unmarshal(written)
        written = written[size:]
        found.append(part)
    return found


@pytest.mark.parametrize("more", [{}, {"priority": 3}])
def test_a_task_is_answered_as_a_worker_does_and_acknowledged(more):
    publish, header, body, ack = read(Answers().to(task(7, **more)))
    assert (publish.exchange, publish.routing_key) == ("", "replies")
    assert header.properties.correlation_id == "one"
    assert header.properties.content_type == "application/json"
    assert header.body_size == len(body.value)
    meta = json.loads(body.value)
    assert meta.pop("date_done").startswith(str(time.gmtime().tm_year))
    assert meta == {
        "status": "SUCCESS",
        "result": "hello",
        "traceback": None,
        "children": [],
        "task_id": "one",
    }
    assert (ack.delivery_tag, ack.multiple) == (7, True)


def test_what_comes_at_once_is_acknowledged_at_once():
    written = read(Answers().to(task(1, "one") + task(2, "two") + task(3, "three, longer")))
    ids = [part.properties.correlation_id for part in written if isinstance(part, ContentHeader)]
    assert ids == ["one", "two", "three, longer"]
    assert [part.delivery_tag for part in written if isinstance(part, commands.Basic.Ack)] == [3]


def test_frames_may_come_in_any_pieces():
    answers, whole = Answers(), task(1) + task(2)
    written = b"".join(answers.to(bytes([byte])) for byte in whole)
    assert [part.delivery_tag for part in read(written) if isinstance(part, commands.Basic.Ack)] == [1, 2]
    assert written.count(b'"hello"') == 2


def test_who_does_not_wait_is_not_answered():
    (ack,) = read(Answers().to(delivery(5, content_type="application/json", correlation_id="one")))
    assert ack.delivery_tag == 5


def test_the_broker_may_end_it():
    closed = frame.marshal(commands.Channel.Close(406, "PRECONDITION_FAILED", 0, 0), 1)
    with pytest.raises(ConnectionError, match="Close"):
        Answers().to(closed)
