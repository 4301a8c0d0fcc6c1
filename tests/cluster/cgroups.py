"""The control groups of all pods: how every process of theirs is found and ended, whatever else died."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.cluster.tools import wait_for

NAME = "/celerykit"


def make() -> None:
    """Make our group in every hierarchy; the kubelet makes the pods' own below."""
    for group in groups():
        group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # an empty one would take no process
            if (group / file).exists():
                (group / file).write_text((group.parent / file).read_text())


def end() -> None:
    """Kill all processes in our groups and remove the groups."""
    wait_for("all processes of pods are gone", _gone, 30)


def _gone() -> bool:
    """Kill what is there, remove what is empty; tell whether nothing is left."""
    for group in groups():
        # by os.walk, which does not mind what goes meanwhile, as pathlib does
        for folder in (Path(place) for place, _, _ in os.walk(group, topdown=False)):
            with suppress(OSError):  # gone already, or its last process has not been reaped yet
                for pid in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                folder.rmdir()
    return not any(group.exists() for group in groups())


def groups() -> list[Path]:
    """Our group in each hierarchy, there or not; version 1 of control groups has many, version 2 one."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(place + NAME) for _, place, kind, *_ in mounts if kind in {"cgroup", "cgroup2"}]
