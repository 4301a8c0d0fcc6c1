"""aio-celery behind FastAPI: its own worker keeps the result in Redis, where its client looks for it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aio_celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel

tasks = Celery()
tasks.conf.update(
    broker_url=os.environ["BROKER_URL"],
    result_backend=os.environ["REDIS_URL"],
    result_backend_connection_pool_size=100,
    task_default_queue="aio-celery.echo",
)


@tasks.task(name="task.echo")
async def task(value: Any) -> Any:
    return value


@asynccontextmanager
async def connected(app: FastAPI) -> AsyncIterator[None]:
    async with tasks.setup():
        yield


app = FastAPI(lifespan=connected)


class Call(BaseModel):
    args: list[Any]


@app.post("/tasks/echo")
async def echo(call: Call) -> dict[str, Any]:
    result = await tasks.send_task("task.echo", args=tuple(call.args))
    return {"result": await result.get(timeout=10, interval=0.02)}  # looks twice a second by itself
