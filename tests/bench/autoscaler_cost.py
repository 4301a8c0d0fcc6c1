"""What the autoscaler costs: a day with a thousand pools, and a minute of rest with one.

Prints one JSON object and writes it to build/bench and docs/figures, of which docs/performance.md is made.
The thousand pools are those of `tests.bench.many_pools`. Their day passes as fast as its ticks do: after it,
and a quarter of an hour with a tick every five seconds, all that is kept for a time or in a number is there.
Meanwhile the program is asked for its metrics every few ticks, and at times to explain itself. All but a
cluster's actuator and its look at the workers is the program's own, which has loaded that, too.
`cpu_seconds_per_tick` and `seconds_per_tick` are medians of the last quarter of an hour, the second on a busy
machine much more; `answer_mib` is what Prometheus answers at one tick, `rss_mib` what is resident at the end
and `peak_rss_mib` the most from the start on, by the kernel. Of the program with one pool, which ticks every
five seconds and has nothing to do: `idle_cpu_share` (of one core) and `idle_rss_mib`.

Fails if a tick takes more than a second of CPU, the program ever more than 64 MiB, or at rest more than a
hundredth of a core.
"""

import asyncio
import json
import os
import re
import sys
import tempfile
import time
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import msgspec
import psutil
from tornado.httpclient import AsyncHTTPClient, HTTPError

from local.ports import HOST, Ports
from local.run import ROOT
from tests.bench import many_pools
from tests.unit.autoscaler.fake_prometheus import FakePrometheus, serving

POOLS = 1000
REPORTS = tuple(ROOT / folder / "autoscaler_cost.json" for folder in ("build/bench", "docs/figures"))
REST_SECONDS = 60
PAGES = (*["/metrics"] * 19, "/explain")
MIB = 2**20
MOST_TICK_SECONDS, MOST_MIB, MOST_REST_SHARE = 1.0, 64, 0.01


def configure(path: Path, pools: int, url: str, port: int = 8002) -> None:
    """Write the autoscaler's file."""
    config = {
        "prometheusUrl": url,
        "host": "127.0.0.1",
        "port": port,
        "worker": {
            "pools": {
                f"pool-{n}": {"queues": [f"queue-{n}"], "autoscale": {"minWorkers": 0}} for n in range(pools)
            }
        },
        "actuator": {
            "kind": "processes",
            "directory": str(path.parent / "workers"),
            "logDirectory": str(path.parent / "log"),
            "command": ["true"],
            "ports": {"from": 1, "to": 65535},
        },
    }
    path.write_bytes(msgspec.yaml.encode(config))


def allocator() -> dict[str, str]:
    """What the image sets of how memory is given back."""
    return dict(re.findall(r"\b(MALLOC_\w+)=(\d+)", (ROOT / "Dockerfile").read_text()))


async def many(path: Path, port: int) -> dict[str, float]:
    """Play Prometheus for a process that ticks, and look at what it shows."""
    with many_pools.serving(POOLS) as (played, url):
        configure(path, POOLS, url, port)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.ticking", str(path)),
            cwd=ROOT,
            env=os.environ | allocator(),
            stdout=asyncio.subprocess.PIPE,
        )
        looking = asyncio.create_task(look(f"http://{HOST}:{port}"))
        told, _ = await process.communicate()
        looking.cancel()
        assert process.returncode == 0
        found: dict[str, float] = json.loads(told.splitlines()[-1])
        return {"answer_mib": round(sum(played.told.values()) / MIB, 1)} | found


async def look(url: str) -> None:
    """Ask for its pages until cancelled."""
    client = AsyncHTTPClient()
    for page in cycle(PAGES):
        with suppress(HTTPError, OSError):  # it has not begun
            await client.fetch(url + page, request_timeout=60)
        await asyncio.sleep(2)


async def rest(fake: FakePrometheus, path: Path, port: int) -> dict[str, float]:
    """Play Prometheus for the program, which has nothing to do."""
    fresh = time.time() + 2 * REST_SECONDS
    fake.date = None
    fake.answers(*((name, "/", "queue-0", [(fresh, "0")]) for name in ("ready", "unacked")))
    configure(path, 1, fake.url, port)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "autoscaler", "--config", str(path)),
        cwd=ROOT,
        env=os.environ
        | allocator()
        | {"CELERYKIT_DRAIN_TOKEN": "token", "PYTHONPATH": str(ROOT / "services")},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        while len(fake.queries) < 4:  # noqa: ASYNC110  # it has begun, and ticked twice
            await asyncio.sleep(0.1)
        program = psutil.Process(process.pid)
        before = program.cpu_times()
        await asyncio.sleep(REST_SECONDS)
        after = program.cpu_times()
        used = after.user + after.system - before.user - before.system
        return {
            "idle_cpu_share": round(used / REST_SECONDS, 4),
            "idle_rss_mib": round(program.memory_info().rss / MIB, 1),
        }
    finally:
        process.terminate()
        await process.wait()


async def measure(folder: Path) -> dict[str, float]:
    """Measure the one after the other."""
    path, port = folder / "autoscaler.yaml", Ports.free().autoscaler
    found = await many(path, port)
    async with serving() as fake:
        return {"pools": POOLS} | found | await rest(fake, path, port)


def main() -> None:
    """Measure, print and write."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder)))
    text = json.dumps(found, indent=2)
    sys.stdout.write(text + "\n")
    for target in REPORTS:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")
    if found["cpu_seconds_per_tick"] > MOST_TICK_SECONDS:
        raise SystemExit(f"a tick over {POOLS} pools takes more than {MOST_TICK_SECONDS:g} s of CPU")
    if max(found["peak_rss_mib"], found["idle_rss_mib"]) > MOST_MIB:
        raise SystemExit(f"it takes more than {MOST_MIB} MiB")
    if found["idle_cpu_share"] > MOST_REST_SHARE:
        raise SystemExit(f"at rest it takes more than {MOST_REST_SHARE:.0%} of a core")


if __name__ == "__main__":
    main()
