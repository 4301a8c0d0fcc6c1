"""Writes docs/performance.md from the figures in docs/figures; `--check` only compares."""

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_suffix(".md")
FIGURES = PAGE.parent / "figures" / "gateway.json"
WORKERS = PAGE.parent / "figures" / "worker.json"
AUTOSCALER = PAGE.parent / "figures" / "autoscaler.json"
COST = PAGE.parent / "figures" / "autoscaler_cost.json"
CLUSTER = PAGE.parent / "figures" / "cluster.json"
TRUTH = PAGE.parent / "figures" / "truth.json"

INTRODUCTION = """\
# Performance

The gateway beside other ways from the web to a worker, and beside what nobody can go below. All on one
machine, with one RabbitMQ and, for the kit, one MariaDB; all call `task.echo` with one small argument and
answer with its result. `make docs` makes this page of [the figures](figures/gateway.json), which this
command writes:

    {made_by}

"""
MADE_ON = (
    "They are of {cores} cores with Python {python}, RabbitMQ {rabbitmq}, Celery {celery}, Tornado {tornado},"
    " aiormq {aiormq}, h2load {h2load}, {peers}; medians of {runs}. Times depend on the machine, ratios"
    " hardly."
)
GOALS = {
    "cpu_ratio_to_floors": "CPU a request ÷ (F1 + F2)",
    "p50_ratio_to_floors": "median latency ÷ (F1 + F2)",
    "p99_ratio_to_floors": "99th percentile of the latency ÷ (F1 + F2)",
    "throughput_vs_fastapi_thread": "answers a second with 32 at once ÷ those of FastAPI with a thread",
    "kib_per_wait": "KiB for each call that waits, from 1,000 to 10,000 of them",
    "loop_lag_p99_ms": "lag of the event loop while 10,000 calls wait, 99th percentile, ms",
    "burst200_wall_seconds": "seconds for 200 tasks of one second at once, by real workers",
    "echo_behind_40_waits_ratio": "latency of an echo while 40 requests wait for 5 s ÷ that without",
}
SYSTEMS = {
    "floor-rpc": "F1: a bare call over AMQP with aiormq, without HTTP, confirms or limits",
    "floor-http": "F2: a Tornado handler that answers a constant",
    "gateway": "the gateway as shipped: API key, metrics, log of requests, limits, confirms",
    "flower-apply": "Flower's `POST /api/task/apply`, on `rpc://`",
    "fastapi-thread": "FastAPI, a thread a request that waits for the result, on `rpc://`",
    "fastapi-polling": "FastAPI that looks for the result every 0.1 s, on `rpc://`",
    "faststream-rpc": "FastStream's `request()` behind FastAPI",
    "aio-celery": "aio-celery behind FastAPI, results in Redis, looked for every 0.02 s",
    "taskiq": "taskiq behind FastAPI, results in Redis, looked for every 0.02 s",
}
# why a system may be ahead of the gateway: what it does without
LESS = "it sends without confirms and has no API key, limits or log of requests"
WITHOUT = {
    "flower-apply": LESS,
    "fastapi-thread": f"{LESS}, and while few requests wait, threads for them are to be had",
    "fastapi-polling": LESS,
    "faststream-rpc": "its task is no Celery task: no quorum queue, no confirm, no acknowledgement after the"
    " work, no API key, limits or log of requests, and what a caller did not wait for is lost",
    "aio-celery": "its task runs in an asyncio worker of its own, from a classic queue without confirms, with"
    " results in memory and no API key, limits or log of requests",
    "taskiq": "its task is no Celery task and runs in an asyncio worker of its own, from a classic queue,"
    " with results in memory and no API key, limits or log of requests",
}
# milliseconds between two looks for a result: here, and by default if that differs
POLLS = {"fastapi-polling": (100, None), "aio-celery": (20, 500), "taskiq": (20, 200)}
LOADS = {
    "closed-32": (
        "32 at once",
        "32 connections, each with its next request as soon as the last is answered.",
    ),
    "open-500": (
        "500 a second",
        "250 connections with two requests a second each, evenly spread, whether answers come or not.",
    ),
    "closed-1": ("one at a time", "One connection, one request after the other."),
}
# a figure, its heading, and whether more of it is better
COLUMNS = (
    ("throughput", "answers a second", True),
    ("p50_ms", "p50, ms", False),
    ("p99_ms", "p99, ms", False),
    ("cpu_ms", "CPU a request, ms", False),
)
AS_FAST = 1.02  # less is no difference
FLOORS = ("floor-rpc", "floor-http")
PEER = "fastapi_thread_"
BUSY = 0.85  # of a core, or of all: no more is to be had of it
PARTIES = {
    "cpu_ms": "web process",
    "answering_cpu_ms": "who answers",
    "broker_cpu_ms": "RabbitMQ",
    "load_cpu_ms": "h2load",
}
WORKER_SIDE = """\
## Workers

CPU time that an echo takes in a worker with two children, all tasks in the queue before it starts, medians of
interleaved runs, by `python -m tests.bench.worker_cost`. Beside it stock Celery with its own settings: it
acknowledges a task before it runs, from a classic queue, and its `rpc://` keeps no row.
"""
SCALING = """\
## Scaling

Every load under every policy, simulated: the same seed gives the same figures on any machine. `make docs`
makes this of [the figures](figures/autoscaler.json), which this command writes; DIR has the published traces:

    {made_by}

Workers have {concurrency} slots and boot for {boot:g} s; {quantile:.0%} of all tasks shall start within 30 s,
or 60 s with {wide}. A load is feasible if the promise leaves time for a boot and two ticks, and perfect
knowledge keeps it with {max_workers} workers: {feasible}. `slo` has one set of parameters for all of them.
The policies are told in [simulate.md](simulate.md).

"""
COST_OF_SCALING = """\
## What the autoscaler costs

With 1,000 pools of three workers each, after a day, and a quarter of an hour with a tick every five seconds:
all that is kept for a time is there. Meanwhile it is asked for its metrics, and to explain itself. Time,
Prometheus and the workers are played, by `python -m tests.bench.autoscaler_cost`; what a look at a cluster
takes comes on top.

"""
COSTS = {
    "cpu_seconds_per_tick": ("CPU seconds a tick", 1.0),
    "rss_mib": ("resident after all that, MiB", 64),
    "peak_rss_mib": ("resident at most, from the start on, MiB", 64),
    "idle_rss_mib": ("with one pool: resident, MiB", 64),
    "idle_cpu_share": ("with one pool and nothing to do: part of a core", 0.01),
}
CLAIMED = {
    "worst_late_percent": ("`slo`: late on the worst load, %", 5),
    "interrupted": ("`slo`: tasks that were cut short", 0),
    "hours_ratio_to_tuned_hpa": ("worker-hours ÷ those of `hpa-tuned`, over all loads", 0.85),
    "worst_hours_ratio_to_tuned_hpa": ("the same on the worst load", 1.0),
    "hours_ratio_to_oracle": ("worker-hours ÷ the bound that nobody can beat, over all loads", 1.5),
    "flips_ratio_to_hpa": ("changes of direction ÷ those of `hpa`", 2),
    "outage_worst_late_percent": ("late on the worst load with ten minutes without Prometheus, %", 5),
    "outage_workers_removed": ("workers removed in that time", 0),
}
BOUND = "bound"
FRONTIER = """\
Worker-hours against lateness, with each policy's own knob turned: the promise of `slo` from half to twice as
long, the target of the others likewise. Green is the bound; below the grey line the promise is kept.

![worker-hours against lateness for each load](figures/frontier.svg)
"""
SIMULATED = """\
## Simulated and real

Two short loads, played for real on RabbitMQ {rabbitmq}, Prometheus {prometheus} and workers of Celery
{celery} that are processes, and what `autoscaler simulate` predicts for the very same: means of {runs}.
`make docs` makes this of [the figures](figures/truth.json), which this command writes:

    {made_by}

The live loop decides, by what Prometheus scrapes every {scrape:g} s. Of a prediction the worker-hours may be
off by {hours:g} %, the late share by {late:g} percentage points.
"""
TRUTH_COLUMNS = (
    *("load", "policy", "worker-hours", "predicted", "off by", "late, %", "predicted", "off by", "within"),
    *("boot, s", "overhead, s", "worker-hours in any phase", "late in any phase, %"),
)
LIMITS_OF_TRUTH = """\
- Each run is predicted with what was measured in it: the boots, from the creation of each process to its
  first tasks, and the overhead, for which a slot is taken by a task beside what the task sleeps. On two cores
  those that boot at once boot longer.
- It is predicted with its phases, too: how long after the start of the load scrapes, decisions and
  RabbitMQ's counts of its queues, every {statistics:g} s, begin. Who does not know them can expect no more
  than the last two columns say: the 5th percentile and the 95th of a hundred other phases. Phases within
  {apart:g} s of each other are not played, as it is chance which is first.
- A window down that is a whole number of periods ends just at a decision. What was asked for at its beginning
  then counts for real or not, by milliseconds, and in a simulation always alike: workers may go a period
  earlier or later. The loads leave such a moment out where it would make tasks late.
- A load near an edge cannot be foretold so well. In a slower wave, whose crest was the work of just all
  workers, it hung on one task in one count whether the last of them came half a minute earlier: its late
  share under `threshold` was off by 4 points in the mean of two runs, which are not in the figures.
- All is one machine of {cores} cores that others use as well (load average {load_average:g}), with one queue,
  at most {max_workers:g} workers of {concurrency:g} threads, and tasks that sleep. It says nothing of nodes,
  images, probes and limits of CPU.
- Our own policies act through the actuator for processes. On Kubernetes a drained pod goes some seconds
  later: its probe has to have failed twice, and two ticks to have seen that.
- `slo` learns: for real from what the workers count, which is read some seconds later than the backlog, and
  in the simulation from what the broker counts at the very same moment. So it is predicted less closely.
- The ports of others decide in our loop, at their own pace. Who goes is picked and ended by the bench, as a
  ReplicaSet does.
"""
ON_CLUSTER = """\
## On a cluster

One load for two pools of one release, at the same moments, on a real Kubernetes of one node: `slo` is scaled
by the release's autoscaler, `hpa-tuned` as that HPA would, by its port from the same Prometheus; ReplicaSet
and kubelet pick and end its pods. {does} The promise is {slo:g} s, and there are
at most {max_workers} workers of {concurrency} slots each. One run, by

    {made_by}

"""
CLUSTER_COLUMNS = {
    "policy": "policy",
    "tasks": "tasks",
    "late_percent": "late, %",
    "p50": "p50 of waits, s",
    "p95": "p95, s",
    "worker_hours": "worker-hours",
    "peak": "peak",
    "boot_seconds": "boot, s",
    "interrupted": "cut short",
    "run_twice": "run twice",
    "lost": "lost",
}
CLUSTER_LIMITS = """\
Worker-hours are counted until the last task of both pools has ended. Two pools boot on two cores, so that a
boot takes longer the more of them there are. A drained pod goes some seconds after it is empty.
"""
METHOD = """\
## How it is measured

- h2load puts the load on all that speak HTTP, on connections that are kept; F1 makes its load itself.
- Who answers the task: `responder` speaks the wire format of a Celery worker and does nothing else, so
  that no worker hides the web process; `workers` are two of the kit's own with two children each;
  `own worker` is that of the system. But for those, the queue is the kit's: quorum, durable.
- An answer counts if its status is 200. CPU is the web process's alone, F1's its caller's; the CPU of the
  responder, RabbitMQ and h2load stands with each run in the figures. Workers are told with their children
  and with what keeps their results, MariaDB or Redis.
- The 200 tasks at once, and the echo while others wait, are answered by real workers with slots for all: the
  gateway's by the kit's, those of FastAPI with a thread by plain Celery's with `rpc://`.
- What answers nothing under one load is started afresh for the next.
- At 500 a second no connection sends its next request before its last is answered: who answers fewer than
  500 is told a latency that is too good.
- A system is started anew for each run, warms up for 1.5 s and is then measured for some seconds. Runs are
  interleaved: every system once, then every system again.
"""


