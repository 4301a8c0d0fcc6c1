"""FastAPI with a thread that waits: a plain `def` handler sends the task and gets its result."""

import os
from typing import Any

from celery import Celery
from fastapi import FastAPI
from kombu import Queue
from pydantic import BaseModel

# of Celery's result backends the fastest: results are pushed, one queue and connection for each thread
tasks = Celery(broker=os.environ["BROKER_URL"], backend="rpc://")
tasks.conf.task_queues = [Queue("default", no_declare=True)]  # it is there, as the workers made it
tasks.conf.task_default_queue = "default"
tasks.conf.broker_pool_limit = 40  # as many as FastAPI has threads: nobody waits for a connection to send on
app = FastAPI()


class Call(BaseModel):
    args: list[Any]


@app.post("/tasks/{name}")
def run(name: str, call: Call) -> dict[str, Any]:
    return {"result": tasks.send_task(f"task.{name}", call.args).get(timeout=10)}
