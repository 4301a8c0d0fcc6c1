"""Many clients that connect at the same moment."""

import signal
import socket
from contextlib import ExitStack

import pytest

pytestmark = pytest.mark.integration

CLIENTS = 500
SECONDS = 0.9  # the kernel tries again after one, if there was no room for a connection


def test_hundreds_connect_at_once_while_the_gateway_is_busy(start_gateway):
    gateway = start_gateway()
    gateway.process.send_signal(signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            for _ in range(CLIENTS):
                stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), timeout=SECONDS))
    finally:
        gateway.process.send_signal(signal.SIGCONT)
    assert gateway.get("/healthz").status == 200