def number(value: float | None) -> str:
    """A figure with three digits that count."""
    if value is None:
        return "–"  # noqa: RUF001  # a dash stands for nothing
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def goal(limits: Mapping[str, float]) -> str:
    """At most or at least so much."""
    return " ".join(f"{'≤' if side == 'most' else '≥'} {limit:g}" for side, limit in limits.items())


def met(value: float | None, limits: Mapping[str, float]) -> str:
    """Whether a figure is as good as its goal."""
    if value is None:
        return "not measured"
    return "yes" if limits.get("least", value) <= value <= limits.get("most", value) else "**no**"


def goals(report: Mapping[str, Any]) -> Iterator[str]:
    """The table of what the gateway is held to, beside the thread that waits where that was measured too."""
    yield from (
        "## Goals",
        "",
        "| figure | goal | gateway | met | FastAPI with a thread |",
        "| --- |" + " --- |" * 4,
    )
    for key, words in GOALS.items():
        value, limits = report.get(key), report["goals"][key]
        other = number(report[PEER + key]) if PEER + key in report else ""
        yield f"| {words} | {goal(limits)} | {number(value)} | {met(value, limits)} | {other} |"
    for part, error in report.get("failed", {}).items():
        yield from ("", f"The part `{part}` failed: {error}.")
    if error := report.get(f"{PEER}error"):
        yield from ("", f"FastAPI with a thread that waits did not get through the last two: {error}.")
    yield from ("", "Of the ratios to the floors, the worse of the first two of these loads counts:", "")
    yield from ("| load | CPU a request | p50 | p99 |", "| --- | --- | --- | --- |")
    for load, (heading, _) in LOADS.items():
        cells = (number(to_floors(report["medians"], load, key)) for key in ("cpu_ms", "p50_ms", "p99_ms"))
        yield f"| {heading} | {' | '.join(cells)} |"


