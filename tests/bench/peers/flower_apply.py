"""Flower's `POST /api/task/apply/task.echo`, on an app that knows the task."""

import os

from celery import Celery
from kombu import Queue

app = Celery(broker=os.environ["BROKER_URL"], backend="rpc://")
app.conf.task_queues = [Queue("default", no_declare=True)]  # it is there, as the workers made it
app.conf.task_default_queue = "default"


@app.task(name="task.echo")
def echo(value):
    return value
