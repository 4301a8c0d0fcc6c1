"""Two of the example tasks on plain Celery with `rpc://`, for peers that the kit's workers do not answer."""

import os
import time

from celery import Celery

from celerykit import profile
from celerykit.settings import Settings
from tests.bench.runs import QUEUE, TASK

BROKER_URL = os.environ["BROKER_URL"]

app = Celery("stock", broker=BROKER_URL, backend="rpc://")
app.conf.task_queues = [profile.queue(QUEUE, Settings(broker_url=BROKER_URL, database_url="mysql://no/no"))]
app.conf.worker_prefetch_multiplier = 1


@app.task(name=TASK)
def echo(value):
    return value


@app.task(name="task.sleep")
def sleep(seconds):
    time.sleep(seconds)
    return seconds
