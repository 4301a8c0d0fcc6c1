"""celerykit as users get it: a wheel in an empty environment, and two lines in an app of their own."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from contextlib import suppress

import pytest

from celerykit.link import Link
from local.http import answers, request
from local.ports import taken
from tests.integration.support import SERVICES, eventually

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

ROOT = SERVICES.parent
SHOP = """
from celery import Celery
import celerykit
app = Celery("shop")
celerykit.install(app)

@app.task
def add(x, y):
    return x + y
"""


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
    return next(port for port in range(*run.ports.workers) if not taken(port))


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
def shop(environment, broker_url, database_url, tmp_path, port):
    """The worker of a user's own app, started by hand."""
    (tmp_path / "shop.py").write_text(SHOP)
    own = {
        "CELERYKIT_BROKER_URL": broker_url,
        "CELERYKIT_DATABASE_URL": database_url,
        "CELERYKIT_WORKER_HOST": "127.0.0.1",
        "CELERYKIT_WORKER_PORT": str(port),
    }
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [environment / "celery", "-A", "shop", "worker", "--concurrency", "1"],
            cwd=tmp_path,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own,
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


async def test_a_users_own_app_answers_the_link_and_its_port_works(shop, settings, port):
    link = Link(settings, queues={"shop.add": "default"})
    await link.start()
    try:
        assert (await link.call("shop.add", [2, 3], wait=20)).result == 5
    finally:
        await link.close()
    page = request("GET", f"http://127.0.0.1:{port}/metrics")[1].decode()
    assert 'worker_task_received_total{queue="default",redelivered="false",task="shop.add"} 1.0' in page
    shop.terminate()
    assert shop.wait(30) == 0
