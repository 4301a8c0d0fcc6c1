"""The kit under load while something breaks: real stores, a real gateway, real workers, and the judge."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

import psutil
import pymysql

from celerykit import database, schema
from local import ledger
from local.http import answers, request
from local.ports import HOST, taken
from local.run import ROOT, Run
from local.stores import MySQL, RabbitMQ
from tests.faults.load import CUT, DEADLINE, Load
from tests.integration.support import eventually

SLOTS = 4  # tasks that a worker runs at once
DRAIN_SECONDS = 90
TASKS = {
    "fault.work": {},
    "fault.poison": {},
    "fault.grow": {},
    "fault.transfer": {},
    "fault.limited": {"timeLimitSeconds": 2},
}


class Broker:
    """RabbitMQ as an operator handles it, in one virtual host."""

    def __init__(self, rabbitmq: RabbitMQ, vhost: str) -> None:
        self.rabbitmq, self.vhost = rabbitmq, vhost

    def api(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Ask the management API; status and decoded body."""
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.rabbitmq.management}/api/{path}"
        status, answer = request(method, url, data, self.rabbitmq.login, timeout=20)
        return status, json.loads(answer) if answer.strip() else None

    def ctl(self, *arguments: str) -> None:
        """Run rabbitmqctl."""
        home = self.rabbitmq.run.folder("rabbitmq")
        environment = {
            "HOME": str(home),
            "ERL_EPMD_PORT": str(self.rabbitmq.run.ports.epmd),
            "ERL_INETRC": str(home / "inetrc"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }
        command = ["/usr/lib/rabbitmq/bin/rabbitmqctl", "--node", "kit@localhost", "--quiet", *arguments]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()

    def kill(self) -> None:
        """SIGKILL the Erlang machine."""
        leader = self.rabbitmq.run.processes.find("rabbitmq")
        assert leader is not None
        machines = [p for p in (leader, *leader.children(recursive=True)) if p.name().startswith("beam")]
        assert machines
        for machine in machines:
            machine.kill()
        psutil.wait_procs(machines, timeout=10)
        self.rabbitmq.stop()  # what is left of it

    def connections(self) -> dict[int, str]:
        """The virtual host's that the API knows by now: the client's port, and the name for a URL."""
        _, connections = self.api("GET", f"vhosts/{self.vhost}/connections")
        return {
            each["peer_port"]: quote(each["name"], safe="") for each in connections if "peer_port" in each
        }

    def user_url(self, password: str) -> str:
        """Give a user of the virtual host's own this password; where that user connects."""
        user = self.vhost
        assert self.api("PUT", f"users/{user}", {"password": password, "tags": ""})[0] in (201, 204)
        every = {"configure": ".*", "write": ".*", "read": ".*"}
        assert self.api("PUT", f"permissions/{self.vhost}/{user}", every)[0] in (201, 204)
        return f"amqp://{user}:{password}@{HOST}:{self.rabbitmq.run.ports.amqp}/{self.vhost}"

    def depth(self, queue: str) -> int:
        """Messages in a queue, -1 if there is none."""
        status, body = self.api("GET", f"queues/{self.vhost}/{queue}")
        return int(body.get("messages", 0)) if status == 200 else -1

    def delayed(self) -> int:
        """Messages that are due later."""
        _, queues = self.api("GET", f"queues/{self.vhost}")
        return sum(
            queue.get("messages", 0) for queue in queues if queue["name"].startswith("celery_delayed_")
        )

    def publish(self, body: str, headers: Mapping[str, Any], **properties: Any) -> None:
        """Put a message into the task queue, whatever it is."""
        message = {
            "routing_key": "default",
            "payload": body,
            "payload_encoding": "string",
            "properties": {"delivery_mode": 2, "headers": headers, **properties},
        }
        status, answer = self.api("POST", f"exchanges/{self.vhost}/default/publish", message)
        assert (status, answer) == (200, {"routed": True})


@dataclass(frozen=True)
class Verdict:
    """What became of a load; times in seconds."""

    accepted: int
    refused: Mapping[str, int]
    counts: ledger.Counts
    hung: int
    longest: float
    missing: int  # accepted tasks, not dead, whose success is not in the table of results
    unasked: int  # tasks that ran though their request was refused
    recovery: float | None
    unexpected: list[object]

    def check(self, *, twice: int = 0) -> None:
        """What must be so after every fault; at most `twice` tasks have run twice."""
        assert self.accepted > 0
        assert self.counts.lost == 0, self
        assert self.missing == 0, self
        assert self.hung == 0, self
        assert self.unexpected == [], self
        assert self.counts.run_twice <= twice, self
        assert self.recovery is not None, self

    def __str__(self) -> str:
        refused = ", ".join(f"{count} `{kind}`" for kind, count in sorted(self.refused.items()))
        parts = [
            f"{self.accepted} accepted, {self.counts.lost} lost, {self.counts.run_twice} run twice",
            f"{self.missing} results missing" if self.missing else "",
            f"{self.counts.interrupted} attempts cut short" if self.counts.interrupted else "",
            f"refused with 503: {refused}" if refused else "none refused",
            f"{self.unasked} of the refused ran" if self.unasked else "",
            f"longest answer {self.longest:.1f} s",
            "" if self.recovery is None else f"first result {self.recovery:.1f} s after it was mended",
        ]
        return "; ".join(part for part in parts if part)


@dataclass
class Site:
    """A gateway and workers on a virtual host and a database of their own."""

    run: Run
    rabbitmq: RabbitMQ
    mysql: MySQL
    name: str = field(default_factory=lambda: f"fault-{uuid.uuid4().hex[:8]}")
    broker_port: int = 0  # of a proxy before the broker
    broker_query: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    gateway_environment: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)  # of the programs that were ever named
    stopped: set[str] = field(default_factory=set)  # workers that we ended in their work
    posted: set[str] = field(default_factory=set)  # tasks beside the load

    def __post_init__(self) -> None:
        self.broker = Broker(self.rabbitmq, self.name)
        self.catalogue = self.run.folder("config") / f"{self.name}.yaml"
        tasks = {name: {"queue": "default", **keys} for name, keys in TASKS.items()}
        self.catalogue.write_text(json.dumps({"tasks": tasks}))

    @contextmanager
    def made(self) -> Iterator[None]:
        """Make the virtual host and the database, and remove them and all programs again."""
        assert self.broker.api("PUT", f"vhosts/{self.name}", {})[0] == 201
        self.administer(f"CREATE DATABASE `{self.database}`")
        schema.upgrade(self.database_url)
        try:
            yield
        finally:
            for name, process in self.processes().items():
                os.killpg(process.pid, signal.SIGKILL)
                self.run.processes.stop(name)
            with suppress(OSError):
                self.broker.api("DELETE", f"vhosts/{self.name}")
                self.broker.api("DELETE", f"users/{self.name}")
            with suppress(pymysql.MySQLError):
                self.administer(f"DROP DATABASE `{self.database}`")

    @property
    def database(self) -> str:
        """Its name."""
        return f"kit_{self.name.replace('-', '_')}"

    @property
    def database_url(self) -> str:
        """Its URL."""
        return self.mysql.url_of(self.database)

    @property
    def broker_url(self) -> str:
        """Where the programs connect."""
        url = self.rabbitmq.url_of(self.name) + self.broker_query
        return url.replace(f":{self.run.ports.amqp}/", f":{self.broker_port or self.run.ports.amqp}/")

    @property
    def url(self) -> str:
        """The gateway's."""
        return self._url(self.gateway)

    @property
    def gateway(self) -> str:
        """Its name as a program."""
        return f"gateway-{self.name}"

    @property
    def workers(self) -> list[str]:
        """The workers that run."""
        return [name for name in self.processes() if name.startswith("worker-")]

    def administer(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the kit's user."""
        with (
            pymysql.connect(**database.parse(self.mysql.url)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
            return list(cursor.fetchall())

    def start(self, workers: int = 2) -> None:
        """Start everything and wait until it is ready."""
        self.launch_gateway()
        for _ in range(workers):
            self.launch_worker()
        self.ready()

    def launch_gateway(self) -> None:
        """Start the gateway, without waiting."""
        own = {"CELERYKIT_GATEWAY_CATALOGUE": str(self.catalogue)} | self.gateway_environment
        self._launch("gateway", "gateway", **own)

    def launch_worker(self, **environment: str) -> str:
        """Start a worker, without waiting; returns its name."""
        name = f"worker-{len(self.ports)}"
        return self._launch(
            name,
            "worker",
            CELERYKIT_WORKER_NAME=f"{name}-{self.name}",
            CELERYKIT_WORKER_CONCURRENCY=str(SLOTS),
            CELERYKIT_WORKER_TASK_MODULES="tests.faults.tasks",
            **environment,
        )

    def roll(self) -> None:
        """Restart workers and gateway as a rolling update does: five seconds to end, then SIGKILL."""
        for worker in [name for name in self.ports if name.startswith("worker-")]:
            self.stopped.add(worker)
            self.run.processes.stop(worker, grace=5)
            self._wait_ready(self.launch_worker())
        self.run.processes.stop(self.gateway, grace=5)
        self.launch_gateway()
        self._wait_ready(self.gateway)

    def processes(self) -> dict[str, psutil.Process]:
        """The programs that run."""
        found = {name: self.run.processes.find(name) for name in self.ports}
        return {name: process for name, process in found.items() if process}

    def ready(self) -> None:
        """Wait until the gateway and all workers are."""
        for name in self.processes():
            self._wait_ready(name)

    def is_ready(self, name: str) -> bool:
        """Whether a program says so."""
        return answers(f"{self._url(name)}/readyz")

    def lives(self, name: str) -> bool:
        """Whether a program says that it need not be restarted."""
        return answers(f"{self._url(name)}/{'healthz' if name == self.gateway else 'livez'}")

    def report(self, name: str) -> dict[str, Any]:
        """What a program's /readyz tells."""
        told: dict[str, Any] = json.loads(request("GET", f"{self._url(name)}/readyz", timeout=10)[1])
        return told

    def gateway_report(self) -> dict[str, Any]:
        """What the gateway's /readyz tells."""
        return self.report(self.gateway)

    def close_connections(self) -> int:
        """Have the broker close the programs' connections, once its API knows them all; returns how many."""

        def known() -> dict[int, str]:
            names = self.broker.connections()
            return names if self._sockets() <= names.keys() else {}

        names: Any = eventually(known, what="the API knows all connections")
        return sum(self.broker.api("DELETE", f"connections/{name}")[0] == 204 for name in names.values())

    def _sockets(self) -> set[int]:
        """The ports from which the programs are connected to the broker."""
        leaders = self.processes().values()
        return {
            connection.laddr.port
            for process in [*leaders, *(child for leader in leaders for child in leader.children())]
            for connection in process.net_connections("tcp4")
            if connection.raddr and connection.raddr.port == self.run.ports.amqp
        }

    def children(self, worker: str) -> list[psutil.Process]:
        """The pool of a worker."""
        leader = self.run.processes.find(worker)
        assert leader is not None
        return leader.children()

    def kill_worker(self, worker: str) -> None:
        """SIGKILL it and its pool."""
        leader = self.run.processes.find(worker)
        assert leader is not None
        self.stopped.add(worker)
        os.killpg(leader.pid, signal.SIGKILL)
        leader.wait(10)

    def post(
        self, task: str, args: list[Any] | None = None, wait: int = 0, **options: Any
    ) -> tuple[int, dict[str, Any]]:
        """Run one task; status and body."""
        post = urllib.request.Request(
            f"{self.url}/v1/tasks/{task}",
            json.dumps({"args": args or [], "options": options}).encode(),
            {"Content-Type": "application/json", "Prefer": f"wait={wait}" if wait else "respond-async"},
        )
        try:
            answer = urllib.request.urlopen(post, timeout=DEADLINE + wait)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            body = json.loads(answer.read())
        self.posted.add(body.get("id", ""))
        return answer.status, body

    def ends(self, task_id: str, wait: int = 30) -> dict[str, Any]:
        """Wait for an accepted task; the operation."""
        url = f"{self.url}/v1/operations/{task_id}?wait={wait}"
        operation: dict[str, Any] = json.loads(request("GET", url, timeout=wait + 15)[1])
        return operation

    def rows(self) -> list[ledger.Row]:
        """The whole ledger."""
        with database.connect(self.database_url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT task_id, attempt_id, worker, started_at, ended_at FROM celerykit_ledger")
            return [ledger.Row(*row) for row in cursor.fetchall()]

    def running(self) -> int:
        """Tasks that run now, by the ledger."""
        return sum(row.ended_at is None for row in self.rows())

    def dead(self) -> set[str]:
        """Ids among the dead letters."""
        return ledger.read_dead_letters(
            self.rabbitmq.management, self.rabbitmq.login, "default", vhost=self.name
        )

    def drained(self) -> bool:
        """Whether no worker holds a task."""
        return not any(self.report(name)["reserved"] for name in self.workers)

    def count(self, load: Load) -> ledger.Counts:
        """What became of the accepted tasks until now."""
        return ledger.count(load.accepted(), self.rows(), self.dead(), self.stopped)

    def missing(self, load: Load) -> set[str]:
        """Accepted tasks, not dead, that have no row of a success until now."""
        statement = f"SELECT task_id FROM `{self.database}`.celery_taskmeta WHERE status = 'SUCCESS'"
        succeeded = {task_id for (task_id,) in self.administer(statement)}
        return load.accepted().keys() - succeeded - self.dead()

    def judge(self, load: Load, *, mended: float, cut: bool = False) -> Verdict:
        """Wait until all that was accepted has ended, then tell what became of it.

        With `cut`, connections to the gateway may have been refused or broken.
        """
        with suppress(AssertionError):  # what is lost is told by the verdict
            eventually(
                lambda: self.drained() and self.count(load).lost == 0 and not self.missing(load),
                DRAIN_SECONDS,
            )
        every = load.answers
        accepted = load.accepted()
        good = {200, 202, 503} | ({CUT} if cut else set())
        refused: dict[str, int] = {}
        for answer in every:
            if answer.status == 503:
                refused[answer.problem] = refused.get(answer.problem, 0) + 1
        return Verdict(
            accepted=len(accepted),
            refused=refused,
            counts=self.count(load),
            hung=sum(answer.status == 0 for answer in every),
            longest=max(answer.ended - answer.began for answer in every),
            missing=len(self.missing(load)),
            unasked=len({row.task_id for row in self.rows()} - accepted.keys() - self.posted),
            recovery=load.seen(lambda answer: answer.status == 200, since=mended),
            unexpected=[
                answer
                for answer in every
                if answer.status not in {*good, 0} or (answer.status == 503 and not answer.retry_after)
            ],
        )

    def _launch(self, name: str, module: str, **environment: str) -> str:
        name = f"{name}-{self.name}"
        prefix = f"CELERYKIT_{module.upper()}_"
        own = {f"{prefix}HOST": HOST, f"{prefix}PORT": str(self._port(name))}
        common = {
            "CELERYKIT_BROKER_URL": self.broker_url,
            "CELERYKIT_DATABASE_URL": self.database_url,
            "PYTHONPATH": f"{ROOT / 'services'}{os.pathsep}{ROOT}",
        }
        every = common | own | self.environment | environment
        self.run.processes.start(name, [sys.executable, "-m", module], every)
        return name

    def _wait_ready(self, name: str) -> None:
        self.run.processes.wait_ready(name, partial(self.is_ready, name), 60)

    def _url(self, name: str) -> str:
        return f"http://{HOST}:{self._port(name)}"

    def _port(self, name: str) -> int:
        """The port of a program, chosen when it is asked for first."""
        if name not in self.ports:
            first, last = self.run.ports.workers
            used = self.ports.values()
            free = (port for port in range(first, last + 1) if port not in used and not taken(port))
            self.ports[name] = next(free)
        return self.ports[name]


@dataclass
class Trial:
    """A load during which something breaks; as text, what the row of docs/reliability.md says of it."""

    load: Load
    mended: float | None = None  # the moment, by the clock of the answers; else the end of the fault
    notes: list[str] = field(default_factory=list)
    verdict: Verdict = field(init=False)

    def note(self, words: str) -> None:
        """Say in the row what was measured beside the verdict."""
        self.notes.append(words)

    def flowing(self, successes: int = 20) -> None:
        """Wait for so many results from now on."""
        self._more(200, successes, "results")

    def refusing(self, refusals: int = 1) -> None:
        """Wait for so many 503 from now on."""
        self._more(503, refusals, "refusals")

    def __str__(self) -> str:
        return "; ".join([*self.notes, str(self.verdict)])

    def _more(self, status: int, count: int, what: str) -> None:
        wanted = self.load.statuses()[status] + count
        eventually(lambda: self.load.statuses()[status] >= wanted, 60, what)


@contextmanager
def trial(
    site: Site, *, twice: int = 0, before: int = 20, after: int = 20, cut: bool = False, **load: Any
) -> Iterator[Trial]:
    """Send tasks before, while and after what is within breaks something and mends it; then judge.

    `before` and `after` are the results to wait for, `twice` the tasks that may run twice. With `cut`,
    connections to the gateway may be refused or broken. `load` has the arguments of Load.
    """
    with Load(site.url, **load) as sending:
        under_way = Trial(sending)
        under_way.flowing(before)
        yield under_way
        mended = under_way.mended or now()
        under_way.flowing(after)
    under_way.verdict = site.judge(sending, mended=mended, cut=cut)
    under_way.verdict.check(twice=twice)


def now() -> float:
    """The clock of a load's answers."""
    return time.monotonic()
