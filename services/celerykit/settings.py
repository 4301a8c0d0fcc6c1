"""The settings of every program that speaks Celery: one object, read from the environment.

A field `broker_url` is the variable `CELERYKIT_BROKER_URL`; a list is written with commas.
"""

import os
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from msgspec import Meta

from celerykit import tls

PREFIX = "CELERYKIT_"
WEEK = 604800  # seconds
LONGEST_QUEUE = 251  # bytes: AMQP's names have 255, and .dlq is ours

T = TypeVar("T", bound=msgspec.Struct)


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names the variable and what would be right."""


DatabaseUrl = Annotated[
    str,
    Meta(
        description="MySQL or MariaDB, as `mysql://USER:PASSWORD@HOST:PORT/DATABASE`, parts URL-encoded;"
        " `mysqls://` for nothing but TLS"
    ),
]
DatabaseUser = Annotated[str, Meta(description="the user, in place of the one in the URL; not encoded")]
DatabasePassword = Annotated[
    str, Meta(description="the password, in place of the one in the URL; not encoded")
]
DatabaseCaFile = Annotated[
    str,
    Meta(
        description="PEM file of the CA that has signed the database's certificate, with `mysqls://`;"
        " the system's CAs if empty"
    ),
]


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """What a program needs to know that talks to the broker alone; `broker_url` is complete."""

    broker_url: Annotated[
        str,
        Meta(
            description="RabbitMQ, as `amqp://USER:PASSWORD@HOST:PORT/VHOST`, parts URL-encoded;"
            " `amqps://` for TLS"
        ),
    ]
    broker_username: Annotated[
        str, Meta(description="the user, in place of the one in the URL; not encoded")
    ] = ""
    broker_password: Annotated[
        str, Meta(description="the password, in place of the one in the URL; not encoded")
    ] = ""
    broker_ca_file: Annotated[
        str,
        Meta(
            description="PEM file of the CA that has signed the broker's certificate, with `amqps://`;"
            " the system's CAs if empty"
        ),
    ] = ""

    def __post_init__(self) -> None:
        _check_url("BROKER_URL", self.broker_url, ("amqp", "amqps"))
        _check_ca_file("BROKER", self.broker_ca_file, self.broker_url, "amqps")
        url = with_login(self.broker_url, self.broker_username, self.broker_password)
        msgspec.structs.force_setattr(self, "broker_url", url)


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """What a program needs to know that talks to the database alone; `database_url` is complete."""

    database_url: DatabaseUrl
    database_username: DatabaseUser = ""
    database_password: DatabasePassword = ""
    database_ca_file: DatabaseCaFile = ""

    def __post_init__(self) -> None:
        _complete_database_url(self)


class Settings(Broker, frozen=True, kw_only=True):
    """What a Celery application of the kit needs to know, in the kit's own words."""

    # Those of Database: a struct can have only one base with fields.
    database_url: DatabaseUrl
    database_username: DatabaseUser = ""
    database_password: DatabasePassword = ""
    database_ca_file: DatabaseCaFile = ""
    queues: Annotated[
        tuple[str, ...],
        Meta(description="the queues that a worker consumes, with commas"),
    ] = ("default",)
    delivery_limit: Annotated[
        int,
        Meta(ge=1, le=10**6, description="deliveries of a message before it goes to the dead letters"),
    ] = 20
    task_time_limit: Annotated[
        int,
        Meta(
            ge=1,
            le=WEEK,
            description="seconds after which a running task is killed (hard limit), at most 60 with the"
            " profile `fast`; not with `threads`",
        ),
    ] = 3600
    task_events: Annotated[
        bool, Meta(description="send task events, which Flower shows; each costs the broker a message")
    ] = True
    result_expires_seconds: Annotated[
        int, Meta(ge=60, le=10**9, description="age at which `celery.backend_cleanup` deletes a result")
    ] = 86400
    pool: Annotated[
        str,
        Meta(pattern=r"^[\w.-]{1,100}$", description="the name of the pool that a worker belongs to"),
    ] = "default"
    profile: Annotated[
        Literal["durable", "fast"],
        Meta(
            description="how a worker takes tasks: `durable`, only those that it can run now, or `fast`, for"
            " tasks of milliseconds (docs/workers.md)"
        ),
    ] = "durable"
    packing: Annotated[
        bool,
        Meta(
            description="the broker gives a task to the oldest worker that has a slot free, so that the newer"
            " ones become idle and can go (docs/workers.md)"
        ),
    ] = False
    worker_host: Annotated[str, Meta(description="address of the worker's own HTTP port")] = "0.0.0.0"
    worker_port: Annotated[
        int, Meta(ge=0, le=65535, description="the worker's own HTTP port; 0 turns it off")
    ] = 8001
    worker_max_tasks_per_child: Annotated[
        int,
        Meta(ge=0, le=10**9, description="tasks after which a child of `prefork` is replaced; 0 is never"),
    ] = 0
    worker_max_memory_per_child_kib: Annotated[
        int,
        Meta(
            ge=0,
            le=2**40,
            description="resident KiB beyond which a child of `prefork` is replaced; 0 is never",
        ),
    ] = 0
    soft_shutdown_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=WEEK,
            description="seconds that running tasks of `prefork` get to end after SIGQUIT before they go back"
            " to their queue; SIGTERM waits for them without an end",
        ),
    ] = 0.0
    drain_token: Annotated[
        str, Meta(description="bearer token of `POST /drain` and `/undrain`; empty refuses both")
    ] = ""
    drain_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=WEEK,
            description="a worker that was told to drain takes tasks again when nobody has repeated it for so"
            " long; the autoscaler does at every tick; 0 is never",
        ),
    ] = 120
    liveness_seconds: Annotated[
        int, Meta(ge=5, le=WEEK, description="a worker whose main loop stood still for so long is not alive")
    ] = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        _complete_database_url(self)
        for queue in self.queues or ("",):
            if wrong := wrong_queue(queue):
                raise SettingsError(f"{PREFIX}QUEUES: {wrong}")
        if len(set(self.queues)) < len(self.queues):
            raise SettingsError(f"{PREFIX}QUEUES: names a queue twice: {','.join(self.queues)}")
        if not (self.drain_token.isascii() and self.drain_token.isprintable()):
            raise SettingsError(
                f"{PREFIX}DRAIN_TOKEN: must be printable ASCII without line breaks, as it goes into a header"
            )


