"""`python -m gateway`: serve until SIGTERM or SIGINT."""

import argparse
import asyncio
import gc
import logging
import os
import random
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
from prometheus_client import disable_created_metrics
from tornado.netutil import bind_sockets

from celerykit.link import Link
from celerykit.results import Database
from celerykit.settings import Settings, exit_with, load_or_exit
from gateway import catalogue, logs
from gateway.app import Gateway, make_server
from gateway.catalogue import Task
from gateway.operations import DatabaseUnavailable, OperationStore
from gateway.queries import Queries
from gateway.settings import PREFIX, GatewaySettings

PURGE_SECONDS = 60
BACKLOG = 4096  # connections that wait to be taken: of a burst, those beyond it would come a second later

log = logging.getLogger("gateway")


def main() -> None:
    """Read the settings, take the port, serve; exit code 2 and one line if a setting is wrong."""
    argparse.ArgumentParser(
        prog="gateway",
        description="The web front of Celery; its settings are variables, see docs/settings.md.",
    ).parse_args()
    settings, own = load_or_exit(Settings), load_or_exit(GatewaySettings, prefix=PREFIX)
    try:
        tasks = catalogue.load(Path(own.catalogue) if own.catalogue else catalogue.EXAMPLE)
    except catalogue.CatalogueError as error:
        exit_with(f"{PREFIX}CATALOGUE: {error}")
    try:
        sockets = bind_sockets(own.port, own.host, backlog=BACKLOG)
    except OSError as error:
        exit_with(
            f"{PREFIX}PORT: cannot listen on {own.host}:{own.port}: {error.strerror}; choose a free one"
        )
    logs.configure(own.log_level)
    # they would double the series, and nobody asks for them
    disable_created_metrics()  # type: ignore[no-untyped-call]
    asyncio.run(serve(settings, own, tasks, sockets))


async def serve(
    settings: Settings, own: GatewaySettings, tasks: Mapping[str, Task], sockets: list[socket.socket]
) -> None:
    """Serve on the sockets until a signal, then let requests end."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    database = Database(
        settings.database_url, size=own.database_connections, timeout=own.database_timeout_seconds
    )
    queues = {name: task.queue for name, task in tasks.items()}
    link = Link(
        msgspec.structs.replace(settings, queues=tuple(sorted(set(queues.values())))),
        queues=queues,
        foreign={task.queue for task in tasks.values() if task.foreign},
        max_in_flight=own.max_in_flight,
        database=database,
    )
    operations = OperationStore(database, timeout=own.database_timeout_seconds)
    queries = Queries(settings.database_url, own.example_threads) if own.examples else None
    gateway = Gateway(own, tasks, link, operations, queries)
    server = make_server(gateway)
    await link.start()
    gc.freeze()  # what is there now stays: a collection need not look through all of Celery, amid requests
    background = [asyncio.create_task(gateway.metrics.watch_loop()), asyncio.create_task(_purge(operations))]
    server.add_sockets(sockets)
    for listener in sockets:
        host, port = listener.getsockname()[:2]
        log.info("listening on %s port %d, pid %d", host, port, os.getpid())
    await stop.wait()
    log.info("stopping: %d requests under way", gateway.requests)
    gateway.stopping = True
    server.stop()
    with suppress(TimeoutError):
        await asyncio.wait_for(gateway.idle.wait(), own.shutdown_seconds)
    if gateway.requests:
        link.end_waits()  # who still waits gets a 202 for what the broker has
        with suppress(TimeoutError):
            await asyncio.wait_for(gateway.idle.wait(), own.database_timeout_seconds)
    await server.close_all_connections()
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    await gateway.foreign.close()
    await link.close()
    if queries:
        queries.close()
    log.info("stopped")


async def _purge(operations: OperationStore) -> None:
    """Forget expired operations for ever; several gateways do so at different moments."""
    while True:
        await asyncio.sleep(PURGE_SECONDS * random.uniform(0.5, 1.5))
        with suppress(DatabaseUnavailable):  # which has been logged
            await operations.purge()


if __name__ == "__main__":
    main()
