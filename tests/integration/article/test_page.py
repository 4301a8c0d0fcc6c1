"""docs/from-the-article.md: its commands print what it says they print."""

import os
import re
import signal
import subprocess
from contextlib import suppress

import pytest

from local.run import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.own_stores, pytest.mark.timeout(240)]

PAGE = ROOT / "docs" / "from-the-article.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```\n(?:\s*^```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
MARK = "---- end of a block ----"


def test_each_block_of_commands_prints_what_stands_below_it(gateway, run):
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == PAGE.read_text().count("```sh") > 5
    # the page's addresses are those of `make up`
    ports = run.ports
    here = {
        ".run/": f"{run.home}/",
        "localhost:17000": f"127.0.0.1:{gateway.port}",
        "17001": str(ports.spare()),
        ":17006": f":{ports.mysql}",
        ":17072": f":{ports.amqp}",
    }
    script = f"\necho '{MARK}'\n".join(["set -eu", *(commands for commands, _ in blocks)])
    for there, address in here.items():
        assert there in script
        script = script.replace(there, address)
    base = {name: value for name, value in os.environ.items() if not name.startswith("CELERYKIT_")}
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=ROOT,
        env=base,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, complaints = shell.communicate(timeout=200)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    _, *outputs = printed.split(f"{MARK}\n")
    assert outputs == [expected for _, expected in blocks], complaints
    assert shell.returncode == 0, complaints
