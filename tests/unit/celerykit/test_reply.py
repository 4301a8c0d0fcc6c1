"""Messages that nobody confirms, without a broker."""

import subprocess
import sys
import time

import pytest
from celery import Celery

from celerykit.profile import configure
from celerykit.reply import Publisher
from celerykit.settings import Settings

SILENT = """
from gevent import monkey
monkey.patch_all()
import time
from unittest.mock import Mock
from celerykit import reply

reply.TIMEOUT = 0.1
app = Mock()
connection = app.connection_for_write.return_value.clone.return_value
connection.ensure_connection.return_value.channel = lambda: time.sleep(60)
try:
    reply.Publisher(app).publish("", "", "q")
except TimeoutError as error:
    print(error)
"""


@pytest.mark.parametrize("tries", [1, 2])
def test_a_broker_that_refuses_costs_little_time(tries):
    app = Celery("test", set_as_current=False)
    configure(app, Settings(broker_url="amqp://u:p@127.0.0.1:1/v", database_url="mysql://u:p@127.0.0.1:1/d"))
    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        Publisher(app, tries).publish("", exchange="", routing_key="q")
    assert time.monotonic() - began < 1.5


def test_a_broker_that_falls_silent_is_not_waited_for_with_gevent():
    ended = subprocess.run(
        [sys.executable, "-c", SILENT], capture_output=True, text=True, timeout=20, check=True
    )
    assert ended.stdout == "the broker said nothing for 0.1 s\n"
