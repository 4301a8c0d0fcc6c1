"""FastAPI that polls: an `async def` handler sends the task and looks every 0.1 s whether it has ended."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery
from fastapi import FastAPI, HTTPException
from kombu import Queue
from pydantic import BaseModel

tasks = Celery(broker=os.environ["BROKER_URL"], backend="rpc://")
tasks.conf.task_queues = [Queue("default", no_declare=True)]  # it is there, as the workers made it
tasks.conf.task_default_queue = "default"
# keeps the loop free; it is one, as with rpc:// a result is seen only by the thread that sent the task
thread = ThreadPoolExecutor(max_workers=1)
app = FastAPI()


class Call(BaseModel):
    args: list[Any]


@app.post("/tasks/echo")
async def echo(call: Call) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    result = await loop.run_in_executor(thread, tasks.send_task, "task.echo", call.args)
    for _ in range(100):
        if await loop.run_in_executor(thread, result.ready):
            return {"result": result.result}
        await asyncio.sleep(0.1)
    raise HTTPException(504, "no result within 10 s")
