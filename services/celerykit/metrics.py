"""The metrics of a worker, all of its parent process: one ordinary registry, no files.

No label holds a host name or a task's id: Prometheus adds the instance, and series stay few.
"""

from collections.abc import Iterable
from itertools import product

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from celerykit import reply

RUNTIME_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
WAIT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)

received = Counter(
    "worker_task_received_total", "Messages taken from the broker", ("queue", "task", "redelivered")
)
finished = Counter("worker_task_finished_total", "Tasks that ended, by how", ("queue", "task", "outcome"))
runtime = Histogram(
    "worker_task_runtime_seconds", "Start to end of a task", ("queue", "task"), buckets=RUNTIME_BUCKETS
)
queue_wait = Histogram(
    "worker_task_queue_wait_seconds",
    "Publishing, or the time a task was due, to its start",
    ("queue", "task"),
    buckets=WAIT_BUCKETS,
)
slots = Gauge("worker_slots", "Tasks that may run at once", ("queue",))
slots_busy = Gauge("worker_slots_busy", "Tasks that run now", ("queue",))
reserved_tasks = Gauge("worker_reserved_tasks", "Tasks taken from the broker, running or not")
prefetch_count = Gauge("worker_prefetch_count", "Messages the broker may hand out before an acknowledgement")
broker_connected = Gauge("worker_broker_connected", "1 while the consumer's connection stands")
broker_reconnects = Counter("worker_broker_reconnects_total", "Connections after the first")
child_exits = Counter(
    "worker_child_exits_total", "Children of a prefork pool that ended, by why", ("reason",)
)
consumer_registered = Gauge("worker_consumer_registered", "1 while the broker delivers tasks to this worker")
build_info = Gauge("kit_build_info", "1; the labels say what runs", ("version", "component"))


def expect(queues: Iterable[str], tasks: Iterable[str]) -> None:
    """Begin redeliveries at 0: the first delivery to a new worker is often one, and a rate must see it."""
    for queue, task in product(queues, tasks):
        received.labels(queue, task, "true")


class _Replies(Collector):
    """Counts of the pool's children, read from the memory they share."""

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "worker_replies", "Results pushed to a caller that waits", labels=("outcome",)
        )
        family.add_metric(("pushed",), reply.pushed.total())
        family.add_metric(("failed",), reply.failed.total())
        yield family


REGISTRY.register(_Replies())
