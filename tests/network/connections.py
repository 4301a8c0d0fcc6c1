"""The connections that were made through this machine, as its kernel remembers them."""

import re
from pathlib import Path
from typing import NamedTuple

TABLE = Path("/proc/net/nf_conntrack")
# each flow is told twice, as it was asked for and as it is answered: the answer comes from behind the Service
FLOW = re.compile(r" (tcp|udp) .*?src=(\S+) .*?src=(\S+) dst=\S+ sport=(\d+)")


class Connection(NamedTuple):
    """Who asked whom."""

    source: str
    destination: str
    port: int
    protocol: str


def connections() -> set[Connection]:
    """All that the kernel still knows; it keeps one that has ended for two minutes."""
    return {
        Connection(source, destination, int(port), protocol.upper())
        for protocol, source, destination, port in FLOW.findall(TABLE.read_text())
    }
