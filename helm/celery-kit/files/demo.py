"""The demo: a bounded load at a steady rate, so that one can watch the workers follow it.

Runs in the gateway's image, which has all that it needs. Every 10 seconds it says how its tasks fare, and it
ends once all are answered. It fails if the gateway never got ready, or a task failed.
"""

import asyncio
import json
import os
import sys
from collections import Counter

from tornado.httpclient import AsyncHTTPClient, HTTPError

URL = os.environ["GATEWAY_URL"]
TASK = os.environ["TASK"]
RATE = float(os.environ["TASKS_PER_SECOND"])
TASK_SECONDS = float(os.environ["TASK_SECONDS"])
SECONDS = float(os.environ["MINUTES"]) * 60
WAIT_SECONDS = int(os.environ["WAIT_SECONDS"])  # the longest that the gateway lets one wait
LINE_SECONDS = 10
READY_SECONDS = 300
MOST_AT_ONCE = 500

HEADERS = {"Content-Type": "application/json", "Prefer": f"wait={WAIT_SECONDS}"}
if key := os.environ.get("API_KEY"):
    HEADERS["X-API-Key"] = key

http = AsyncHTTPClient(max_clients=MOST_AT_ONCE)
counts: Counter[str] = Counter()


def say(words: str) -> None:
    """Print at once."""
    print(words, flush=True)  # noqa: T201


async def ready() -> None:
    """Wait for the gateway, which may be as new as we are."""
    for _ in range(READY_SECONDS):
        try:
            if (await http.fetch(f"{URL}/readyz", raise_error=False)).code == 200:
                return
        except (HTTPError, OSError):
            pass
        await asyncio.sleep(1)
    sys.exit(f"the gateway was not ready within {READY_SECONDS} s")


async def one() -> None:
    """Send a task and wait for its answer."""
    body = json.dumps({"kwargs": {"seconds": TASK_SECONDS}})
    counts["sent"] += 1
    try:
        answer = await http.fetch(
            f"{URL}/v1/tasks/{TASK}",
            method="POST",
            headers=HEADERS,
            body=body,
            raise_error=False,
            request_timeout=WAIT_SECONDS + 10,
        )
    except (HTTPError, OSError) as error:
        counts[f"failed ({error})"] += 1
        return
    # a task that waits for longer than a request may is done all the same
    what = {200: "answered", 202: "accepted", 429: "refused", 503: "refused"}
    counts[what.get(answer.code, f"failed (HTTP {answer.code})")] += 1


def line(seconds: float) -> str:
    """How all is at this time."""
    over = {what: number for what, number in counts.items() if what != "sent"}
    waiting = counts["sent"] - sum(over.values())
    told = {"sent": counts["sent"], "answered": over.pop("answered", 0), "waiting": waiting} | over
    return f"{seconds:4.0f} s  " + ", ".join(f"{number} {what}" for what, number in told.items())


async def report(began: float) -> None:
    """Say how all is, again and again."""
    clock = asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(LINE_SECONDS - (clock() - began) % LINE_SECONDS)
        say(line(clock() - began))


async def main() -> None:
    """Send at the rate for the time, then wait for the last answer."""
    await ready()
    say(f"sending {RATE:g} tasks a second of {TASK_SECONDS:g} s each, for {SECONDS:g} s")
    clock = asyncio.get_running_loop().time
    began = clock()
    reporting = asyncio.create_task(report(began))
    running: set[asyncio.Task[None]] = set()
    for number in range(round(RATE * SECONDS)):
        await asyncio.sleep(began + number / RATE - clock())
        if clock() - began >= SECONDS:  # one that could not keep the rate does not make up for it
            break
        if len(running) < MOST_AT_ONCE:
            task = asyncio.create_task(one())
            running.add(task)
            task.add_done_callback(running.discard)
    if running:
        await asyncio.wait(running)
    reporting.cancel()
    say(line(clock() - began) + "; the workers go again now")
    if not counts["answered"] or any(what.startswith("failed") for what in counts):
        sys.exit("not all went well")


asyncio.run(main())
