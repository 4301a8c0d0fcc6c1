"""RabbitMQ, MariaDB and Prometheus as processes of a run, each with its own data, ports and passwords."""

import getpass
import os
import shutil
import socket
from pathlib import Path

import msgspec

from celerykit.settings import Settings, SettingsError, load
from local.http import answers
from local.ports import HOST, require_free
from local.process import StartError, write_atomically
from local.run import ROOT, Run

USER = "kit"
START_SECONDS = 90
LEAST_CONSUMER_TIMEOUT_SECONDS = 7200
RABBITMQ_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # what is on the PATH switches to another user


class RabbitMQ:
    """RabbitMQ with management and metrics; everything listens on 127.0.0.1 only."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def url(self) -> str:
        """For its clients."""
        return self.url_of("/")

    @property
    def management(self) -> str:
        """The HTTP API, without a slash at its end."""
        return f"http://{HOST}:{self.run.ports.management}"

    @property
    def login(self) -> tuple[str, str]:
        """User and password."""
        return USER, self.run.secrets.rabbitmq

    def url_of(self, vhost: str) -> str:
        """For clients that use another virtual host."""
        path = vhost.replace("/", "%2F")
        return f"amqp://{USER}:{self.run.secrets.rabbitmq}@{HOST}:{self.run.ports.amqp}/{path}"

    def launch(self) -> None:
        """Start the processes, without waiting."""
        ports, home = self.run.ports, self.run.folder("rabbitmq")
        for what in ("epmd", "amqp", "management", "rabbitmq_metrics", "distribution"):
            require_free(f"rabbitmq ({what})", ports.fixed[what])
        write_atomically(home / "rabbitmq.conf", self._config().encode(), mode=0o600)
        write_atomically(home / "plugins", b"[rabbitmq_management,rabbitmq_prometheus].\n")
        write_atomically(home / "inetrc", b'{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file]}.\n')
        erlang = {"ERL_EPMD_ADDRESS": HOST, "ERL_EPMD_PORT": str(ports.epmd), "HOME": str(home)}
        # Started by us, or the Erlang machine would start one that outlives it.
        self.run.processes.start("epmd", [program("epmd")], erlang)
        environment = {
            **erlang,
            "ERL_INETRC": str(home / "inetrc"),  # the name localhost resolves without any resolver
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": "kit@localhost",
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONFIG_FILES": str(home / "conf.d"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(self.run.folder("log", "rabbitmq")),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_DIST_PORT": str(ports.distribution),
            # Spinning schedulers would eat the cores that the workers need.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false"
            " -kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
        }
        self.run.processes.start("rabbitmq", [program(RABBITMQ_SERVER)], environment, cwd=home)

    def wait(self) -> None:
        """Wait until clients are served."""
        self.run.processes.wait_ready("rabbitmq", self.ready, START_SECONDS)

    def ready(self) -> bool:
        """Whether clients are served."""
        return connects(self.run.ports.amqp) and answers(f"{self.management}/api/vhosts", self.login)

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """Stop it; queues and messages stay on disk."""
        self.run.processes.stop("rabbitmq", grace=60)
        self.run.processes.stop("epmd")

    def _consumer_timeout_seconds(self) -> int:
        limit = "CELERYKIT_TASK_TIME_LIMIT"  # the workers take it from the same environment
        given = {limit: os.environ[limit]} if limit in os.environ else {}
        urls = {"CELERYKIT_BROKER_URL": self.url, "CELERYKIT_DATABASE_URL": "mysql://unused/unused"}
        try:
            settings = load(Settings, urls | given)
        except SettingsError as error:
            raise StartError(str(error)) from None
        return max(LEAST_CONSUMER_TIMEOUT_SECONDS, settings.task_time_limit + 600)

    def _config(self) -> str:
        ports = self.run.ports
        return f"""\
