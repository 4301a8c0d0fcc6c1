"""celerykit as users get it: a wheel in an empty environment, and two lines in an app of their own."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from contextlib import suppress

import pytest

from celerykit.link import NotFinished
from local.http import answers, request
from tests.integration.support import SERVICES, TOKEN, eventually, linked

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

ROOT = SERVICES.parent
SHOP = """
from celery import Celery
from celery.exceptions import Reject
import celerykit
app = Celery("shop")
celerykit.install(app)

@app.task
def add(x, y):
    return x + y

@app.task(bind=True)
def add_later(self, x, y):
    return self.replace(add.s(x, y))

@app.task
def refuse():
    raise Reject("never", requeue=False)
"""
TASKS = ("shop.add", "shop.add_later", "shop.refuse")


def execute(*command, cwd=None):
    """Run a command that must succeed, with none of this repository in its way."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    source = shutil.copytree(SERVICES / "celerykit", folder / "celerykit", ignore=ignored)
    execute(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(tmp_path_factory, wheel):
    """The `bin` of a virtual environment that has the wheel and what it asks for, at the tested versions."""
    folder = tmp_path_factory.mktemp("environment")
    execute(sys.executable, "-m", "venv", folder)
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    execute(*pip, "--constraint", ROOT / "constraints.txt", wheel)
    return folder / "bin"


@pytest.fixture
def port(run):
    """A port of the run that nobody has."""
    return run.ports.spare()


def test_the_wheel_holds_celerykit_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    modules = {f"celerykit/{path.name}" for path in (SERVICES / "celerykit").glob("*.py")}
    assert modules == {name for name in names if ".dist-info/" not in name}


def test_the_wheel_and_the_kit_agree_on_version_and_requirements():
    own = tomllib.loads((SERVICES / "celerykit" / "pyproject.toml").read_text())["project"]
    kit = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert own["version"] == kit["version"]
    assert own["requires-python"] == kit["requires-python"]
    extras = kit["optional-dependencies"]
    known = {*kit["dependencies"], *extras["gateway"], *extras["worker"]}
    assert {*own["dependencies"], *own["optional-dependencies"]["link"]} <= known
    assert {*own["optional-dependencies"]["worker"]} <= {*extras["worker"]}


def test_the_environment_has_no_other_part_of_the_kit(environment, tmp_path):
    parts = "('gateway', 'worker', 'autoscaler')"
    found = f"from importlib.util import find_spec; print([name for name in {parts} if find_spec(name)])"
    assert execute(environment / "python", "-c", found, cwd=tmp_path).strip() == "[]"


@pytest.fixture
def settings_of_shop(broker_url, database_url, port):
    """The environment of a user's own app, in which this repository is not to be found."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "CELERYKIT_BROKER_URL": broker_url,
        "CELERYKIT_DATABASE_URL": database_url,
        "CELERYKIT_WORKER_HOST": "127.0.0.1",
        "CELERYKIT_WORKER_PORT": str(port),
        "CELERYKIT_DRAIN_TOKEN": TOKEN,
    }


@pytest.fixture
def shop(environment, settings_of_shop, tmp_path, port):
    """The worker of that app, started by hand."""
    (tmp_path / "shop.py").write_text(SHOP)
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [environment / "celery", "-A", "shop", "worker", "--concurrency", "1"],
            cwd=tmp_path,
            env=settings_of_shop,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        eventually(lambda: answers(f"http://127.0.0.1:{port}/readyz"), what=log.read_text())
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


@pytest.fixture
async def link(shop, settings):
    """A caller of that app."""
    async with linked(settings, queues=dict.fromkeys(TASKS, "default")) as link:
        yield link


async def test_a_users_own_app_answers_the_link_and_its_port_works(shop, link, port):
    assert (await link.call("shop.add", [2, 3], wait=20)).result == 5
    page = request("GET", f"http://127.0.0.1:{port}/metrics")[1].decode()
    assert 'worker_task_received_total{queue="default",redelivered="false",task="shop.add"} 1.0' in page
    shop.terminate()
    assert shop.wait(30) == 0


async def test_a_replaced_task_of_a_users_own_app_answers_its_caller(link):
    assert (await link.call("shop.add_later", [2, 3], wait=20)).result == 5


async def test_the_worker_of_a_users_own_app_drains_and_resumes(link, port):
    def post(path):
        login = {"Authorization": f"Bearer {TOKEN}"}
        return request("POST", f"http://127.0.0.1:{port}{path}", b"", headers=login, timeout=10)[0]

    ready = f"http://127.0.0.1:{port}/readyz"
    assert (post("/drain"), answers(ready)) == (200, False)
    with pytest.raises(NotFinished) as waiting:
        await link.call("shop.add", [2, 3], wait=1)
    assert (post("/undrain"), answers(ready)) == (200, True)
    assert (await link.wait(waiting.value.task_id, 20)).result == 5


async def test_dead_letters_of_a_users_own_app_are_listed_shown_and_requeued(
    link, environment, settings_of_shop, tmp_path, port
):
    def dead_letters(*words):
        done = subprocess.run(
            [environment / "python", "-m", "celerykit.dead_letters", *words],
            cwd=tmp_path,
            env=settings_of_shop,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return json.loads(done.stdout) if done.returncode == 0 else None

    refused = await link.send("shop.refuse")
    listed = eventually(lambda: (box := dead_letters("list", "default")) and box["count"] and box)
    assert listed["tasks"] == {"shop.refuse": 1}
    shown = dead_letters("show", "default")
    assert (shown["id"], shown["task"], shown["reason"]) == (refused, "shop.refuse", "rejected")
    assert dead_letters("requeue", "default", "--id", refused) == {"queue": "default", "requeued": 1}
    received = 'worker_task_received_total{queue="default",redelivered="false",task="shop.refuse"} 2.0'
    metrics = f"http://127.0.0.1:{port}/metrics"
    eventually(lambda: received in request("GET", metrics)[1].decode(), what="it was received again")
