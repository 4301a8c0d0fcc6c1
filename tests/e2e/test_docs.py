"""The pages for those who run the chart: their commands work, in the order in which they stand."""

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import FLAGS
from tests.pages import PAGES, ROOT, Block, commands

FORWARD = re.compile(r"port-forward .*?\b(\d+)(?::\d+)? .*&$", re.MULTILINE)
AWAIT = """\
await() {
  for try in $(seq 300); do ! (: < /dev/tcp/127.0.0.1/$1) 2>/dev/null || return 0; sleep 0.1; done
}"""
PAGE_SECONDS = 480


@pytest.fixture
def machine(cluster, fresh, tmp_path):
    """The environment of somebody who has `kubectl`, `helm` and a namespace, and a checkout."""
    kit = fresh("helm4")
    cluster.namespace(kit.namespace)
    config = tmp_path / "kubeconfig"
    config.write_text(cluster.kubectl("config", "view", "--raw", "--flatten", "--minify"))
    config.chmod(0o600)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "kubectl").symlink_to(cluster.tools["kubectl"])
    helm = tools / "helm"
    # what this cluster cannot do without is said once, at the installation
    flags, program = " ".join(FLAGS), cluster.tools["helm4"]
    helm.write_text(f'#!/bin/bash\n[ "$1" != install ] || set -- "$@" {flags}\nexec {program} "$@"\n')
    helm.chmod(0o700)
    home = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": f"{tools}:{os.environ['PATH']}"}
    environment = os.environ | home | {"KUBECONFIG": str(config)}
    environment.pop("HELM_NAMESPACE", None)
    subprocess.run(
        [tools / "kubectl", "config", "set-context", "--current", f"--namespace={kit.namespace}"],
        env=environment,
        check=True,
        capture_output=True,
    )
    return environment


def script(blocks: list[Block]) -> str:
    """One run of them all, that says where it is; a forwarded port is awaited before the next block."""
    parts = ["set -eu -o pipefail", AWAIT]
    for block in blocks:
        parts += [f'echo "==== {block}, at $SECONDS s"', block.text]
        parts += [f"await {port}" for port in FORWARD.findall(block.text)]
    return "\n".join(parts)


def run(blocks: list[Block], environment: dict[str, str], log: Path) -> None:
    """Run them in one shell and leave nothing of it, no forwarded port either."""
    with log.open("w") as output:
        shell = subprocess.Popen(
            ["bash", "-c", script(blocks)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = shell.wait(PAGE_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert code == 0, log.read_text()[-6000:]


@pytest.mark.timeout(1200)
def test_every_command_of_the_pages_works_where_it_stands(machine, tmp_path, tell):
    last = [block for page in PAGES for block in commands(page, "sh last")]
    for name, blocks in [*((page.stem, commands(page)) for page in PAGES), ("last", last)]:
        began = time.monotonic()
        run(blocks, machine, tmp_path / f"{name}.log")
        tell(f"{name}: {len(blocks)} blocks in {time.monotonic() - began:.0f} s")
