"""taskiq behind FastAPI: taskiq-aio-pika for the tasks, taskiq-redis for the results."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from taskiq_aio_pika import AioPikaBroker
from taskiq_redis import RedisAsyncResultBackend

results = RedisAsyncResultBackend(os.environ["REDIS_URL"], result_ex_time=60)
broker = AioPikaBroker(os.environ["BROKER_URL"], qos=100).with_result_backend(results)


@broker.task(task_name="task.echo")
async def task(value: Any) -> Any:
    return value


@asynccontextmanager
async def connected(app: FastAPI) -> AsyncIterator[None]:
    await broker.startup()
    yield
    await broker.shutdown()


app = FastAPI(lifespan=connected)


class Call(BaseModel):
    args: list[Any]


@app.post("/tasks/echo")
async def echo(call: Call) -> dict[str, Any]:
    sent = await task.kiq(*call.args)
    result = await sent.wait_result(check_interval=0.02, timeout=10)  # looks five times a second by itself
    return {"result": result.return_value}
