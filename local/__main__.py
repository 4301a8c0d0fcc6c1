"""`python -m local demo|up|down`: the kit on this machine.

Exit codes: 0 all went well, 1 something did not, 2 it cannot be done as asked, 128 + N signal N came.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import msgspec
from pymysql import MySQLError
from tornado.httpclient import HTTPClientError

from celerykit.schema import SchemaError
from local.demo import Demo
from local.kit import Kit
from local.ports import Ports, PortTakenError
from local.process import StartError, say
from local.run import ROOT, BusyError, Run

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RefusedError(Exception):
    """What was asked for cannot be done now."""


def main() -> int:
    """Run one command."""
    arguments = _arguments()
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup is obeyed
            signal.signal(number, _interrupted)
    try:
        run = Run(arguments.home, Ports(arguments.ports))
        with run.locked():
            return {"demo": demo, "up": up, "down": down}[arguments.command](Kit(run))
    except (BusyError, PortTakenError, RefusedError) as error:
        print(f"local: {error}", file=sys.stderr)
        return 2
    except (StartError, SchemaError, MySQLError, HTTPClientError, OSError) as error:
        print(f"local: {error}", file=sys.stderr)
        return 1


def demo(kit: Kit) -> int:
    """Show the kit at work and leave nothing running."""
    if kit.is_up:
        raise RefusedError("the kit is running: end it with `make down` first")
    with _ending(kit):
        _clear(kit)
        kit.start()
        shown = Demo(kit)
        figures = asyncio.run(shown.run())
    say("\nTo look around yourself, `make up`, then:")
    _tell(kit)
    say(msgspec.json.encode(figures).decode())
    return 1 if shown.problems else 0


def up(kit: Kit) -> int:
    """Start the kit and leave it running."""
    if kit.is_up:
        say("the kit is running already")
    else:
        with _ending(kit, only_failed=True):
            _clear(kit)
            kit.start()
            kit.keep()
    _tell(kit)
    say("\n`make down` ends it.")
    return 0


def down(kit: Kit) -> int:
    """End the kit."""
    with _ending(kit):
        return 0


def _clear(kit: Kit) -> None:
    """End what a run that was killed left behind."""
    if kit.run.processes.strays():
        say("ending what an earlier run left behind")
        kit.stop()


@contextmanager
def _ending(kit: Kit, *, only_failed: bool = False) -> Iterator[None]:
    """End everything afterwards, whatever happens; a signal is no reason to leave something running."""
    failed = True
    try:
        yield
        failed = False
    finally:
        try:
            _ignore_signals()  # a last one may still come before this has worked
        finally:
            if failed or not only_failed:
                say("\nending everything")
                kit.stop()
                say("nothing is left running")


def _tell(kit: Kit) -> None:
    ports, secrets = kit.run.ports, kit.run.secrets
    pages = {
        "a slow query": f"{kit.url(ports.gateway)}/mysql_query/1?delay=3",
        "a quick answer": f"{kit.url(ports.gateway)}/i_want_you_now",
        "why so many workers": f"{kit.url(ports.autoscaler)}/explain",
        "Flower": f"{kit.url(ports.flower)}  (kit / {secrets.flower})",
        "RabbitMQ": f"{kit.url(ports.management)}  (kit / {secrets.rabbitmq})",
        "Prometheus": kit.url(ports.prometheus),
        "how it scales": f"{kit.run.home / 'config' / 'autoscaler.yaml'}  (read again when it changes)",
        "logs": str(kit.run.processes.logs),
    }
    for what, where in pages.items():
        say(f"  {what:<20} {where}")


def _interrupted(number: int, _frame: FrameType | None) -> None:
    """Leave by way of the clean-up, which a second signal must not disturb."""
    _ignore_signals()
    raise SystemExit(128 + number)


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local", description="the whole kit on this machine")
    parser.add_argument("command", choices=["demo", "up", "down"])
    parser.add_argument(
        "--home", type=Path, default=ROOT / ".run", help="folder of everything that is written"
    )
    parser.add_argument("--ports", type=int, default=17000, help="first of a block of 200 ports")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
