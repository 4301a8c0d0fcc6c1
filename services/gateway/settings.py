"""The gateway's own settings: a field `port` is the variable `CELERYKIT_GATEWAY_PORT`."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from celerykit.settings import SettingsError
from gateway.auth import Keys

PREFIX = "CELERYKIT_GATEWAY_"


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the gateway listens, whom it answers, and where its limits are."""

    host: Annotated[str, Meta(min_length=1, description="address to listen on")] = "0.0.0.0"
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0 takes a free one")] = 8000
    catalogue: Annotated[
        str, Meta(description="YAML file of the tasks that may be called; empty takes the example tasks")
    ] = ""
    api_keys: Annotated[
        tuple[str, ...],
        Meta(
            description="who may call, as `OWNER:SHA256` with commas, SHA256 being the key's digest in hex;"
            " empty lets everybody in"
        ),
    ] = ()
    max_in_flight: Annotated[
        int, Meta(ge=1, description="requests that wait for a task at the same time")
    ] = 1000
    max_wait_seconds: Annotated[
        int,
        Meta(ge=1, le=3600, description="the longest wait; keep it below the timeout of proxies in front"),
    ] = 55
    max_body_bytes: Annotated[int, Meta(ge=1, description="the largest request body")] = 1048576
    max_header_bytes: Annotated[int, Meta(ge=1024, description="the largest head of a request")] = 16384
    body_timeout_seconds: Annotated[
        int, Meta(ge=1, description="seconds in which a request's body must have arrived")
    ] = 15
    idle_timeout_seconds: Annotated[
        int, Meta(ge=1, description="seconds without a complete request after which a connection is closed")
    ] = 75
    shutdown_seconds: Annotated[
        int, Meta(ge=0, description="seconds that requests get to end when the gateway is told to stop")
    ] = 5
    operation_ttl_seconds: Annotated[
        int, Meta(ge=60, description="age at which an accepted operation is forgotten")
    ] = 86400
    foreign_wait_seconds: Annotated[
        int,
        Meta(
            ge=1, description="seconds in which an accepted foreign task must end for its result to be kept"
        ),
    ] = 3600
    database_connections: Annotated[
        int, Meta(ge=1, description="connections to the database for operations, at most")
    ] = 5
    database_timeout_seconds: Annotated[
        int, Meta(ge=1, description="seconds after which a statement on operations is given up")
    ] = 5
    examples: Annotated[
        bool,
        Meta(
            description="serve the article's `/examples/…`, one of which blocks the gateway on purpose:"
            " never in production"
        ),
    ] = False
    example_threads: Annotated[
        int, Meta(ge=1, le=100, description="threads of `/examples/executor/…`; with all busy it answers 503")
    ] = 4
    expose_tracebacks: Annotated[
        bool, Meta(description="show clients the traceback of a failed task; only for trusted clients")
    ] = False
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Meta(description="lowest level that is logged; a request is INFO"),
    ] = "INFO"

    def __post_init__(self) -> None:
        try:
            Keys(self.api_keys)
        except ValueError as error:
            raise SettingsError(f"{PREFIX}API_KEYS: {error}") from None
