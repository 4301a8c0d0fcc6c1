"""A Prometheus that tells of many pools over a day: their queues are on a cluster of three nodes.

All is played, at the moments of `MOMENTS`: each question about the broker moves the time on to the next of
them, as each tick asks one. Every pool has busy and quiet minutes, half of them while the others have not.
Every half an hour each has another worker in place of one that went.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

HOST = "127.0.0.1"
WORKERS, NODES, SLOTS = 3, 3, 2
SCRAPES, SCRAPE_SECONDS = 6, 5.0  # in a range of 30 s
PAST_SECONDS, PAST_STEP_SECONDS = 600, 15.0  # that are asked for when nothing is known
PHASE_SECONDS = 60.0  # busy, then quiet
LIFE_SECONDS = 1800.0  # of one worker of each pool
START = 1_800_000_000.0
DAY_SECONDS, SPARSE_SECONDS = 86400, 300  # so far apart are its ticks, as the daily profile is no finer
LAST_SECONDS, TICK_SECONDS = 900, 5  # after it, with the ticks that the program has
# when there is a tick, in unix seconds
MOMENTS = (
    *(START + seconds for seconds in range(0, DAY_SECONDS, SPARSE_SECONDS)),
    *(START + DAY_SECONDS + seconds for seconds in range(0, LAST_SECONDS, TICK_SECONDS)),
)
DENSE = DAY_SECONDS // SPARSE_SECONDS  # the first of the latter
LABELS = {  # that a cluster adds
    "job": "kit-rabbitmq",
    "namespace": "team",
    "service": "kit-rabbitmq-headless",
    "container": "rabbitmq",
    "endpoint": "metrics",
}


class Played:
    """What is told of so many pools, and how much of it there was for the last tick, in bytes."""

    def __init__(self, pools: int) -> None:
        self.ticks = 0
        self.told: dict[str, int] = {}
        self._counted = 0  # how often the workers were asked
        self._broker = list(_broker_series(pools))
        self._pools = pools

    def answer(self, query: str) -> tuple[float, bytes]:
        """Give the time, and what is told then."""
        if "vector(time())" in query:
            queues = {int(number) for number in re.findall(r"queue\W+(\d+)", query)}
            return MOMENTS[0], _answer("matrix", _past(sorted(queues), MOMENTS[0]))
        if "worker_task_finished_total" in query:
            now = MOMENTS[self._counted]
            self._counted += 1
            kind, body = "workers", _answer("vector", _counts(self._pools, now))
        else:
            now = MOMENTS[self.ticks]
            self.ticks += 1
            kind, body = "broker", _answer("matrix", self._messages(now))
        self.told[kind] = len(body)
        return now, body

    def _messages(self, now: float) -> Iterator[str]:
        times = [now - 1 - SCRAPE_SECONDS * age for age in reversed(range(SCRAPES))]
        samples = {
            (what, half): _samples(times, what, half)
            for what in ("ready", "unacknowledged", "ended")
            for half in range(2)
        }
        for labels, what, half in self._broker:
            yield f'{{"metric":{labels},"values":{samples[what, half]}}}'


@contextmanager
def serving(pools: int) -> Iterator[tuple[Played, str]]:
    """Play it at a free port; gives its address, too."""
    played = Played(pools)

    class Handler(RequestHandler):
        def post(self) -> None:
            now, body = played.answer(self.get_argument("query"))
            self.set_header("Date", formatdate(now, usegmt=True))
            self.set_header("Content-Type", "application/json")
            self.finish(body)

    server = HTTPServer(Application([("/api/v1/query", Handler)], log_function=lambda _: None))
    server.listen(0, HOST)
    (port,) = {listening.getsockname()[1] for listening in server._sockets.values()}
    try:
        yield played, f"http://{HOST}:{port}"
    finally:
        server.stop()


def _ended(at: float, half: int) -> float:
    """Tasks until then: two a second in a busy phase, one in three seconds else."""
    phases, rest = divmod(at - START + DAY_SECONDS, 2 * PHASE_SECONDS)
    busy = min(rest, PHASE_SECONDS) if half else max(0.0, rest - PHASE_SECONDS)
    spent = PHASE_SECONDS * phases
    return 2.0 * (spent + busy) + (spent + rest - busy) / 3


def _number(what: str, half: int, at: float) -> str:
    busy = ((at - START) % (2 * PHASE_SECONDS) < PHASE_SECONDS) == bool(half)
    if what == "ended":
        return f"{_ended(at, half):.0f}"
    return str({"ready": 20 if busy else 0, "unacknowledged": WORKERS * SLOTS if busy else 1}[what])


def _samples(times: list[float], what: str, half: int) -> str:
    return json.dumps([[at, _number(what, half, at)] for at in times])


def _broker_series(pools: int) -> Iterator[tuple[str, str, int]]:
    """The labels of each series, what is counted, and of which half its pool is."""

    def labels(name: str, queue: str, node: int, **more: str) -> str:
        told = {
            "__name__": f"rabbitmq_detailed_queue_{name}",
            "vhost": "/",
            "queue": queue,
            "pod": f"kit-rabbitmq-{node}",
            "instance": f"10.0.0.{node}:15692",
        }
        return json.dumps(told | LABELS | more)

    for number in range(pools):
        queue, half = f"queue-{number}", number % 2
        yield labels("messages_ready", queue, number % NODES), "ready", half
        yield labels("messages_unacked", queue, number % NODES), "unacknowledged", half
        for node in range(NODES):
            published = labels("exchange_messages_published_total", queue, node, exchange=queue)
            yield labels("messages_acked_total", queue, node), "ended", half
            yield published, "ended", half


def _worker(pool: int, number: int, now: float) -> tuple[str, float]:
    """The address of a worker, and when it started; of the last one, the address says which life it is."""
    last = number == WORKERS - 1
    life = int((now - START) // LIFE_SECONDS) if last else 0
    instance = f"10.{number}{life % 20:02}.{pool // 256}.{pool % 256}:8001"
    return instance, START - 0.75 + (life * LIFE_SECONDS if last else -DAY_SECONDS)


def _counts(pools: int, now: float) -> Iterator[str]:
    for pool in range(pools):
        for number in range(WORKERS):
            instance, started = _worker(pool, number, now)
            labels = {"pool": f"pool-{pool}", "instance": instance}
            of_queue = labels | {"queue": f"queue-{pool}"}
            ended = _ended(now, pool % 2) - _ended(started, pool % 2)
            yield _one(now, labels | {"what": "started"}, started)
            yield _one(now, of_queue | {"what": "ended"}, round(ended / WORKERS))
            yield _one(now, of_queue | {"what": "busy"}, ended * 0.987654321)


def _one(now: float, labels: dict[str, str], value: float) -> str:
    return json.dumps({"metric": labels, "value": [now, str(value)]})


def _past(pools: list[int], end: float) -> Iterator[str]:
    """What went on before, as `autoscaler.history` asks for it."""
    times = [end - PAST_STEP_SECONDS * age for age in reversed(range(int(PAST_SECONDS / PAST_STEP_SECONDS)))]

    def series(what: str, samples: str, **labels: str) -> str:
        return f'{{"metric":{json.dumps({"what": what} | labels)},"values":{samples}}}'

    yield series("moment", json.dumps([[at, str(at)] for at in times]))
    told = {
        (what, half): _samples(times, what, half)
        for what in ("ready", "unacknowledged", "ended")
        for half in range(2)
    }
    for pool in pools:
        queue, half = f"queue-{pool}", pool % 2
        for what in ("ready", "unacknowledged"):
            yield series(what, told[what, half], vhost="/", queue=queue)
        for node in range(NODES):
            instance = f"10.0.0.{node}:15692"
            yield series("acknowledged", told["ended", half], vhost="/", queue=queue, instance=instance)
        for number in range(WORKERS):
            instance, started = _worker(pool, number, end)
            of_worker = {"pool": f"pool-{pool}", "instance": instance, "queue": queue}
            yield series("started", json.dumps([[at, str(started)] for at in times]), **of_worker)
            yield series("ended", told["ended", half], **of_worker)


def _answer(kind: str, result: Iterator[str]) -> bytes:
    return f'{{"status":"success","data":{{"resultType":"{kind}","result":[{",".join(result)}]}}}}'.encode()