listeners.tcp.1 = {HOST}:{ports.amqp}
management.tcp.ip = {HOST}
management.tcp.port = {ports.management}
prometheus.tcp.ip = {HOST}
prometheus.tcp.port = {ports.rabbitmq_metrics}
default_user = {USER}
default_pass = {self.run.secrets.rabbitmq}
# above the longest time limit of a task, in milliseconds
consumer_timeout = {1000 * self._consumer_timeout_seconds()}
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 200MB
raft.wal_max_size_bytes = 33554432
log.file = rabbitmq.log
log.console = false
"""


class MySQL:
    """MariaDB on 127.0.0.1 with a user and a database of the kit; its root comes in by the socket only."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def url(self) -> str:
        """For its clients."""
        return self.url_of(USER)

    def url_of(self, database: str) -> str:
        """For clients that use another database; the user may make any named kit_…."""
        return f"mysql://{USER}:{self.run.secrets.mysql}@{HOST}:{self.run.ports.mysql}/{database}"

    def launch(self) -> None:
        """Start the process, without waiting; on the first start make its data."""
        require_free("mysql", self.run.ports.mysql)
        home = self.run.folder("mysql")
        write_atomically(home / "my.cnf", self._config(home).encode())
        write_atomically(home / "users.sql", self._users().encode(), mode=0o600)
        if not (home / "data").exists():
            self._install(home)
        command = [program("mariadbd"), f"--defaults-file={home / 'my.cnf'}", f"--user={getpass.getuser()}"]
        self.run.processes.start("mysql", command, {})

    def wait(self) -> None:
        """Wait until clients are served."""
        self.run.processes.wait_ready("mysql", self.ready, START_SECONDS)

    def ready(self) -> bool:
        """Whether clients are served: MariaDB opens its port after everything else."""
        return connects(self.run.ports.mysql)

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """Stop it; the data stay on disk."""
        self.run.processes.stop("mysql", grace=60)

    @property
    def _temporary(self) -> Path:
        """Its own: a server that starts deletes the temporary tables of all that share the folder."""
        return self.run.folder("mysql", "tmp")

    def _install(self, home: Path) -> None:
        new = home / "data.new"  # renamed when whole: an interrupted installation is made again
        shutil.rmtree(new, ignore_errors=True)
        user = getpass.getuser()
        command = [
            program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={new}",
            f"--tmpdir={self._temporary}",
            f"--user={user}",
            "--auth-root-authentication-method=socket",
            f"--auth-root-socket-user={user}",
            "--skip-test-db",
            "--skip-name-resolve",
        ]
        self.run.processes.run("mysql-install", command, {})
        new.rename(home / "data")

    def _config(self, home: Path) -> str:
        return f"""\
[mariadbd]
datadir = {home / "data"}
# in the data folder: the path of a socket may have 107 characters at most
socket = mysql.sock
pid-file = mysql.pid
tmpdir = {self._temporary}
bind-address = {HOST}
port = {self.run.ports.mysql}
init-file = {home / "users.sql"}
skip-name-resolve
skip-log-bin
character-set-server = utf8mb4
max-connections = 200
innodb-buffer-pool-size = 64M
innodb-log-file-size = 32M
key-buffer-size = 1M
aria-pagecache-buffer-size = 8M
performance-schema = off
"""

    def _users(self) -> str:
        who = f"`{USER}`@`{HOST}`"
        return (
            f"CREATE DATABASE IF NOT EXISTS `{USER}` CHARACTER SET utf8mb4;\n"
            f"CREATE OR REPLACE USER {who} IDENTIFIED BY '{self.run.secrets.mysql}';\n"
            f"GRANT ALL ON `{USER}`.* TO {who};\n"
            f"GRANT ALL ON `{USER}\\_%`.* TO {who};\n"
        )


class Prometheus:
    """Prometheus with the shipped configuration; its targets are files that may change at any time."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def url(self) -> str:
        """Pages and HTTP API, without a slash at its end."""
        return f"http://{HOST}:{self.run.ports.prometheus}"

    def launch(self) -> None:
        """Start the process, without waiting."""
        require_free("prometheus", self.run.ports.prometheus)
        ports, home = self.run.ports, self.run.folder("prometheus")
        shutil.copyfile(ROOT / "monitoring" / "prometheus.yml", home / "prometheus.yml")
        shutil.rmtree(home / "rules", ignore_errors=True)
        shutil.copytree(ROOT / "monitoring" / "rules", home / "rules")
        jobs = {
            "kit-rabbitmq": ports.rabbitmq_metrics,
            "kit-gateway": ports.gateway,
            "kit-autoscaler": ports.autoscaler,
            "kit-flower": ports.flower,
        }
        for job, port in jobs.items():
            targets = [{"targets": [f"{HOST}:{port}"]}]
            write_atomically(
                self.run.folder("prometheus", "targets") / f"{job}.json", msgspec.json.encode(targets)
            )
        self._link_workers(home / "targets" / "kit-worker.json")
        command = [
            program("prometheus"),
            f"--config.file={home / 'prometheus.yml'}",
            f"--storage.tsdb.path={home / 'data'}",
            "--storage.tsdb.retention.time=1d",
            "--storage.tsdb.retention.size=256MB",
            f"--web.listen-address={HOST}:{ports.prometheus}",
            "--log.level=warn",
        ]
        self.run.processes.start("prometheus", command, {}, cwd=home)

    def wait(self) -> None:
        """Wait until queries are answered."""
        self.run.processes.wait_ready("prometheus", self.ready, START_SECONDS)

    def ready(self) -> bool:
        """Whether queries are answered."""
        return answers(f"{self.url}/-/ready")

    def start(self) -> None:
        """Start it and wait until it serves."""
        self.launch()
        self.wait()

    def stop(self) -> None:
        """Stop it; the data stay on disk."""
        self.run.processes.stop("prometheus")

    def _link_workers(self, link: Path) -> None:
        workers = self.run.folder("workers") / "targets.json"  # the autoscaler's file
        if not workers.exists():
            write_atomically(workers, b"[]")
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(workers, link.parent))


class Stores:
    """The three, together."""

    def __init__(self, run: Run) -> None:
        self.rabbitmq = RabbitMQ(run)
        self.mysql = MySQL(run)
        self.prometheus = Prometheus(run)

    def start(self) -> None:
        """Start all at once and wait for each."""
        stores = (self.rabbitmq, self.mysql, self.prometheus)
        for store in stores:
            store.launch()
        for store in stores:
            store.wait()

    def stop(self) -> None:
        """Stop all; their data stay on disk."""
        for store in (self.prometheus, self.rabbitmq, self.mysql):
            store.stop()


def program(name: str) -> str:
    """Find a program, also where only root looks."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not found:
        raise StartError(f"{name} is not installed: run `make setup`")
    return found


def connects(port: int) -> bool:
    """Whether something accepts connections on the port."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
