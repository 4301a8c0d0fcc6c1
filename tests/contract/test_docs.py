"""The documentation says what the code does: settings, reasons, ports, links, commands."""

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from autoscaler.model import Reason
from celerykit.settings import Settings
from local.ports import Ports
from local.run import Run
from local.stores import RabbitMQ

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_every_setting_is_in_the_page_of_settings():
    check = subprocess.run(
        [sys.executable, ROOT / "docs" / "settings.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stderr


def test_every_reason_is_explained():
    page = (ROOT / "docs" / "autoscaler.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == {str(reason) for reason in Reason}


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
    assert set(re.findall(r"`make (\w+)`", page.read_text())) <= verbs


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
