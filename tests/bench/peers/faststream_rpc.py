"""FastStream's RPC behind FastAPI: `request()`, one after the other, on direct reply-to; its own worker."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from faststream import FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from pydantic import BaseModel

QUEUE = RabbitQueue("faststream.echo", durable=True)
# no confirms and no log of each message; a prefetch that keeps the subscriber busy
broker = RabbitBroker(
    os.environ["BROKER_URL"],
    default_channel=Channel(prefetch_count=100, publisher_confirms=False),
    logger=None,
)
worker = FastStream(broker)


class Call(BaseModel):
    args: list[Any]


@broker.subscriber(QUEUE)
async def task(call: Call) -> Any:
    return call.args[0]


publisher = RabbitBroker(
    os.environ["BROKER_URL"], default_channel=Channel(publisher_confirms=False), logger=None
)


@asynccontextmanager
async def connected(app: FastAPI) -> AsyncIterator[None]:
    async with publisher:
        await publisher.start()
        yield


app = FastAPI(lifespan=connected)


@app.post("/tasks/echo")
async def echo(call: Call) -> dict[str, Any]:
    answer = await publisher.request(call, QUEUE, timeout=10)
    return {"result": await answer.decode()}
