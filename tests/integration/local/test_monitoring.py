"""The shipped configuration of Prometheus, judged by its own tool."""

import subprocess

import pytest

from local.run import ROOT
from local.stores import program

pytestmark = pytest.mark.integration


def test_promtool_accepts_the_shipped_configuration() -> None:
    """Also without the files of targets beside it."""
    done = subprocess.run(
        [program("promtool"), "check", "config", str(ROOT / "monitoring" / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
