"""The configuration: one YAML file, camelCase keys, everything checked before anything starts."""

import re
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

WEEK = 604800
LONGEST_QUEUE = 251  # bytes, so that the names of its dead letters fit too

Seconds = Annotated[float, Meta(ge=0, le=WEEK)]
Period = Annotated[float, Meta(gt=0, le=WEEK)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Text = Annotated[str, Meta(min_length=1)]
Mode = Literal["act", "dryRun", "advise"]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
Label = Annotated[str, Meta(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
PoolName = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")]


class ConfigError(ValueError):
    """The configuration is wrong: one line that names the key and what would be right."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The habits of every section."""


class Autoscale(_Section, frozen=True, kw_only=True):
    """How the workers of one pool follow its backlog."""

    policy: Annotated[
        Literal["slo", "threshold"],
        Meta(description="what the number follows: a promise in seconds, or the backlog"),
    ] = "slo"
    slo_seconds: Annotated[
        Period, Meta(description="policy `slo`: tasks shall start within this time after they were sent")
    ] = 30
    slo_quantile: Annotated[
        float, Meta(gt=0, lt=1, description="policy `slo`: the part of all tasks that shall")
    ] = 0.95
    expected_task_seconds: Annotated[
        Period, Meta(description="policy `slo`: what a task takes, until some have ended")
    ] = 5
    hold_when_useless: Annotated[
        bool,
        Meta(
            description="policy `slo`: no more workers while the last ones have not ended more tasks; they"
            " may wait for something that more workers only make slower"
        ),
    ] = False
    min_workers: Annotated[int, Meta(ge=0, description="workers that are always there")] = 1
    max_workers: Annotated[int, Meta(ge=1, le=10000, description="workers that are never exceeded")] = 10
    target_backlog_per_worker: Annotated[
        float,
        Meta(
            gt=0,
            le=1e9,
            description="policy `threshold`: messages, ready and unacknowledged, that one worker shall hold",
        ),
    ] = 10
    up_threshold: Annotated[
        float,
        Meta(
            gt=0,
            le=1000,
            description="policy `threshold`: more workers above so many times what the workers shall hold",
        ),
    ] = 1.0
    down_threshold: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="policy `threshold`: fewer workers below so many times what the workers shall hold",
        ),
    ] = 0.5
    down_window_seconds: Annotated[
        Seconds | None,
        Meta(
            description="fewer workers only to the most that was needed within this time; if not given, 60"
            " with the policy `threshold`, and what a boot costs with `slo`"
        ),
    ] = None
    cooldown_seconds: Annotated[Seconds, Meta(description="least time between two steps down")] = 30
    manual_hold_seconds: Annotated[
        Seconds,
        Meta(
            description="on Kubernetes, a number that somebody else sets is kept for so long; 0: not at all"
        ),
    ] = 300
    metric_max_age_seconds: Annotated[
        Period, Meta(description="an older sample is not believed, and the number is held")
    ] = 30
    drain_timeout_seconds: Annotated[
        Period, Meta(description="a worker that did not become empty in this time goes on working")
    ] = 600

    def __post_init__(self) -> None:
        if self.min_workers > self.max_workers:
            raise ValueError(
                f"minWorkers ({self.min_workers}) must not be above maxWorkers ({self.max_workers})"
            )
        if self.down_threshold >= self.up_threshold:
            raise ValueError(
                f"downThreshold ({self.down_threshold:g}) must be below upThreshold ({self.up_threshold:g})"
            )


class Pool(_Section, frozen=True, kw_only=True):
    """A named set of workers and the queues that they consume."""

    queues: Annotated[tuple[Text, ...], Meta(min_length=1, description="the queues of the pool's workers")]
    vhost: Annotated[Text, Meta(description="RabbitMQ's virtual host of these queues")] = "/"
    concurrency: Annotated[
        int, Meta(ge=1, le=10000, description="tasks that one worker runs at once; of workers that start")
    ] = 2
    pool_type: Annotated[
        Literal["prefork", "threads", "gevent"],
        Meta(description="what runs the tasks in a worker; of workers that start"),
    ] = "prefork"
    packing: Annotated[
        bool,
        Meta(
            description="tasks go to the oldest worker that has a slot free, so that others become idle and"
            " can go; of workers that start"
        ),
    ] = False
    autoscale: Annotated[Autoscale, Meta(description="how the number of workers follows the backlog")] = (
        Autoscale()
    )

    def __post_init__(self) -> None:
        for queue in self.queues:
            if self.queues.count(queue) > 1:
                raise ValueError(f"queues: {queue!r} is named twice")
            if (
                "," in queue
                or len(queue.encode()) > LONGEST_QUEUE
                or queue.endswith((".dlq", ".dlx"))
                or queue.startswith(("gw.", "amq.", "celery_delayed_"))
            ):
                raise ValueError(
                    f"queues: {queue!r} holds no tasks for workers: names may hold no comma and no more than"
                    f" {LONGEST_QUEUE} bytes, not end in .dlq or .dlx, and not begin with gw., amq. or"
                    " celery_delayed_"
                )


class WorkerSection(_Section, frozen=True, kw_only=True):
    """All pools by name."""

    pools: Annotated[dict[PoolName, Pool], Meta(min_length=1, description="the pools by name")]


class PortRange(_Section, frozen=True, kw_only=True):
    """Ports of which each worker gets one; both ends are in."""

    first: Annotated[Port, Meta(description="the first port")] = msgspec.field(name="from")
    last: Annotated[Port, Meta(description="the last port")] = msgspec.field(name="to")

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError(f"from ({self.first}) must not be above to ({self.last})")

    def __len__(self) -> int:
        return self.last - self.first + 1


class Processes(_Section, frozen=True, kw_only=True, tag_field="kind", tag="processes"):
    """Workers are processes of this machine."""

    directory: Annotated[Text, Meta(description="where the records of the workers are")]
    command: Annotated[
        tuple[Text, ...], Meta(min_length=1, description="starts a worker; settings come by environment")
    ]
    log_directory: Annotated[Text, Meta(description="where each worker's output goes")]
    ports: Annotated[PortRange, Meta(description="each worker's own HTTP port is one of these")]
    host: Annotated[Text, Meta(description="the address of these ports")] = "127.0.0.1"


class Kubernetes(_Section, frozen=True, kw_only=True, tag_field="kind", tag="kubernetes"):
    """Workers are the pods of Deployments."""

    namespace: Annotated[Name, Meta(description="where the Deployments are")]
    lease: Annotated[
        Name, Meta(description="the Lease by which one of several autoscalers is the one that acts")
    ]
    deployments: Annotated[dict[PoolName, Name], Meta(min_length=1, description="each pool's Deployment")]
    worker_port: Annotated[Port, Meta(description="the workers' own HTTP port")] = 8001


class Config(_Section, frozen=True, kw_only=True):
    """The whole file."""

    prometheus_url: Annotated[Text, Meta(description="Prometheus, as `http://HOST:PORT`")]
    worker: Annotated[WorkerSection, Meta(description="the pools of workers")]
    actuator: Annotated[Processes | Kubernetes, Meta(description="what starts and ends workers")]
    prometheus_labels: Annotated[
        dict[Label, str],
        Meta(description="labels of the broker's series, to tell it from others that Prometheus knows"),
    ] = {}
    worker_labels: Annotated[
        dict[Label, str],
        Meta(
            description="labels of the workers' series beside `pool`, to tell them from others that"
            " Prometheus knows"
        ),
    ] = {}
    host: Annotated[Text, Meta(description="address of the autoscaler's own HTTP port")] = "0.0.0.0"
    port: Annotated[Port, Meta(description="the autoscaler's own HTTP port")] = 8002
    tick_seconds: Annotated[float, Meta(gt=0, le=60, description="time between two decisions")] = 5
    mode: Annotated[
        Mode, Meta(description="`dryRun` only tells what it would do; `advise` leaves it to others to do so")
    ] = "act"

    def __post_init__(self) -> None:
        if not _is_http(self.prometheus_url):
            raise ValueError(f"prometheusUrl: {self.prometheus_url!r} must look like http://HOST:PORT")
        for name, pool in self.worker.pools.items():
            if pool.autoscale.metric_max_age_seconds <= self.tick_seconds:
                raise ValueError(
                    f"worker.pools.{name}.autoscale.metricMaxAgeSeconds"
                    f" ({pool.autoscale.metric_max_age_seconds:g}) must be above tickSeconds"
                    f" ({self.tick_seconds:g})"
                )
        owners: dict[tuple[str, str], str] = {}
        for name, pool in self.worker.pools.items():
            for queue in pool.queues:
                owner = owners.setdefault((pool.vhost, queue), name)
                if owner != name:
                    raise ValueError(
                        f"worker.pools.{name}.queues: {queue!r} is a queue of the pool {owner!r} too; its"
                        " backlog can call for workers of one pool only"
                    )
        if isinstance(self.actuator, Processes):
            most = sum(pool.autoscale.max_workers for pool in self.worker.pools.values())
            if most > len(self.actuator.ports):
                raise ValueError(
                    f"actuator.ports: {len(self.actuator.ports)} ports are too few for {most} workers,"
                    " the sum of maxWorkers over all pools"
                )
        else:
            for name in self.worker.pools:
                if name not in self.actuator.deployments:
                    raise ValueError(f"actuator.deployments: must name the Deployment of the pool {name!r}")
            names = [*self.actuator.deployments.values()]
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"actuator.deployments: {name!r} is named for two pools")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False


