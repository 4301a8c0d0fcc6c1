"""The stores of the cluster: what the kit may do there, and that the link and the workers do it."""

import os
import secrets
import subprocess
import sys

import pytest

from tests.e2e.cluster import RELEASE, ROOT
from tests.e2e.conftest import ON_NODE

FOLDERS = ("tests/integration/celerykit", "tests/integration/worker")
# Nobody has all rights but on the pods themselves.
ADMINISTRATOR = (
    """MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysql -uroot -e "CREATE USER admin@'%' IDENTIFIED BY '{}';"""
    """ GRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION" """
)


@pytest.mark.timeout(900)
def test_the_link_and_the_workers_do_on_these_stores_what_they_do_on_others(kit, tell):
    if not ON_NODE:
        pytest.skip("the addresses of Services are reachable only from the node")
    broker, database = (
        kit.get("service", f"{RELEASE}-{name}")["spec"]["clusterIP"] for name in ("rabbitmq", "mysql")
    )
    admin = secrets.token_hex(16)
    for command in (
        ("add_user", "admin", admin),
        ("set_user_tags", "admin", "administrator"),
        ("set_permissions", "admin", ".*", ".*", ".*"),
    ):
        kit.kubectl("exec", f"{RELEASE}-rabbitmq-0", "-c", "rabbitmq", "--", "rabbitmqctl", *command)
    kit.kubectl("exec", f"{RELEASE}-mysql-0", "-c", "mysql", "--", "sh", "-c", ADMINISTRATOR.format(admin))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--numprocesses=3", "--dist=loadfile", *FOLDERS],
        cwd=ROOT,
        env=os.environ
        | {
            "KIT_TEST_BROKER_URL": f"amqp://admin:{admin}@{broker}:5672/%2F",
            "KIT_TEST_BROKER_API": f"http://admin:{admin}@{broker}:15672/api/",
            "KIT_TEST_DATABASE_URL": f"mysql://admin:{admin}@{database}:3306/mysql",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    tell(f"on the cluster's stores: {done.stdout.strip().splitlines()[-1].strip('= ')}")
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.behaviour("S9")
def test_the_programs_use_the_broker_and_do_not_rule_it(kit):
    def status(path, login):
        return kit.ask("rabbitmq", 15672, f"/api/{path}", login=login).status

    ours = kit.login("rabbitmq")
    assert status("queues/%2F", ours) == 200
    assert status("users", ours) == 401
    assert status("overview", ("guest", "guest")) == 401


def grants(kit, user):
    """What a user of MySQL may, as root is told it."""
    said = kit.kubectl(
        "exec", f"{RELEASE}-mysql-0", "-c", "mysql", "--", "sh", "-c",
        f"""MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysql -uroot --skip-column-names -e "SHOW GRANTS FOR {user}" """,
    )  # fmt: skip
    return set(said.replace("`", "").splitlines())


@pytest.mark.behaviour("C17", "S24")
def test_the_users_of_mysql_have_these_rights_and_no_more(kit):
    assert grants(kit, "celerykit@'%'") == {
        "GRANT USAGE ON *.* TO celerykit@%",
        "GRANT ALL PRIVILEGES ON celerykit.* TO celerykit@%",
    }
    assert grants(kit, "exporter@'127.0.0.1'") == {
        "GRANT PROCESS, REPLICATION CLIENT ON *.* TO exporter@127.0.0.1"
    }
    metrics = kit.ask("mysql", 9104, "/metrics").body.decode()
    assert "\nmysql_up 1" in metrics
    failed = [line for line in metrics.splitlines() if "collector_success" in line and line.endswith(" 0")]
    assert failed == []