def to_floors(medians: Iterable[Mapping[str, Any]], load: str, key: str) -> float | None:
    """A figure of the gateway over the sum of the floors', under one load."""
    here = {named(figures): figures[key] for figures in medians if figures["load"] == load}
    values = [value for name in ("gateway", *FLOORS) if (value := here.get(name)) is not None]
    return values[0] / sum(values[1:]) if len(values) > len(FLOORS) else None


def named(figures: Mapping[str, Any]) -> str:
    """A system, and with its workers if those are real."""
    with_workers = figures["answers"] == "workers"
    return f"{figures['system']} with workers" if with_workers else str(figures["system"])


def systems(medians: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What each is."""
    yield from ("## Systems", "", "| system | what it is |", "| --- | --- |")
    for name in dict.fromkeys(figures["system"] for figures in medians):
        yield f"| {name} | {SYSTEMS[name]} |"


def table(load: str, medians: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """All systems under one load, and a sentence for each column in which the gateway is not ahead."""
    here = [figures for figures in medians if figures["load"] == load]
    heading, what = LOADS[load]
    columns = [column for _, column, _ in COLUMNS]
    yield from (f"## {heading[0].upper()}{heading[1:]}", "", what, "")
    yield f"| system | answered by | {' | '.join(columns)} | failed |"
    yield "| --- | --- |" + " --- |" * (len(columns) + 1)
    for figures in here:
        values = " | ".join(number(figures[key]) for key, _, _ in COLUMNS)
        yield f"| {named(figures)} | {figures['answers']} | {values} | {failed(figures)} |"
    sentences = list(behind(load, here))
    yield ""
    yield from sentences or [
        f"Nobody is ahead of the gateway by more than {100 * (AS_FAST - 1):.0f} % in any column."
    ]


def failed(figures: Mapping[str, Any]) -> str:
    """The share of requests that failed, and why, as it fits into a table."""
    error = (figures["error"] or "").replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
    if not figures["requests"]:
        return f"all: {error}"
    if error and not figures["errors"]:
        return f"all of one run or more: {error}"
    return f"{100 * figures['errors'] / figures['requests']:.3g} %: {error}" if error else ""


def behind(load: str, here: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """For each column who is ahead of the gateway, and why."""
    systems = {named(figures): figures for figures in here if figures["system"] not in FLOORS}
    own = systems.pop("gateway", None)
    systems.pop("gateway with workers", None)
    if own is None:
        yield "The gateway itself was not measured under this load."
        return
    for key, column, more in COLUMNS:
        for name, figures in systems.items():
            if not figures["throughput"] or figures[key] is None:
                continue
            ours, theirs = own[key], figures[key]
            if load == "open-500" and more:
                theirs = min(theirs, 500)  # more is what was late before
            better = theirs / ours if more else ours / theirs
            if better > AS_FAST:
                why = WITHOUT.get(name, "we do not know why")
                yield f"- {column}: {name} is ahead by a factor of {better:.2f}; {why}."


def shares(figures: Mapping[str, Any]) -> dict[str, float]:
    """The part of a core that each party takes, of those whose CPU was told."""
    costs = {party: figures[key] for key, party in PARTIES.items()}
    if figures["system"] == "floor-rpc":
        del costs["h2load"]  # it is the caller itself
    return {party: cost * figures["throughput"] / 1000 for party, cost in costs.items() if cost is not None}


def bound(figures: Mapping[str, Any], cores: int) -> str:
    """What a system has no more of, as far as the figures show it."""
    if not figures["throughput"]:
        return "it fails"
    taken = shares(figures)
    most = max(taken, key=lambda party: taken[party])
    if sum(taken.values()) >= BUSY * cores:
        return f"all cores, most by {most}"
    return most if taken[most] >= BUSY else "none of these"


def bounds(report: Mapping[str, Any]) -> Iterator[str]:
    """Who takes how much of a core, and what the figures show of where each system stops."""
    yield from (
        "## What bounds each",
        "",
        "Per cent of a core with 32 at once. A process of Python can take one; only workers are several.",
        "",
        f"| system | {' | '.join(PARTIES.values())} | bound by |",
        "| --- |" + " --- |" * (len(PARTIES) + 1),
    )
    for figures in report["medians"]:
        if figures["load"] == "closed-32":
            taken = shares(figures) if figures["throughput"] else {}
            cells = (
                f"{100 * taken[party]:.0f}" if party in taken else number(None) for party in PARTIES.values()
            )
            limit = bound(figures, int(report["machine"]["cores"]))
            yield f"| {named(figures)} | {' | '.join(cells)} | {limit} |"
    yield ""
    yield from (f"- {sentence}" for sentence in shown(report))


def shown(report: Mapping[str, Any]) -> Iterator[str]:
    """What the figures show of why systems stop where they do."""
    many, one = (
        {named(figures): figures for figures in report["medians"] if figures["load"] == load}
        for load in ("closed-32", "closed-1")
    )
    asked = [figures for figures in report["medians"] if figures["answers"] == "responder"]
    most = max((shares(figures).get("who answers", 0) for figures in asked), default=0)
    if most:
        told = "it bounded nobody" if most < BUSY else "**it bounded what it answered**"
        yield f"The responder took at most {100 * most:.0f} % of a core: {told}."
    own, real = many.get("gateway"), many.get("gateway with workers")
    slower = own and real and 0 < real["throughput"] < own["throughput"]
    if slower and real["answering_cpu_ms"] > real["cpu_ms"]:
        yield (
            f"Real workers answer {number(real['throughput'])} a second where the responder answers"
            f" {number(own['throughput'])}: a task takes {number(real['answering_cpu_ms'])} ms of CPU in them"
            f" and MariaDB, and {number(real['cpu_ms'])} ms in the gateway: they are the limit, not it."
        )
    if silent := list(fails(report, "flower-apply")):
        yield (
            f"flower-apply answers nothing in a run with {' or with '.join(silent)}: it sends in one thread"
            " and waits in another, but `rpc://` receives on the connection of the thread that sent, and when"
            " five waits hang, all else waits, too."
        )
    for name, (here, default) in POLLS.items():
        alone = one.get(name, {}).get("p50_ms")
        if alone and alone >= here:
            usual = f" ({default} ms by default)" if default else ""
            yield (
                f"{name} looks for a result every {here} ms{usual}: one request alone takes"
                f" {number(alone)} ms at the median."
            )
    name = "faststream-rpc"
    alone, all_ = (load.get(name, {}).get("throughput") for load in (one, many))
    if alone and all_ and all_ < 4 * alone:
        yield (
            f"{name} has one request at a time under way on its connection: 32 at once make it"
            f" {number(all_ / alone)} times as fast as one."
        )
    yield from shown_by_waits(report)


def fails(report: Mapping[str, Any], system: str) -> Iterator[str]:
    """The loads with which a system has answered nothing in a run."""
    for load, (heading, _) in LOADS.items():
        runs = [run for run in report.get("runs", ()) if (run["system"], run["load"]) == (system, load)]
        if any(not run["throughput"] for run in runs):
            yield heading


def shown_by_waits(report: Mapping[str, Any]) -> Iterator[str]:
    """What becomes of a thread for each request when tasks take long, beside the gateway."""
    ours, theirs = (report.get(f"{prefix}burst200_wall_seconds") for prefix in ("", PEER))
    if ours and theirs and theirs > 2 * ours:
        yield (
            f"fastapi-thread has 40 threads, one for each request that waits: 200 tasks of one second at once"
            f" take it {number(theirs)} s, the gateway {number(ours)} s."
        )
    ours, theirs = (report.get(f"{prefix}echo_behind_40_waits_ms") for prefix in ("", PEER))
    if ours and theirs and theirs > 2 * ours:
        yield (
            f"While its 40 threads wait for tasks of 5 s, an echo takes fastapi-thread {number(theirs)} ms,"
            f" the gateway {number(ours)} ms."
        )


def waits(report: Mapping[str, Any]) -> Iterator[str]:
    """What ten thousand calls that wait do to the process."""
    yield from ("## Waiting", "")
    if "waits_at_once" not in report:
        yield "This was not measured."
        return
    yield (
        f"{report['waits_at_once']:,} calls wait at once in one process, without HTTP, and"
        f" {report['ended_well']:,} of them end well. While they wait, it takes"
        f" {100 * report['cpu_share_while_waiting']:.1f} % of a core."
    )
    yield from ("", "| while they | longest lag of the event loop, ms |", "| --- | --- |")
    for words, key in (("begin", "_while_beginning"), ("wait", ""), ("are answered", "_while_answered")):
        yield f"| {words} | {number(report['loop_lag_max_ms' + key])} |"


def workers(report: Mapping[str, Any]) -> Iterator[str]:
    """What a task costs in each kind of worker, and what that is beside others."""
    yield from (
        WORKER_SIDE,
        "| worker | for each task | parent, ms | children, ms | both, ms | tasks a second |",
        "| --- |" + " --- |" * 5,
    )
    for system in report["systems"]:
        keys = ("cpu_ms_parent", "cpu_ms_child", "cpu_ms_task", "tasks_a_second")
        costs = (number(system[key]) for key in keys)
        yield f"| {system['name']} | {system['does']} | {' | '.join(costs)} |"
    yield from ("", "| CPU a task | ratio |", "| --- | --- |")
    yield from (
        f"| {words.replace('/', '÷')} | {number(ratio)} |" for words, ratio in report["ratios"].items()
    )


def scaling(report: Mapping[str, Any]) -> Iterator[str]:
    """Policies beside each other on every load."""
    loads, rows = report["loads"], report["rows"]
    wide = [name for name, load in loads.items() if load["setting"]["slo"] != 30]
    could = [name for name, load in loads.items() if load["feasible"]]
    setting = next(iter(loads.values()))["setting"]
    yield textwrap.dedent(
        SCALING.format(
            **setting,
            made_by=report["made_by"],
            wide=", ".join(wide),
            feasible="all are" if len(could) == len(loads) else f"these are: {', '.join(could)}",
        )
    ).rstrip("\n")
    yield from ("", "| claim | at most | figure | met |", "| --- | --- | --- | --- |")
    for key, (words, most) in CLAIMED.items():
        figure = report["claims"][key]
        yield f"| {words} | {number(most)} | {number(figure)} | {'yes' if figure <= most else '**no**'} |"
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    found = {(row["load"], row["policy"]): row for row in rows}
    yield from ("", "Worker-hours, and in brackets the per cent of tasks that start late:", "")
    yield f"| load | {' | '.join([*policies, BOUND])} |"
    yield "| --- |" + " --- |" * (len(policies) + 1)
    for name, load in loads.items():
        cells = []
        for policy in policies:
            row = found[name, policy]
            late = f" ({number(row['late_percent'])})" if row["late_percent"] else ""
            cells.append(f"{number(row['worker_hours'])}{late}")
        yield f"| {name} | {' | '.join([*cells, number(load['oracle']['worker_hours'])])} |"
    yield from ("", "Changes of direction, and in brackets tasks that were cut short:", "")
    yield f"| load | {' | '.join(policies)} |"
    yield "| --- |" + " --- |" * len(policies)
    for name in loads:
        flips = ((found[name, policy]["flips"], found[name, policy]["interrupted"]) for policy in policies)
        yield f"| {name} | {' | '.join(f'{one} ({cut})' if cut else f'{one}' for one, cut in flips)} |"
    yield from ("", FRONTIER.rstrip("\n"))


def signed(value: float) -> str:
    """A difference, of which no more than a tenth counts."""
    return f"{round(value, 1) + 0:+.1f}"  # with + 0 there is no -0.0


def simulated(report: Mapping[str, Any]) -> Iterator[str]:
    """What was predicted and what came of it."""
    limits, rows = report["limits"], report["rows"]
    count = max(row["runs"] for row in rows)
    yield SIMULATED.format(
        **report["machine"] | report["setting"],
        runs=f"{count} runs" if count > 1 else "one run",
        made_by=report["made_by"],
        hours=limits["worker_hours_percent"],
        late=limits["late_points"],
    )
    for name, load in report["loads"].items():
        yield f"- {name}: {load['does']} {load['tasks']} tasks, late after {load['slo']:g} s."
    yield from (
        "",
        f"| {' | '.join(TRUTH_COLUMNS)} |",
        "| --- |" + " --- |" * (len(TRUTH_COLUMNS) - 1),
    )
    for row in rows:
        hours, late, other = row["worker_hours"], row["late_percent"], row["any_phase"]
        cells = (
            row["load"],
            row["policy"],
            number(hours["measured"]),
            number(hours["predicted"]),
            f"{signed(hours['difference_percent'])} %",
            number(late["measured"]),
            number(late["predicted"]),
            signed(late["difference_points"]),
            "yes" if row["within"] else "**no**",
            " to ".join(map(number, row["boot_seconds"])),
            number(row["overhead_seconds"]),
            " to ".join(map(number, other["worker_hours"])),
            " to ".join(map(number, other["late_percent"])),
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    known = {"apart": limits["phases_apart_seconds"], **report["machine"], **report["setting"]}
    yield LIMITS_OF_TRUTH.format(**known).rstrip("\n")


def cost(report: Mapping[str, Any]) -> Iterator[str]:
    """What the program takes."""
    yield COST_OF_SCALING.rstrip("\n")
    yield from ("", "| figure | goal | autoscaler | met |", "| --- | --- | --- | --- |")
    for key, (words, most) in COSTS.items():
        met = "yes" if report[key] <= most else "no"
        yield f"| {words} | ≤ {number(most)} | {number(report[key])} | {met} |"


def on_cluster(report: Mapping[str, Any]) -> Iterator[str]:
    """Two pools beside each other."""
    yield ON_CLUSTER.format(**report, **report["setting"]).rstrip("\n")
    yield from (
        "",
        f"| {' | '.join(CLUSTER_COLUMNS.values())} |",
        "| --- |" + " --- |" * (len(CLUSTER_COLUMNS) - 1),
    )
    for row in report["rows"]:
        cells = (row[key] if isinstance(row[key], str) else number(row[key]) for key in CLUSTER_COLUMNS)
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield CLUSTER_LIMITS.rstrip("\n")


def page(
    report: Mapping[str, Any],
    worker: Mapping[str, Any],
    scale: Mapping[str, Any],
    truth: Mapping[str, Any],
    cluster: Mapping[str, Any],
    costs: Mapping[str, Any],
) -> str:
    """The whole page."""
    medians = report["medians"]
    count = max(figures["run"] for figures in medians)
    runs = f"{count} runs" if count > 1 else "one run"
    made_on = MADE_ON.format(
        **report["machine"] | {"peers": ", ".join(report["machine"]["peers"])}, runs=runs
    )
    parts = [
        [INTRODUCTION.format(made_by=report["made_by"]) + textwrap.fill(made_on, 110), ""],
        [*goals(report), ""],
        [*systems(medians), ""],
        *([*table(load, medians), ""] for load in LOADS),
        [*bounds(report), ""],
        [*waits(report), ""],
        [*workers(worker), ""],
        [*scaling(scale), ""],
        [*cost(costs), ""],
        [*simulated(truth), ""],
        [*on_cluster(cluster), ""],
        [METHOD.rstrip("\n")],
    ]
    return "\n".join(line for part in parts for line in part) + "\n"


def current() -> str:
    """The page of the figures that are there."""
    files = (FIGURES, WORKERS, AUTOSCALER, TRUTH, CLUSTER, COST)
    return page(*(json.loads(figures.read_bytes()) for figures in files))


def main() -> None:
    """Write the page."""
    PAGE.write_text(current())


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text() != current() and f"{PAGE.name} is out of date: run `make docs`")
    main()
