"""The integration tests of the link and the workers, on the broker and the database of the cluster."""

import os
import secrets
import subprocess
import sys
from urllib.parse import quote

import pytest

from tests.e2e.cluster import RELEASE, ROOT
from tests.e2e.conftest import ON_NODE

FOLDERS = ("tests/integration/celerykit", "tests/integration/worker")
# Root has no login but on the pod itself.
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
    login = ":".join(quote(kit.secret("rabbitmq", key), safe="") for key in ("username", "password"))
    admin = secrets.token_hex(16)
    kit.kubectl("exec", f"{RELEASE}-mysql-0", "-c", "mysql", "--", "sh", "-c", ADMINISTRATOR.format(admin))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--numprocesses=3", "--dist=loadfile", *FOLDERS],
        cwd=ROOT,
        env=os.environ
        | {
            "KIT_TEST_BROKER_URL": f"amqp://{login}@{broker}:5672/%2F",
            "KIT_TEST_BROKER_API": f"http://{login}@{broker}:15672/api/",
            "KIT_TEST_DATABASE_URL": f"mysql://admin:{admin}@{database}:3306/mysql",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    tell(f"on the cluster's stores: {done.stdout.strip().splitlines()[-1].strip('= ')}")
    assert done.returncode == 0, done.stdout[-5000:]
