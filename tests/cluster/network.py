"""The node's place in this machine's network: its address, its pods', and the packet filter's chains.

Nothing here leads out: pods reach each other, Services and this machine, and this machine reaches them.
"""

import ipaddress
import json
import re
from pathlib import Path

from tests.cluster.tools import ClusterError, run

NODE_IP = "10.55.0.1"
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
_ADDRESS = (f"{NODE_IP}/32", "dev", "lo")
_NAME = "celerykit"  # of the network, for the CNI plugins
_RESULTS = Path("/var/lib/cni/results")  # the plugins' own place, which cannot be set


def check() -> None:
    """Raise ClusterError if somebody else uses what we need."""
    ours = [ipaddress.IPv4Network(text) for text in (f"{NODE_IP}/32", POD_RANGE, SERVICE_RANGE)]
    for route in json.loads(run("ip", "-json", "-4", "route")):
        there = ipaddress.IPv4Network("0.0.0.0/0" if route["dst"] == "default" else route["dst"])
        if any(there.subnet_of(own) for own in ours):  # a wider one does not disturb
            raise ClusterError(
                f"{there} is in use on {route.get('dev')}, and the node needs it: free it first"
            )
    if _chains():
        raise ClusterError(
            "another Kubernetes node runs on this machine (iptables has KUBE- chains): end it first"
        )


def up(folder: Path) -> None:
    """Give the node its address, and tell the CNI plugins how to attach pods."""
    run("ip", "address", "add", *_ADDRESS)
    # what is for a Service becomes a pod's before it is sent; what is for none must not leave this machine
    run("ip", "route", "add", SERVICE_RANGE, "dev", "lo", "src", NODE_IP)
    addresses = {
        "type": "host-local",
        "dataDir": str(folder / "addresses"),
        "ranges": [[{"subnet": POD_RANGE}]],
    }
    # a line of its own for each pod: over a bridge, Services would need a kernel module (br_netfilter)
    line = {"type": "ptp", "ipam": {**addresses, "routes": [{"dst": "0.0.0.0/0"}]}}
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {"cniVersion": "0.4.0", "name": _NAME, "plugins": [line]}
    (folder / "10-celerykit.conflist").write_text(json.dumps(configuration))


def down() -> None:
    """Remove all of it; what is not there is no matter."""
    if NODE_IP in run("ip", "address", "show", "dev", "lo"):
        run("ip", "address", "delete", *_ADDRESS)  # the route goes with it
    for program, removal in _chains():
        run(f"{program}-restore", "--noflush", stdin=removal)
    for result in _RESULTS.glob(f"{_NAME}-*-eth0"):
        pod = result.name.removeprefix(f"{_NAME}-").removesuffix("-eth0")
        (_RESULTS / f"cni-loopback-{pod}-lo").unlink(missing_ok=True)
        result.unlink()


def _chains() -> list[tuple[str, str]]:
    """Return what takes the chains of Kubernetes out of each table that has some."""
    removals = [
        (program, removal(table, run(f"{program}-save", "-t", table)))
        for program in ("iptables", "ip6tables")
        for table in ("filter", "nat", "mangle")
    ]
    return [(program, commands) for program, commands in removals if commands]


def removal(table: str, saved: str) -> str:
    """Return what iptables-restore needs to take the chains of Kubernetes out; empty if there are none."""
    lines = saved.splitlines()
    chains = [line[1:].split()[0] for line in lines if line.startswith(":KUBE-")]
    if not chains:
        return ""
    jumps = [f"-D{line[2:]}" for line in lines if re.match(r"-A (?!KUBE-).* -[jg] KUBE-", line)]
    emptied, deleted = [f"-F {chain}" for chain in chains], [f"-X {chain}" for chain in chains]
    return "\n".join([f"*{table}", *jumps, *emptied, *deleted, "COMMIT", ""])
