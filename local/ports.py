"""The ports of one run: a block of its own on 127.0.0.1."""

import random
import socket

import psutil

HOST = "127.0.0.1"
BLOCK = 200


class PortTakenError(Exception):
    """Somebody else listens on a port of ours; the message names the port and its owner."""


class Ports:
    """Every port of a run, counted from the start of its block."""

    def __init__(self, base: int = 17000) -> None:
        self.gateway = base
        self.autoscaler = base + 2
        self.mysql = base + 6
        self.flower = base + 55
        self.epmd = base + 69  # Erlang's port mapper, which RabbitMQ needs
        self.amqp = base + 72
        self.management = base + 73
        self.rabbitmq_metrics = base + 74
        self.distribution = base + 75  # RabbitMQ's Erlang distribution
        self.prometheus = base + 90
        self.fixed: dict[str, int] = dict(vars(self))
        self.claim = base + 99
        self.workers = (base + 100, base + BLOCK - 1)  # first and last

    @classmethod
    def free(cls) -> "Ports":
        """Find a block of which no port is taken, below the range that the kernel hands out.

        Until this process ends it listens on one of them, so that others who search pass the block over.
        """
        blocks = range(20000, 32000, BLOCK)
        for base in random.sample(blocks, len(blocks)):
            ports = cls(base)
            claim = socket.socket()
            try:
                claim.bind((HOST, ports.claim))
                claim.listen()
            except OSError:
                claim.close()
                continue
            if not any(taken(port) for port in range(base, base + BLOCK) if port != ports.claim):
                claim.detach()
                return ports
            claim.close()
        raise PortTakenError("no free block of ports between 20000 and 32000")

    def spare(self) -> int:
        """Find a port among those of the workers on which nobody listens."""
        first, last = self.workers
        return next(port for port in range(first, last + 1) if not taken(port))


def taken(port: int) -> bool:
    """Whether somebody listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def require_free(name: str, port: int) -> None:
    """Raise PortTakenError if the port that `name` needs is taken."""
    if taken(port):
        raise PortTakenError(f"port {port}, which {name} needs, is taken by {owner(port)}")


def owner(port: int) -> str:
    """Who listens on the port: process id and command, as far as this user may know it."""
    for connection in psutil.net_connections("tcp"):
        here = connection.laddr and connection.laddr.port == port
        if here and connection.status == psutil.CONN_LISTEN and connection.pid:
            try:
                return f"pid {connection.pid}: {' '.join(psutil.Process(connection.pid).cmdline())}"
            except psutil.Error:
                return f"pid {connection.pid}"
    return "a process of another user"
