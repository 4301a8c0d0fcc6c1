"""A thousand requests that wait at once on one gateway process: do all end well, at which cost a wait.

Prints one JSON object and writes it to build/bench/waits.json: `sent`, `waiting_at_once`, `ended_well`,
`kib_per_wait` (resident memory of the gateway with that many waiting, less that at rest), `loop_lag_p99_ms`
and `loop_lag_max_ms` (upper bounds of the histogram's buckets), and `seconds` from the first request to the
last answer, of which the tasks are delayed for five.

Fails if they never waited all at once, a request did not end well or a wait takes too much memory; times
depend on the machine.
"""

import asyncio
import json
import tempfile
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tornado.httpclient import AsyncHTTPClient

from local.http import request
from local.kit import Kit
from local.ports import Ports
from local.run import ROOT, Run

WAITS = 1000
DELAY_SECONDS = 5
MOST_KIB_PER_WAIT = 64
LAG = "gateway_event_loop_lag_seconds_bucket"


def lag_buckets(gateway: str) -> dict[float, float]:
    """The loop's lag so far: looks at the loop by upper bound in seconds, cumulative."""
    families = text_string_to_metric_families(request("GET", f"{gateway}/metrics")[1].decode())
    samples = (sample for family in families for sample in family.samples)
    return {float(sample.labels["le"]): sample.value for sample in samples if sample.name == LAG}


def quantile(buckets: dict[float, float], q: float) -> float:
    """The upper bound, in milliseconds, of the bucket that holds the quantile."""
    return 1000 * min(bound for bound, count in buckets.items() if count >= q * max(buckets.values()))


async def measure(kit: Kit) -> dict[str, float]:
    """Send all requests at once, look at the gateway while they wait, and await them."""
    gateway = kit.url(kit.run.ports.gateway)
    process = kit.run.processes.find("gateway")
    assert process is not None
    client = AsyncHTTPClient(force_instance=True, max_clients=WAITS)
    body = json.dumps({"args": [1], "options": {"countdown": DELAY_SECONDS}})
    headers = {"Content-Type": "application/json", "Prefer": "wait=50"}

    async def call() -> bool:
        answer = await client.fetch(
            f"{gateway}/v1/tasks/task.echo",
            method="POST",
            headers=headers,
            body=body,
            request_timeout=60,
            raise_error=False,
        )
        return answer.code == 200 and json.loads(answer.body)["result"] == 1

    await call()  # connections, imports, templates: what is paid once
    before, lag_before, loop = process.memory_info().rss, lag_buckets(gateway), asyncio.get_running_loop()
    began = loop.time()
    calls = [asyncio.create_task(call()) for _ in range(WAITS)]
    waiting = 0.0
    while waiting < WAITS and loop.time() - began < DELAY_SECONDS:
        text = (await asyncio.to_thread(request, "GET", f"{gateway}/metrics"))[1].decode()
        waiting = float(text.partition("\ngateway_waits_in_flight ")[2].partition("\n")[0])
    during = process.memory_info().rss
    ended = await asyncio.gather(*calls)
    seconds = loop.time() - began
    client.close()
    lag = {bound: count - lag_before[bound] for bound, count in lag_buckets(gateway).items()}
    return {
        "sent": WAITS,
        "waiting_at_once": waiting,
        "ended_well": sum(ended),
        "kib_per_wait": round((during - before) / 1024 / max(waiting, 1), 2),
        "loop_lag_p99_ms": quantile(lag, 0.99),
        "loop_lag_max_ms": quantile(lag, 1),
        "seconds": round(seconds, 2),
    }


def main() -> None:
    """Run it on a kit of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as home:
        kit = Kit(Run(Path(home), Ports.free()))
        try:
            kit.start()
            figures = asyncio.run(measure(kit))
        finally:
            kit.stop()
    report = ROOT / "build" / "bench" / "waits.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(figures) + "\n")
    print(json.dumps(figures))  # noqa: T201
    if figures["waiting_at_once"] != WAITS:
        raise SystemExit(f"{figures['waiting_at_once']:g} of {WAITS} requests waited at once, not all")
    if figures["ended_well"] < WAITS:
        raise SystemExit(f"{WAITS - figures['ended_well']:g} of {WAITS} requests did not end well")
    if figures["kib_per_wait"] > MOST_KIB_PER_WAIT:
        raise SystemExit(f"a wait takes {figures['kib_per_wait']:g} KiB, more than {MOST_KIB_PER_WAIT}")


if __name__ == "__main__":
    main()