def parse(text: bytes) -> Config:
    """Read a configuration.

    Raises ConfigError, one line that names the key, if anything is wrong with it.
    """
    try:
        raw = msgspec.yaml.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError("not YAML: " + " ".join(str(error).split())) from None
    try:
        return msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_told(str(error), raw)) from None


def _told(message: str, raw: Any) -> str:
    """Put the key first, with the pool's name, and tell the known keys or values where one is unknown."""
    what, _, where = message.partition(" - at `")
    path = where.replace("key` in `", "").strip("`").removeprefix("$").removeprefix(".")
    if "[...]" in path:  # msgspec does not say which entry: the first that fails is the one
        above, _, _ = path.partition("[...]")
        entries, kind = raw, _section(above, raw)
        for key in above.split("."):
            entries = entries[key]
        for name, entry in entries.items():
            try:
                msgspec.convert({name: entry}, kind)
            except msgspec.ValidationError:
                path = path.replace("[...]", f".{name}")
                break
    if "unknown field" in what:
        keys = ", ".join(field.encode_name for field in msgspec.structs.fields(_section(path, raw)))
        what = re.sub(r"^Object contains unknown", "unknown", what) + f"; known are {keys}"
    elif "Invalid enum value" in what:
        what += f"; known are {', '.join(get_args(_section(path, raw)))}"
    elif path == "actuator.kind":
        what += f"; known are {', '.join(str(one.__struct_config__.tag) for one in (Processes, Kubernetes))}"
    return f"{path}: {what}" if path else what


def _section(path: str, raw: Any) -> Any:
    """Find the type that a path of keys leads to."""
    kind: Any = Config
    for key in filter(None, path.split(".")):
        raw = raw[key]
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
            kind = fields[key]
        while get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        if isinstance(kind, UnionType):
            kind = next(one for one in get_args(kind) if one.__struct_config__.tag == raw["kind"])
    return kind
