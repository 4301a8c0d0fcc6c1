"""The settings of the ready-made worker, beside those of celerykit."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PREFIX = "CELERYKIT_WORKER_"


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How one worker process runs."""

    concurrency: Annotated[int, Meta(ge=1, le=10000, description="tasks that one worker runs at once")] = 2
    pool_type: Annotated[
        Literal["prefork", "threads", "gevent"],
        Meta(description="what runs the tasks: `prefork`, `threads` or `gevent`, as `celery worker --pool`"),
    ] = "prefork"
    task_modules: Annotated[
        tuple[str, ...], Meta(description="Python modules with tasks of your own, with commas")
    ] = ()
    name: Annotated[
        str,
        Meta(
            pattern=r"^([\w.-]{1,100}(@[\w.-]{1,100})?)?$",
            description="node name, unique for each start; made from pool, random part and host if empty",
        ),
    ] = ""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Meta(description="what is logged")] = (
        "INFO"
    )
