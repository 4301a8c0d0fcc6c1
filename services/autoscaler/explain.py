"""The command `autoscaler explain`: what a running autoscaler says of itself, for people."""

import argparse
import json
from typing import Any
from urllib.parse import urlsplit

from tornado.httpclient import HTTPClient, HTTPError

SECONDS = 5.0
SHOWN = 5  # decisions


class NoAnswer(ValueError):
    """There is nothing to explain; one line says why."""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    url = "where the autoscaler listens (%(default)s)"
    parser.add_argument("--url", default="http://127.0.0.1:8002", metavar="URL", help=url)
    parser.add_argument("--pool", metavar="NAME", help="this one alone")
    parser.add_argument("--json", action="store_true", help="as the autoscaler says it, with all of it")


def run(options: argparse.Namespace) -> str:
    """Ask, and give what is to be printed; raises NoAnswer."""
    said = _ask(options.url)
    pools = said["pools"]
    if options.pool is not None:
        if options.pool not in pools:
            known = ", ".join(pools) or "none yet"
            raise NoAnswer(f"pool: {options.pool!r} is not known to {options.url}; known are {known}")
        pools = {options.pool: pools[options.pool]}
    if options.json:
        return json.dumps(said | {"pools": pools}, indent=1)
    return "\n\n".join([_head(said), *(_pool(name, pool) for name, pool in pools.items())])


def _ask(url: str) -> dict[str, Any]:
    if urlsplit(url).scheme not in {"http", "https"}:
        raise NoAnswer(f"url: {url!r} must look like http://HOST:PORT")
    client = HTTPClient()
    try:
        answer = client.fetch(url.rstrip("/") + "/explain", request_timeout=SECONDS, connect_timeout=SECONDS)
        said: dict[str, Any] = json.loads(answer.body)
        return said
    except (HTTPError, OSError, ValueError) as error:
        raise NoAnswer(f"url: no autoscaler answers at {url}: {error}") from error
    finally:
        client.close()


def _head(said: dict[str, Any]) -> str:
    lines = [f"mode {said['mode']}, {'leading' if said['leading'] else 'following ' + str(said['leader'])}"]
    if problem := said["config"]["problem"]:
        lines.append(f"the new configuration is refused: {problem}")
    lines += [f"{name}: nothing is known of its workers: {why}" for name, why in said["unseen"].items()]
    return "\n".join(lines)


def _pool(name: str, pool: dict[str, Any]) -> str:
    inputs = ", ".join(
        f"{one['queue']} {one['signal']} {one['value']:g} ({one['ageSeconds']:.0f} s ago)"
        for one in pool["inputs"]
        if one["value"] is not None
    )
    lines = [
        f"{name}: {pool['wanted']} workers are wanted, {pool['ready']} are ready, {pool['draining']} drain",
        f"  seen     {pool['inputProblem'] or inputs}",
    ]
    if pool["terms"]:
        terms = (f"{term} {value:.4g}" for term, value in pool["terms"].items() if value is not None)
        lines.append(f"  terms    {', '.join(terms)}")
    before = (decision for decision in pool["decisions"] if decision != pool["last"])
    for decision in [pool["last"], *before][: SHOWN + 1]:
        change = f"{decision['from']} -> {decision['to']}"
        trouble = f" (could not be done: {decision['problem']})" if decision["problem"] else ""
        what = f"{decision['action']} {change} {decision['reason']}: {decision['words']}{trouble}"
        lines.append(f"  {decision['at'][11:19]} {what}")
    return "\n".join(lines)
