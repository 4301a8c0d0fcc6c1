"""The oracle: what became of every accepted task, from what the tasks themselves wrote down."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from celerykit.database import connect
from local.http import request

DEAD_LETTERS_READ = 10000


class Row(NamedTuple):
    """One attempt at a task; times in unix seconds, no end if it never came to one."""

    task_id: str
    attempt_id: str
    worker: str
    started_at: float
    ended_at: float | None


class Counts(msgspec.Struct, frozen=True):
    """What became of the accepted tasks; `interrupted` counts attempts, the others tasks."""

    done: int
    lost: int
    run_twice: int
    interrupted: int


def count(
    accepted: Collection[str], rows: Iterable[Row], dead: Collection[str], stopped: Collection[str]
) -> Counts:
    """Judge the accepted tasks; `dead` are ids in dead letters, `stopped` the workers that we ended."""
    ids = set(accepted)
    attempts = [row for row in rows if row.task_id in ids]
    ends = Counter(row.task_id for row in attempts if row.ended_at is not None)
    cut = [row for row in attempts if row.ended_at is None and row.worker.partition("@")[0] in stopped]
    return Counts(
        done=len(ends),
        lost=len(ids - ends.keys() - set(dead)),
        run_twice=sum(times > 1 for times in ends.values()),
        interrupted=len(cut),
    )


def waits(accepted: Mapping[str, float], rows: Iterable[Row]) -> list[float]:
    """Seconds from acceptance at the client to the first start, of every task that started; sorted."""
    first: dict[str, float] = {}
    for row in rows:
        if row.task_id in accepted:
            first[row.task_id] = min(row.started_at, first.get(row.task_id, math.inf))
    # A worker may start a task before the answer that accepts it has reached the client.
    return sorted(max(0.0, started - accepted[task]) for task, started in first.items())


def quantile(values: Sequence[float], q: float) -> float | None:
    """Return the smallest of the sorted values that is not below the share `q` of them."""
    return values[max(0, math.ceil(q * len(values)) - 1)] if values else None


def read_rows(database_url: str, ids: Collection[str]) -> list[Row]:
    """Read the attempts at these tasks."""
    if not ids:
        return []
    connection = connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT task_id, attempt_id, worker, started_at, ended_at FROM celerykit_ledger"
            " WHERE task_id IN %s",
            (list(ids),),
        )
        return [Row(*row) for row in cursor.fetchall()]


def read_dead_letters(
    management_url: str, login: tuple[str, str], queue: str, vhost: str = "%2F"
) -> set[str]:
    """Read the ids of the tasks in a queue's dead letters, which stay there; `vhost` is URL-encoded."""
    url = f"{management_url}/api/queues/{vhost}/{queue}.dlq/get"
    asked = {"count": DEAD_LETTERS_READ, "ackmode": "ack_requeue_true", "encoding": "auto", "truncate": 1}
    status, body = request("POST", url, msgspec.json.encode(asked), login)
    if status == 404:
        return set()
    if status != 200:
        raise ConnectionError(f"{url} answers {status}: {body.decode(errors='replace')}")
    messages: list[dict[str, Any]] = msgspec.json.decode(body)
    return {str(message["properties"].get("headers", {}).get("id", "")) for message in messages}