def wrong_queue(name: str) -> str | None:
    """Why a name cannot be that of a task queue; None if it can."""
    if (
        0 < len(name.encode()) <= LONGEST_QUEUE
        and not name.endswith((".dlq", ".dlx"))
        and not name.startswith(("gw.", "amq.", "celery_delayed_"))
    ):
        return None
    return (
        f"{name!r} cannot be a task queue: names may not be empty or longer than {LONGEST_QUEUE} bytes, end"
        " in .dlq or .dlx, or begin with gw., amq. or celery_delayed_"
    )


def with_login(url: str, username: str, password: str) -> str:
    """Put a user and a password, where given, in place of the URL's own."""
    parts = urlsplit(url)
    login, _, address = parts.netloc.rpartition("@")
    old_username, _, old_password = login.partition(":")
    username = quote(username, safe="") or old_username
    password = quote(password, safe="") or old_password
    if not (username or password):
        return url
    return parts._replace(netloc=f"{username}:{password}@{address}").geturl()


def _complete_database_url(settings: "Database | Settings") -> None:
    url = settings.database_url
    _check_url("DATABASE_URL", url, ("mysql", "mysqls"))
    if not urlsplit(url).path.strip("/"):
        raise SettingsError(f"{PREFIX}DATABASE_URL: the path must name a database: mysql://…/DATABASE")
    _check_ca_file("DATABASE", settings.database_ca_file, url, "mysqls")
    url = with_login(url, settings.database_username, settings.database_password)
    if settings.database_ca_file:
        url = urlsplit(url)._replace(query=urlencode({"ca": settings.database_ca_file})).geturl()
    msgspec.structs.force_setattr(settings, "database_url", url)


def _check_url(name: str, url: str, schemes: tuple[str, ...]) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in schemes and bool(parts.hostname) and parts.port is not False
    except ValueError:  # a port that is no number
        good = False
    if not good:
        raise SettingsError(f"{PREFIX}{name}: must look like {schemes[0]}://USER:PASSWORD@HOST:PORT/NAME")


def _check_ca_file(store: str, file: str, url: str, scheme: str) -> None:
    if not file:
        return
    variable = f"{PREFIX}{store}_CA_FILE"
    if urlsplit(url).scheme != scheme:
        raise SettingsError(f"{variable}: is of no use unless {PREFIX}{store}_URL begins with {scheme}://")
    try:
        tls.context(file)
    except OSError as error:
        raise SettingsError(f"{variable}: must hold certificates in PEM: {file}: {error.strerror}") from None


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
        value: Any = text
        if _is_list(field):  # an empty text is an empty list
            value = [part.strip() for part in text.split(",")] if text.strip() else []
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
