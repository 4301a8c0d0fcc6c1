"""The settings of every program that speaks Celery: one object, read from the environment.

A field `broker_url` is the variable `CELERYKIT_BROKER_URL`; a list is written with commas.
"""

import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

PREFIX = "CELERYKIT_"

T = TypeVar("T", bound=msgspec.Struct)


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names the variable and what would be right."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a Celery application of the kit needs to know, in the kit's own words."""

    broker_url: Annotated[
        str, Meta(description="RabbitMQ, as `amqp://USER:PASSWORD@HOST:PORT/VHOST`, parts URL-encoded")
    ]
    database_url: Annotated[
        str,
        Meta(
            description="MySQL or MariaDB, as `mysql://USER:PASSWORD@HOST:PORT/DATABASE`, parts URL-encoded"
        ),
    ]
    queues: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="the queues that a worker consumes, with commas"),
    ] = ("default",)
    delivery_limit: Annotated[
        int, Meta(ge=1, description="deliveries of a message before it goes to the dead letters")
    ] = 20
    task_time_limit: Annotated[
        int, Meta(ge=1, description="seconds after which a running task is killed (hard limit)")
    ] = 3600
    task_events: Annotated[
        bool, Meta(description="send task events, which Flower shows; each costs the broker a message")
    ] = True
    result_expires_seconds: Annotated[
        int, Meta(ge=60, description="age at which `celery.backend_cleanup` deletes a result")
    ] = 86400
    pool: Annotated[str, Meta(min_length=1, description="the name of the pool that a worker belongs to")] = (
        "default"
    )
    worker_host: Annotated[str, Meta(description="address of the worker's own HTTP port")] = "0.0.0.0"
    worker_port: Annotated[
        int, Meta(ge=0, le=65535, description="the worker's own HTTP port; 0 turns it off")
    ] = 8001
    drain_token: Annotated[
        str, Meta(description="bearer token of `POST /drain` and `/undrain`; empty refuses both")
    ] = ""
    liveness_seconds: Annotated[
        int, Meta(ge=5, description="a worker whose main loop stood still for so long is not alive")
    ] = 60

    def __post_init__(self) -> None:
        _check_url("BROKER_URL", self.broker_url, ("amqp", "amqps"))
        _check_url("DATABASE_URL", self.database_url, ("mysql",))
        if not urlsplit(self.database_url).path.strip("/"):
            raise SettingsError(f"{PREFIX}DATABASE_URL: the path must name a database: mysql://…/DATABASE")
        for queue in self.queues:
            if not queue or queue.endswith((".dlq", ".dlx")) or queue.startswith(("gw.", "celery_delayed_")):
                raise SettingsError(
                    f"{PREFIX}QUEUES: {queue!r} cannot be a task queue: names may not be empty, end in .dlq"
                    " or .dlx, or begin with gw. or celery_delayed_"
                )


def _check_url(name: str, url: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in schemes and bool(parts.hostname) and parts.port is not False
    except ValueError:  # a port that is no number
        good = False
    if not good:
        raise SettingsError(f"{PREFIX}{name}: must look like {schemes[0]}://USER:PASSWORD@HOST:PORT/NAME")


def load(kind: type[T], environ: Mapping[str, str] | None = None, prefix: str = PREFIX) -> T:
    """Read the settings of one program.

    Raises SettingsError, one line that names the variable, if one is missing or wrong.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        variable = prefix + field.name.upper()
        if variable not in environ:
            if field.required:
                raise SettingsError(f"{variable}: is required: {described(field)}")
            continue
        text = environ[variable]
        value: Any = [part.strip() for part in text.split(",")] if _is_list(field) else text
        try:
            values[field.name] = msgspec.convert(value, type=field.type, strict=False)
        except msgspec.ValidationError as error:
            raise SettingsError(f"{variable}: {error}; it is {described(field)}") from None
    return kind(**values)


def load_or_exit(kind: type[T], prefix: str = PREFIX) -> T:
    """Read the settings of one program, or end it with exit code 2 and one line on standard error."""
    try:
        return load(kind, prefix=prefix)
    except SettingsError as error:
        exit_with(str(error))


def exit_with(message: str) -> NoReturn:
    """End the program because of bad settings: one line on standard error, exit code 2."""
    print(message, file=sys.stderr)  # noqa: T201  # the program has no logging yet
    raise SystemExit(2)


def described(field: msgspec.structs.FieldInfo) -> str:
    """What a field is for, as its declaration says it."""
    info = msgspec.inspect.type_info(field.type)
    extra = info.extra_json_schema if isinstance(info, msgspec.inspect.Metadata) else None
    return str((extra or {}).get("description", ""))


def _is_list(field: msgspec.structs.FieldInfo) -> bool:
    info = msgspec.inspect.type_info(field.type)
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    return isinstance(info, msgspec.inspect.VarTupleType)
