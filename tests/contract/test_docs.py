"""The documentation says what the code does: settings, reasons, ports, links, commands."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml
from celery.app import trace
from celery.app.defaults import DEFAULT_PROCESS_LOG_FMT

from autoscaler.model import Reason
from autoscaler.simulator.loads import read_csv
from celerykit.settings import Settings
from docs import simulations
from docs.values import all_keys
from local.ports import Ports
from local.run import Run
from local.stores import RabbitMQ
from tests.chart.render import CHART
from tests.pages import NO_COMMANDS, NOT_RUN, SIMULATION, blocks, commands
from tests.pages import PAGES as COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("helm/**/*.md"),
    *ROOT.glob("k8s/**/*.md"),
]


@pytest.mark.behaviour("C5")
@pytest.mark.parametrize("made_by", ["settings.py", "values.py"])
def test_every_setting_and_value_is_in_its_page(made_by):
    check = subprocess.run(
        [sys.executable, ROOT / "docs" / made_by, "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stderr


def test_simulations_give_what_their_pages_show_and_draw():
    check = subprocess.run(
        [sys.executable, ROOT / "docs" / "simulations.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize("page", simulations.PAGES, ids=lambda page: page.name)
def test_no_simulation_of_a_page_goes_unrun(page):
    text = page.read_text()
    runs = [found[2] for found in simulations.RUN.finditer(text)]
    assert len(runs) == len(SIMULATION.findall(text))
    drawn = set(re.findall(r"--plot (\S+)", "".join(runs)))
    assert drawn == set(re.findall(r"\]\(figures/(\S+)\)", text))
    assert all((simulations.FIGURES / name).stat().st_size < 100_000 for name in drawn)


def test_every_reason_is_explained():
    page = (ROOT / "docs" / "autoscaler.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == {str(reason) for reason in Reason}


def test_what_to_do_is_told_for_every_reason():
    text = (ROOT / "docs" / "tuning.md").read_text()
    rows = re.findall(r"^\| (`[A-Z][^|]*) \|", text, re.MULTILINE)
    named = [reason for row in rows for reason in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(str(reason) for reason in Reason)


def test_a_log_of_celery_becomes_a_load(tmp_path):
    (code,) = (block.text for block in blocks(ROOT / "docs" / "tuning.md") if "celery.log" in block.text)
    line = {"levelname": "INFO", "processName": "MainProcess"}
    told = [
        ("08:22:38,500", trace.LOG_RECEIVED % {"name": "app.add", "id": "a-1"}),
        ("08:22:38,750", trace.LOG_RECEIVED % {"name": "app.add", "id": "b-2"}),
        (
            "08:22:39,000",
            trace.LOG_SUCCESS % {"name": "app.add", "id": "b-2", "runtime": 0.25, "return_value": 3},
        ),
        ("08:22:39,000", trace.LOG_RECEIVED % {"name": "app.add", "id": "runs-still"}),
        (
            "08:22:39,500",
            trace.LOG_SUCCESS % {"name": "app.add", "id": "a-1", "runtime": 1e-5, "return_value": 3},
        ),
    ]
    text = "".join(
        f"{DEFAULT_PROCESS_LOG_FMT % (line | {'asctime': f'2026-11-29 {at}', 'message': message})}\n"
        for at, message in told
    )
    (tmp_path / "celery.log").write_text(f"no line of a task\n{text}")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    load = read_csv(tmp_path / "mine.csv")
    assert (load.arrivals, load.services) == ((0, 0.25), (1e-5, 0.25))


def test_the_readme_names_the_ports_that_are_used():
    table = re.findall(r"^\| ([^|a-z]+) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    named = {int(port) for row in table for port in re.findall(r"\d+", row)}
    ports = Ports()
    used = {ports.gateway, ports.autoscaler, ports.mysql, ports.flower, ports.prometheus, *ports.workers}
    assert named == used | {ports.amqp, ports.management, ports.rabbitmq_metrics}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?://)([^)#]*)", page.read_text()):
        assert not link or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_verbs_that_are_named_exist(page):
    verbs = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z0-9-]+)", page.read_text())) <= verbs


def test_a_command_that_no_test_runs_says_why():
    assert len(COMMANDS) == 5
    for block in (block for page in COMMANDS for block in blocks(page)):
        run = block.info in ("sh", "sh last")
        assert run or NOT_RUN.fullmatch(block.info) or block.info in NO_COMMANDS, block


def test_the_readme_installs_as_the_quickstart_does_with_the_demo():
    (block, *_) = blocks(ROOT / "README.md")[1:]
    assert NOT_RUN.fullmatch(block.info)
    run = [line for part in commands(COMMANDS[0]) for line in part.text.splitlines()]
    told = [line for line in block.text.splitlines() if line.startswith("helm ")]
    assert len(told) == 2
    assert {line.replace(" --set demo.enabled=true", "") for line in told} <= set(run)


def test_the_page_of_the_manifests_names_images_and_components_that_are_there():
    folder = ROOT / "k8s"
    shown = [yaml.safe_load(b.text) for b in blocks(folder / "README.md") if b.info == "yaml"]
    images, overlay = shown
    rendered = "".join(file.read_text() for file in (folder / "base").glob("*.yaml"))
    used = set(re.findall(r"image: (celery-kit/\w+):", rendered))
    assert {image["name"] for image in images["images"]} == used
    for path in [*overlay["resources"], *overlay["components"]]:
        assert (folder / "overlays" / "mine" / path).resolve().is_dir(), path


def known_values():
    """Every key of the values, and every map above one."""
    found = {key.path for key in all_keys()}
    return found | {path.rpartition(".")[0] for path in found}


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "docs" / "tls.md", *COMMANDS[:4]], ids=lambda p: p.name
)
def test_values_that_are_named_exist(page):
    known = known_values()
    parts = "|".join({path.partition(".")[0] for path in known} - {""})
    for named in re.findall(
        rf"(?:`|--set(?:-json)?[ =]'?)((?:{parts})(?:\.\w+)+)(?=[`=:])", page.read_text()
    ):
        # the page of values tells of an image and of resources in one line
        in_one_line = re.sub(r"(image|resources)\..*", r"\1", named)
        of_any_pool = re.sub(r"^worker\.pools\.\w+\.(?!queues)", "worker.", in_one_line)
        assert of_any_pool in known, named


def test_the_database_takes_as_many_connections_as_the_defaults_need():
    told = re.search(r"`mysql.maxConnections`, (\d+) .* the defaults need (\d+)", COMMANDS[1].read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    worker = values["worker"]
    needed = (
        worker["autoscale"]["maxWorkers"] * worker["concurrency"] * 2 + values["gateway"]["replicas"] * 6 + 3
    )
    allowed = yaml.safe_load((CHART / "charts" / "mysql" / "values.yaml").read_text())["maxConnections"]
    assert told
    assert (int(told[1]), int(told[2])) == (allowed, needed)
    assert needed * 2 < allowed  # in a rollout, both those that go and those that come


def test_the_repository_names_no_package_registry():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    # put together here, so that this file does not name them
    words = ["index" + "-url", "pypi" + ".org", "python" + "hosted"]
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            text = path.read_text(errors="replace")
            assert not [word for word in words if word in text], name


def test_the_broker_waits_longer_for_an_acknowledgement_than_a_task_may_take(tmp_path):
    timeout = re.search(r"consumer_timeout = (\d+)", RabbitMQ(Run(tmp_path))._config())
    limit = next(f.default for f in msgspec.structs.fields(Settings) if f.name == "task_time_limit")
    assert timeout
    assert int(timeout[1]) / 1000 > limit
