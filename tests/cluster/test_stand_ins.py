"""The stand-ins keep what the charts rely on of the official images, each as a restricted pod."""

import json
from collections.abc import Callable
from subprocess import CalledProcessError

import pytest

from local.http import answers, request
from tests.cluster.pods import Pods, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LOGIN = ("kit", "a'b\\c d")  # a password that needs quoting wherever it is put


@pytest.fixture(scope="module")
def rabbitmq(pods: Pods) -> str:
    user, password = LOGIN
    pod = pods.start(
        "rabbitmq:4.3-management",
        999,
        env={
            "RABBITMQ_DEFAULT_USER": user,
            "RABBITMQ_DEFAULT_PASS": password,
            "RABBITMQ_DEFAULT_VHOST": "shop",
        },
        empty=("/var/lib/rabbitmq", "/var/log/rabbitmq", "/tmp"),
        files={"/etc/rabbitmq/conf.d": {"20-test.conf": "consumer_timeout = 4242000\n"}},
    )
    eventually(lambda: answers(f"http://{pods.address(pod)}:15672/api/overview", login=LOGIN))
    return pod


class TestRabbitmq:
    def test_runs_as_999_and_writes_its_log_to_the_console(self, pods: Pods, rabbitmq: str) -> None:
        assert pods.execute(rabbitmq, "id", "-u") + pods.execute(rabbitmq, "id", "-g") == "999\n999\n"
        assert "Server startup complete" in pods.kubectl("logs", rabbitmq)

    def test_makes_the_default_user_and_vhost(self, pods: Pods, rabbitmq: str) -> None:
        url = f"http://{pods.address(rabbitmq)}:15672/api/permissions"
        (permission,) = json.loads(request("GET", url, login=LOGIN)[1])
        assert (permission["user"], permission["vhost"]) == (LOGIN[0], "shop")

    def test_reads_every_file_of_conf_d(self, pods: Pods, rabbitmq: str) -> None:
        assert "4242000" in pods.execute(rabbitmq, "rabbitmq-diagnostics", "environment")

    def test_serves_metrics_of_queues(self, pods: Pods, rabbitmq: str) -> None:
        assert answers(f"http://{pods.address(rabbitmq)}:15692/metrics/detailed?family=queue_coarse_metrics")

    def test_its_commands_reach_the_server_from_a_shell_in_the_pod(self, pods: Pods, rabbitmq: str) -> None:
        assert "kit" in pods.execute(rabbitmq, "rabbitmqctl", "list_users")


@pytest.fixture(scope="module")
def mysql(pods: Pods) -> str:
    user, password = LOGIN
    init = {
        "1-network.sh": "open=1; mysqladmin --protocol=tcp --host=127.0.0.1 ping || open=0\n"
        'mysql -uroot -p"$MYSQL_ROOT_PASSWORD" -e "CREATE TABLE shop_1.seen AS SELECT $open AS open"\n',
        "2-rows.sql": "CREATE TABLE items (id INT); INSERT INTO items VALUES (1), (2);\n",
    }
    return pods.start(
        "mysql:9.7",
        999,
        env={
            "MYSQL_ROOT_PASSWORD_FILE": "/run/secrets/root",
            "MYSQL_DATABASE": "shop_1",
            "MYSQL_USER": user,
            "MYSQL_PASSWORD": password,
        },
        args=["--max-connections=77"],
        empty=("/var/lib/mysql", "/var/run/mysqld", "/tmp"),
        files={
            "/docker-entrypoint-initdb.d": init,
            "/run/secrets": {"root": "r'oot"},
            "/etc/mysql/conf.d": {"a.cnf": "[mysqld]\nwait_timeout = 4242\n"},
        },
    )


@pytest.fixture(scope="module")
def query(pods: Pods, mysql: str) -> Callable[..., str]:
    def ask(sql: str, user: str = LOGIN[0], password: str = LOGIN[1]) -> str:
        login = (f"--user={user}", f"--password={password}", "--host=127.0.0.1", "--protocol=tcp")
        return pods.execute(
            mysql, "mysql", *login, "--batch", "--skip-column-names", "-e", sql, "shop_1"
        ).strip()

    eventually(lambda: ask("SELECT 1"))
    return ask


class TestMysql:
    def test_the_user_may_use_its_database_and_no_other(self, query: Callable[..., str]) -> None:
        assert query("CREATE TABLE own (id INT); SHOW TABLES LIKE 'own'") == "own"
        with pytest.raises(CalledProcessError):
            query("SELECT * FROM mysql.user")

    def test_takes_the_root_password_from_a_file(self, query: Callable[..., str]) -> None:
        assert query("SELECT CURRENT_USER()", "root", "r'oot") == "root@%"

    def test_runs_init_files_on_a_server_without_network(self, query: Callable[..., str]) -> None:
        assert query("SELECT open FROM seen") == "0"
        assert query("SELECT COUNT(*) FROM items") == "2"

    def test_reads_conf_d_and_arguments(self, query: Callable[..., str]) -> None:
        assert query("SELECT @@global.wait_timeout, @@max_connections") == "4242\t77"

    def test_a_second_start_keeps_the_data_and_prepares_nothing(
        self, pods: Pods, mysql: str, query: Callable[..., str]
    ) -> None:
        query("INSERT INTO items VALUES (3)")
        began = query("SELECT @@server_uuid")
        pods.execute(mysql, "bash", "-c", "kill 1")
        count = ("get", "pod", mysql, "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
        eventually(lambda: pods.kubectl(*count) == "1")
        assert eventually(lambda: query("SELECT COUNT(*) FROM items")) == "3"
        assert query("SELECT @@server_uuid") == began

    def test_its_exporter_measures_it(self, pods: Pods, mysql: str, query: Callable[..., str]) -> None:
        exporter = pods.start(
            "prom/mysqld-exporter:v0.20.0",
            65534,
            env={"MYSQLD_EXPORTER_PASSWORD": "r'oot"},
            args=["--mysqld.username=root", f"--mysqld.address={pods.address(mysql)}:3306"],
        )
        url = f"http://{pods.address(exporter)}:9104/metrics"
        eventually(lambda: answers(url))
        assert b"\nmysql_up 1\n" in request("GET", url)[1]


class TestPrometheus:
    def test_serves_what_its_file_says_with_its_default_flags(self, pods: Pods) -> None:
        files = {"/etc/prometheus": {"prometheus.yml": "global: {scrape_interval: 42s}\n"}}
        pod = pods.start("prom/prometheus:v3.5.3", 65534, empty=("/prometheus",), files=files)
        url = f"http://{pods.address(pod)}:9090"
        eventually(lambda: answers(f"{url}/-/ready"))
        assert b"scrape_interval: 42s" in request("GET", f"{url}/api/v1/status/config")[1]
        assert "SUCCESS" in pods.execute(pod, "promtool", "check", "config", "/etc/prometheus/prometheus.yml")

    def test_arguments_take_the_place_of_the_default_flags(self, pods: Pods) -> None:
        args = ["--config.file=/etc/other/p.yml", "--storage.tsdb.path=/data", "--web.route-prefix=/p"]
        files = {"/etc/other": {"p.yml": "global: {scrape_interval: 43s}\n"}}
        pod = pods.start("prom/prometheus:v3.5.3", 65534, args=args, empty=("/data",), files=files)
        eventually(lambda: answers(f"http://{pods.address(pod)}:9090/p/-/ready"))
