"""The faults that users of Celery, RabbitMQ and MySQL report, each with its tests or the reason for none."""

from pathlib import Path
from typing import NamedTuple

from local.run import ROOT
from tests.faults.rows import declared


class Entry(NamedTuple):
    """A known fault; tests are named as `test_…` if they have a row of the page, else as `path::test_…`."""

    fault: str
    tests: tuple[str, ...] = ()
    reason: str = ""


ENDS = "tests/integration/worker/test_ends.py::"
RECONNECT = "tests/integration/worker/test_reconnect.py::"
CATALOGUE = (
    Entry("A process of the pool is killed in the midst of a task", ("test_child_killed",)),
    Entry("A task takes more memory or time than it may", ("test_out_of_memory", "test_time_limit")),
    Entry("A worker is killed as a whole", ("test_worker_killed",)),
    Entry(
        "A task kills its worker each time, by a signal or by its hunger",
        ("test_poison", "test_hungry_poison"),
    ),
    Entry(
        "The same without dead letters: its message would be thrown away",
        (
            "tests/integration/worker/test_queues.py::test_a_queue_that_is_another_one_ends_the_worker_with_one_message",
        ),
        "cannot be: workers declare queue and dead letters together, and refuse a queue made otherwise",
    ),
    Entry("A worker is told to stop under load", ("test_stop_mid_task",)),
    Entry(
        "A task runs for longer than its worker gets to end",
        ("test_worker_killed", ENDS + "test_a_soft_shutdown_ends_what_it_can_and_gives_the_rest_back"),
    ),
    Entry(
        "The broker is restarted or killed while tasks run",
        ("test_rabbitmq_restarted", "test_rabbitmq_killed"),
    ),
    Entry(
        "The broker's connections flap",
        (
            "test_connections_closed",
            "test_connections_flap",
            RECONNECT + "test_all_slots_are_used_again_after_the_connection_broke",
        ),
    ),
    Entry(
        "The network is reset, silent, slow or narrow",
        (
            "test_resets",
            "test_silence",
            "test_slowness",
            "test_five_seconds_of_latency",
            "test_one_kilobyte_a_second",
        ),
    ),
    Entry("A confirm is lost", ("test_lost_confirms",)),
    Entry("A message has nowhere to go", ("test_queue_deleted", "test_no_queue")),
    Entry(
        "The gateway dies between the database and the broker",
        ("test_gateway_killed",),
        "no outbox stands between them: what was not answered 200 or 202 was not accepted",
    ),
    Entry("The broker blocks publishers", ("test_memory_alarm", "test_disk_alarm")),
    Entry("A node of a broker cluster dies", reason="needs several nodes; the kit runs one"),
    Entry("A flood of tasks that are due later", ("test_delayed_flood",)),
    Entry(
        "A task runs for longer than the broker's `consumer_timeout`",
        reason="a matter of settings: the chart refuses them, `make up` has two hours for tasks of one",
    ),
    Entry(
        "A rolling upgrade, the drain of a node", reason="needs a cluster, and is no matter of one machine"
    ),
    Entry("The clock jumps", ("test_clock_jump",)),
    Entry(
        "The database is restarted, drops idle connections, cuts a transaction",
        (
            "test_mysql_restarted",
            "test_mysql_connections_killed",
            "test_idle_connections_dropped",
            "test_transaction_cut",
        ),
    ),
    Entry(
        "Deadlocks and locks that are waited for",
        ("test_deadlock", "test_row_lock", "test_operations_locked"),
    ),
    Entry(
        "A connection is shared by processes after a fork",
        ("tests/integration/worker/test_pools.py::test_many_tasks_share_a_few_connections",),
        "cannot be: each thread of each process makes its own; every row has workers of several processes",
    ),
    Entry(
        "All connections are taken",
        ("test_broker_connections_exhausted", "test_database_connections_exhausted"),
    ),
    Entry("A disk is full", ("test_mysql_disk_full", "test_disk_alarm")),
    Entry(
        "Flower, Grafana or Prometheus is away",
        reason="neither gateway nor workers know of them; the autoscaler then holds the number of workers",
    ),
    Entry(
        "A message is delivered twice",
        (
            "test_duplicate_delivery",
            RECONNECT
            + "test_a_task_delivered_again_after_its_success_does_not_run_and_its_caller_is_answered",
        ),
    ),
    Entry(
        "A message or a result is large, malformed or of a kind that nobody knows",
        ("test_large", "test_malformed"),
    ),
    Entry("Passwords are changed", ("test_broker_password_rotated", "test_database_password_rotated")),
    Entry(
        "Everything starts in any order, the broker last of all",
        (
            "test_mysql_last",
            "test_rabbitmq_last",
            "test_worker_first",
            "test_gateway_first",
            "test_gateway_last",
            "test_worker_last",
        ),
    ),
)


def unknown() -> list[str]:
    """The tests that are named here and are not there."""
    rows = {row.test for row in declared()}
    return [test for entry in CATALOGUE for test in entry.tests if test not in rows and not _is_there(test)]


def _is_there(test: str) -> bool:
    path, _, name = test.partition("::")
    return Path(ROOT, path).is_file() and f"def {name}(" in Path(ROOT, path).read_text()
