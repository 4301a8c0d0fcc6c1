"""The demo: a Job with a bounded load that an upgrade never trips over, and the program in it."""

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from tests.chart.render import CHART, GIVEN

ON = {"demo": {"enabled": True}}
SLEEP = {"task.sleep": {"queue": "default"}}


def job(objects):
    (found,) = objects.of("Job")
    return found


def catalogue(**tasks):
    return {"gateway": {"catalogue": tasks}}


def test_there_is_no_demo_unless_it_is_asked_for(kit):
    assert not kit.of("Job")


def test_it_ends_by_itself_and_stays_so_that_nothing_makes_it_again(helm):
    spec = job(helm.render(GIVEN, ON, {"demo": {"minutes": 2.5}}))["spec"]
    assert spec["activeDeadlineSeconds"] == 2.5 * 60 + 900
    assert spec["backoffLimit"] == 0
    assert "ttlSecondsAfterFinished" not in spec
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_it_is_an_object_of_the_release_and_no_hook(helm):
    metadata = job(helm.render(GIVEN, ON))["metadata"]
    assert "annotations" not in metadata
    assert metadata["labels"]["app.kubernetes.io/component"] == "demo"


@pytest.mark.behaviour("C7")
@pytest.mark.parametrize(
    "change",
    [
        {"demo": {"tasksPerSecond": 5}},
        {"demo": {"minutes": 0.5}},
        {"gateway": {"image": {"tag": "other"}}},
        {"gateway": {"auth": {"existingSecret": "own"}}},
    ],
)
def test_a_demo_that_changes_is_another_job_since_a_job_cannot_change(helm, change):
    before, after = job(helm.render(GIVEN, ON)), job(helm.render(GIVEN, ON, change))
    assert before["spec"] != after["spec"]
    assert before["metadata"]["name"] != after["metadata"]["name"]


def test_what_does_not_concern_it_leaves_its_job_as_it_is(helm):
    changed = helm.render(GIVEN, ON, {"worker": {"autoscale": {"maxWorkers": 3}}})
    assert job(changed) == job(helm.render(GIVEN, ON))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (catalogue(mine={"queue": "default"}), "demo.enabled: its task must be in gateway.catalogue"),
        (
            catalogue(**{"task.sleep": {"queue": "default", "allowed": False}}),
            "demo.enabled: its task must be in gateway.catalogue",
        ),
        (
            catalogue(**{"task.sleep": {"queue": "elsewhere"}}),
            'demo.enabled: no pool of worker.pools consumes "elsewhere"',
        ),
        (
            {"worker": {"pools": {"default": None}}},
            'demo.enabled: no pool of worker.pools consumes "default"',
        ),
        ({"demo": {"tasksPerSecond": 1000}}, "/demo/tasksPerSecond"),
        ({"demo": {"minutes": 0}}, "/demo/minutes"),
    ],
)
@pytest.mark.behaviour("C4")
def test_a_demo_that_could_not_work_is_refused(helm, values, words):
    assert words in helm.refusal(ON, values)


def test_with_the_users_own_catalogue_its_task_has_to_be_in_there(helm):
    assert job(helm.render(ON, catalogue(**SLEEP, mine={"queue": "default"})))


class Gateway:
    """What was asked of a gateway that a test plays, and how it answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, str, dict, dict]] = []
        self.status = 200
        self.ready: list[int] = [200]
        self.release = asyncio.Event()
        self.release.set()
        self.has_all = asyncio.Event()


class Handler(RequestHandler):
    def initialize(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def get(self) -> None:
        ready = self.gateway.ready
        self.set_status(ready.pop(0) if len(ready) > 1 else ready[0])

    async def post(self) -> None:
        now = asyncio.get_running_loop().time()
        self.gateway.asked.append(
            (now, self.request.path, dict(self.request.headers), json.loads(self.request.body))
        )
        if len(self.gateway.asked) == 12:
            self.gateway.has_all.set()
        await self.gateway.release.wait()
        self.set_status(self.gateway.status)


@asynccontextmanager
async def playing() -> AsyncIterator[tuple[Gateway, str]]:
    gateway = Gateway()
    socket, port = bind_unused_port()
    server = HTTPServer(Application([("/.*", Handler, {"gateway": gateway})], log_function=lambda _: None))
    server.add_socket(socket)
    yield gateway, f"http://127.0.0.1:{port}"
    server.stop()
    await server.close_all_connections()


async def run(url: str, **environment: str) -> tuple[int, str]:
    """The program as the Job runs it; returns its exit code and what it said."""
    given = {
        "GATEWAY_URL": url,
        "TASK": "task.sleep",
        "TASKS_PER_SECOND": "20",
        "TASK_SECONDS": "0.5",
        "MINUTES": "0.01",
        "WAIT_SECONDS": "5",
    }
    source = (CHART / "files" / "demo.py").read_text()
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, env=given | environment, stdout=PIPE, stderr=STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(program.communicate(), 30)
    except BaseException:
        program.kill()
        await program.wait()
        raise
    assert program.returncode is not None
    return program.returncode, said.decode()


async def test_it_sends_so_many_tasks_at_a_steady_rate_and_tells_how_they_fared() -> None:
    async with playing() as (gateway, url):
        code, said = await run(url, API_KEY="a-key")
    assert code == 0, said
    assert said.startswith("sending 20 tasks a second of 0.5 s each, for 0.6 s\n")
    assert re.search(r"12 sent, 12 answered, 0 waiting", said)
    times = [at for at, *_ in gateway.asked]
    assert times[-1] - times[0] > 0.4  # spread over the time, and no burst
    for _, path, headers, body in gateway.asked:
        assert (path, body) == ("/v1/tasks/task.sleep", {"kwargs": {"seconds": 0.5}})
        assert (headers["X-Api-Key"], headers["Prefer"]) == ("a-key", "wait=5")


async def test_it_waits_for_a_gateway_that_is_not_ready_yet() -> None:
    async with playing() as (gateway, url):
        gateway.ready = [503, 200]
        code, said = await run(url)
    assert code == 0, said
    assert len(gateway.asked) == 12


async def test_a_gateway_that_refuses_for_a_while_is_no_failure_but_is_told() -> None:
    async with playing() as (gateway, url):
        gateway.status = 503
        code, said = await run(url)
    assert "12 sent, 0 answered, 0 waiting, 12 refused" in said
    assert code == 1  # since nothing was answered at all
    assert "not all went well" in said


@pytest.mark.parametrize("status", [401, 404, 500])
async def test_a_task_that_fails_fails_the_demo(status: int) -> None:
    async with playing() as (gateway, url):
        gateway.status = status
        code, said = await run(url)
    assert code == 1
    assert f"12 failed (HTTP {status})" in said


async def test_it_does_not_end_before_the_last_answer() -> None:
    async with playing() as (gateway, url):
        gateway.release.clear()
        running = asyncio.create_task(run(url))
        await asyncio.wait_for(gateway.has_all.wait(), 20)
        assert not running.done()
        gateway.release.set()
        code, said = await running
    assert code == 0, said
    assert "12 sent, 12 answered" in said


def test_it_needs_nothing_that_the_gateways_image_has_not() -> None:
    imported = re.findall(r"^(?:from|import) (\w+)", (CHART / "files" / "demo.py").read_text(), re.MULTILINE)
    assert set(imported) - sys.stdlib_module_names == {"tornado"}
