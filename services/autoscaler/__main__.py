"""Start the autoscaler, `python -m autoscaler --config FILE`, or a command of those who tune it."""

import argparse
import asyncio
import errno
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from prometheus_client import REGISTRY, disable_created_metrics
from tornado.httpserver import HTTPServer

from autoscaler import explain
from autoscaler.actuators import ActuationError, Actuator
from autoscaler.config import Config, ConfigError, Kubernetes
from autoscaler.history import History
from autoscaler.loop import QUERY_SECONDS, ConfigFile, Loop
from autoscaler.prometheus import Prometheus
from autoscaler.server import application

TOKEN = "CELERYKIT_DRAIN_TOKEN"  # noqa: S105  # the name of the variable
IDENTITY = "POD_NAME"


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what a caller gives as `extra` becomes keys."""

    _common = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        """Write one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in self._common}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until SIGTERM or SIGINT; bad settings end it with one line and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="autoscaler", description="Match workers to the backlog.")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the YAML file; runs until it is told to end"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    simulated = "replay a load under several policies and compare them; nothing is scaled"
    simulate = commands.add_parser("simulate", help=simulated, description=simulated)
    recommended = "find settings that keep a promise at the least cost, by what Prometheus remembers"
    recommend = commands.add_parser(
        "recommend", help=recommended, description=f"{recommended}, or by a load of yours"
    )
    # A run that scales has no simulator in its memory.
    if "simulate" in arguments:
        from autoscaler.simulator import command

        command.add_to(simulate)
        simulate.set_defaults(run=command.run, refused=command.BadInput)
    if "recommend" in arguments:
        from autoscaler.simulator import command, recommend_command

        recommend_command.add_to(recommend)
        recommend.set_defaults(run=recommend_command.run, refused=command.BadInput)
    explained = "tell what a running autoscaler sees, what it decided, and why"
    told = commands.add_parser("explain", help=explained, description=explained)
    explain.add_to(told)
    told.set_defaults(run=explain.run, refused=explain.NoAnswer)
    options = parser.parse_args(arguments)
    if options.command is not None:
        if options.config is not None:
            parser.error(f"--config is for a run that scales, and says nothing to {options.command}")
        _print(options)
        return
    if options.config is None:
        parser.error("--config FILE is required, or a command: simulate, recommend, explain")
    path: Path = options.config
    try:
        file = ConfigFile(path)
    except (ConfigError, OSError) as error:
        _exit(f"{path}: {error}" if isinstance(error, ConfigError) else str(error))
    token = os.environ.get(TOKEN, "")
    if not token:
        _exit(f"{TOKEN}: is required: the bearer token of the workers' /drain and /undrain")
    if not (token.isascii() and token.isprintable()):
        _exit(f"{TOKEN}: must be printable ASCII without line breaks, as it goes into an HTTP header")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # They would double what is scraped, and nobody asks for them.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        asyncio.run(_serve(file, token))
    except ActuationError as error:
        _exit(str(error))


def _print(options: argparse.Namespace) -> None:
    try:
        print(options.run(options))
    except options.refused as error:
        _exit(str(error))


def _actuator(config: Config, token: str) -> Actuator:
    """Make the configured actuator, and load only what that one needs."""
    if isinstance(config.actuator, Kubernetes):
        from autoscaler.actuators.kubernetes import KubernetesActuator

        identity = os.environ.get(IDENTITY, "")
        if not identity:
            _exit(f"{IDENTITY}: is required with actuator.kind kubernetes: the name of this autoscaler's pod")
        timeout = min(QUERY_SECONDS, config.tick_seconds)
        return KubernetesActuator(config.actuator, config.mode, token, identity, timeout, REGISTRY)
    from autoscaler.actuators.processes import ProcessActuator

    try:
        return ProcessActuator(config.actuator, token)
    except OSError as error:
        _exit(f"actuator.directory and actuator.logDirectory must be folders that can be written: {error}")


async def _serve(file: ConfigFile, token: str) -> None:
    config = file.current
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with ExitStack() as stack:
        actuator = _actuator(config, token)
        stack.callback(actuator.close)
        timeout = min(QUERY_SECONDS, config.tick_seconds)
        asked = (config.prometheus_url, timeout, config.prometheus_labels, config.worker_labels)
        prometheus = Prometheus(*asked)
        stack.callback(prometheus.close)
        history = History(*asked)
        stack.callback(history.close)
        loop = Loop(file, prometheus, actuator, REGISTRY, history=history)
        server = HTTPServer(application(loop), max_body_size=1024, idle_connection_timeout=60)
        try:
            server.listen(config.port, config.host)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                _exit(f"port: {config.port} on {config.host} is taken; choose a free one")
            _exit(f"host, port: cannot listen on {config.host}:{config.port}: {error}")
        stack.callback(server.stop)
        acting = asyncio.create_task(actuator.run())
        ticking = asyncio.create_task(loop.run())
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({acting, ticking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        # In this order: who gives the lease back must not act any more.
        tasks: tuple[asyncio.Task[Any], ...] = (stopping, ticking, acting)
        for task in tasks:
            task.cancel()
            await asyncio.wait({task})
        for task in done - {stopping}:
            task.result()  # a fault of ours: end with its traceback, the workers go on


def _exit(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
