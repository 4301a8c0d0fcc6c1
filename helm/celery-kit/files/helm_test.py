"""`helm test`: one task all the way, as a client would send it, and then looked for wherever it left a trace.

Runs in the gateway's image, which has all that it needs. Each step is a line; the first that fails ends it.
Without the example task in the catalogue it asks only who is ready: tasks of the user's are not ours to run.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from tornado.httpclient import HTTPClient, HTTPResponse

from celerykit.database import connect
from celerykit.settings import Database, load_or_exit

TASK = os.environ.get("TASK", "")
# an installation may still be starting; Helm gives a test five minutes
READY_SECONDS = 240
PATIENCE_SECONDS = 50
BEGAN = time.monotonic()
HEARD = f'worker_task_finished_total{{task="{TASK}"}}'

http = HTTPClient()


def step(name: str, look: Callable[[], str], ready: bool = False) -> None:
    """Try until it goes well, and print what it says; end the test if it does not within the time.

    With `ready`, it is a part that may still be starting.
    """
    started = time.monotonic()
    end = BEGAN + READY_SECONDS if ready else started + PATIENCE_SECONDS
    while True:
        try:
            print(f"{name:<11}{look()}, {time.monotonic() - started:.2f} s", flush=True)  # noqa: T201
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, it is what is wrong
            if time.monotonic() > end:
                sys.exit(f"{name:<11}FAILED: {error!r}")
            time.sleep(0.5)


def ask(url: str, **options: Any) -> HTTPResponse:
    """Raise what the other side says, unless it is a 200."""
    answer = http.fetch(url, raise_error=False, request_timeout=40, **options)
    if answer.code != 200:
        raise RuntimeError(f"{url} answers {answer.code}: {answer.body[:300].decode(errors='replace')}")
    return answer


def samples(promql: str) -> list[dict[str, Any]]:
    """What Prometheus knows now: each with `metric`, the labels, and `value`, a time and a number."""
    answer = ask(f"{os.environ['PROMETHEUS_URL']}/api/v1/query?query={quote(promql)}")
    return list(json.loads(answer.body)["data"]["result"])


def finished() -> float:
    """Count the ends of tasks like ours, also on workers that are gone since."""
    return sum(float(sample["value"][1]) for sample in samples(f"max_over_time({HEARD}[10m])"))


def main() -> None:
    """Walk the steps."""
    sent = f"helm test {time.time():.3f}"
    done: dict[str, Any] = {}

    def autoscaler() -> str:
        ask(f"{os.environ['AUTOSCALER_URL']}/readyz")
        return "is ready"

    def gateway_ready() -> str:
        ask(f"{os.environ['GATEWAY_URL']}/readyz")
        return "is ready"

    def prometheus_before() -> str:
        done["before"] = finished()
        return f"counts {done['before']:.0f} tasks like this so far"

    def gateway() -> str:
        headers = {"Prefer": "wait=30", "Content-Type": "application/json"}
        if key := os.environ.get("API_KEY"):
            headers["X-API-Key"] = key
        url = f"{os.environ['GATEWAY_URL']}/v1/tasks/{TASK}"
        answer = json.loads(ask(url, method="POST", headers=headers, body=json.dumps({"args": [sent]})).body)
        if answer["result"] != sent:
            raise RuntimeError(f"the result is {answer['result']!r} and not {sent!r}")
        done["id"] = answer["id"]
        return f"ran {TASK} {answer['id']}, result {answer['result']!r}"

    def mysql() -> str:
        connection = connect(load_or_exit(Database).database_url)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT status FROM celery_taskmeta WHERE task_id = %s", (done["id"],))
            row = cursor.fetchone()
        if row != ("SUCCESS",):
            raise RuntimeError(f"the row of {done['id']} in celery_taskmeta is {row!r}")
        return "has the result's row"

    def flower() -> str:
        answer = ask(
            f"{os.environ['FLOWER_URL']}/api/task/info/{done['id']}",
            auth_username=os.environ["LOGIN_USERNAME"],
            auth_password=os.environ["LOGIN_PASSWORD"],
        )
        task = json.loads(answer.body)
        if task["state"] != "SUCCESS":
            raise RuntimeError(f"the task's state is {task['state']}")
        return f"shows its success on {task['worker']}"

    def prometheus() -> str:
        after = finished()
        if after <= done["before"]:
            raise RuntimeError(f"{HEARD} is {after:.0f}, as before")
        queues = sorted({sample["metric"]["queue"] for sample in samples(HEARD)})
        for queue in queues:
            if not samples(f'rabbitmq_detailed_queue_messages_ready{{queue="{queue}"}}'):
                raise RuntimeError(f"the backlog of the queue {queue!r} is not known")
        return f"counts {after:.0f}, and knows the backlog of the queue {', '.join(queues)}"

    if "AUTOSCALER_URL" in os.environ:
        step("autoscaler", autoscaler, ready=True)
    step("gateway", gateway_ready, ready=True)
    if not TASK:
        print("the catalogue has no task.echo, so no task was sent")  # noqa: T201
        return
    if "PROMETHEUS_URL" in os.environ:
        step("prometheus", prometheus_before, ready=True)
    step("gateway", gateway, ready=True)
    step("mysql", mysql)
    if "FLOWER_URL" in os.environ:
        step("flower", flower)
    if "PROMETHEUS_URL" in os.environ:
        step("prometheus", prometheus)


main()
