"""The node leaves nothing on this machine, however it ended."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import cgroups, node
from tests.cluster.node import Node
from tests.cluster.parts import PAUSE
from tests.cluster.tools import HOME, ROOT, run, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

HOLD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "hold"},
    "spec": {"containers": [{"name": "it", "image": PAUSE}]},
}


def footprint() -> dict[str, Any]:
    """What a node changes on a machine."""
    chains = [run(f"{program}-save") for program in ("iptables", "ip6tables")]
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return {
        "links": sorted(link["ifname"] for link in json.loads(run("ip", "-json", "link"))),
        "addresses": run("ip", "-brief", "address", "show", "dev", "lo") + run("ip", "route"),
        "namespaces": sorted(Path("/run/netns").glob("*")),
        "chains": [line for text in chains for line in text.splitlines() if line[0] == "-"],
        "mounts": [place for place in mounts if place.startswith(str(HOME)) and "/images/" not in place],
        "groups": [group for group in cgroups.groups() if group.exists()],
        "kernel": {key: run("sysctl", "-n", key) for key in node.KERNEL},
        "files": [file for place in node.PLACES for file in [place, *place.rglob("*")] if file.exists()],
        "processes": [process.cmdline() for process in Node().processes.strays()],
    }


@pytest.fixture
def machine(our_node: None) -> Iterator[Node]:
    """A machine without a node; what it was like has to be what it is like in the end."""
    it = Node()
    if it.is_up:
        pytest.skip("the cluster is in use; these tests need it for themselves: `make cluster-down`")
    it.down()
    before = footprint()
    yield it
    it.down()
    assert footprint() == before
    it.down()


def hold(machine: Node) -> None:
    """Run a pod."""
    machine.kubectl("apply", "-f", "-", stdin=json.dumps(HOLD))
    machine.kubectl("wait", "--for=condition=Ready", "pod/hold", "--timeout=60s")


def test_up_a_second_time_leaves_it_running(machine: Node) -> None:
    machine.up()
    first = [machine.processes.find(name) for name in machine.processes.names()]
    machine.up()
    assert [machine.processes.find(name) for name in machine.processes.names()] == first


def test_pods_and_runtime_that_were_killed_leave_nothing(machine: Node) -> None:
    machine.up()
    hold(machine)
    for process in machine.processes.strays():
        process.send_signal(signal.SIGKILL)


def test_a_killed_runtime_alone_is_seen_and_the_next_life_starts_without_its_pods(machine: Node) -> None:
    machine.up()
    hold(machine)
    containerd = machine.processes.find("containerd")
    assert containerd
    containerd.kill()
    wait_for("containerd has ended", lambda: not machine.processes.find("containerd"), 10)
    machine.up()
    assert machine.kubectl("get", "pods", "-o", "name") == ""
    assert machine.ctr("containers", "list", "-q") == ""
    hold(machine)


@pytest.mark.parametrize("part", ["containerd", "kube-apiserver", "kubelet"])
def test_a_tool_killed_half_way_leaves_nothing_for_ever(machine: Node, part: str) -> None:
    tool = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster", "up"], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    wait_for(f"{part} is started", lambda: part in machine.processes.names(), 60)
    tool.kill()
    tool.wait()


def test_a_signal_in_the_middle_ends_what_was_started(machine: Node) -> None:
    tool = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster", "up"], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    wait_for("etcd is started", lambda: "etcd" in machine.processes.names(), 60)
    tool.send_signal(signal.SIGTERM)
    assert tool.wait() == 128 + signal.SIGTERM
    assert machine.processes.strays() == []
