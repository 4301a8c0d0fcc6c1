"""`python -m tests.cluster VERB`: a real Kubernetes to test on.

Exit codes: 0 it went well, 1 it did not, 2 there is no such verb, 128 + N signal N came.
"""

import argparse
import signal
import sys
from types import FrameType

from local.process import say
from tests.cluster import build
from tests.cluster.clusters import choose
from tests.cluster.tools import ClusterError, locked

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
VERBS = {
    "build": "compile kubectl, both Helms and Kubernetes itself, or only the PROGRAMs named",
    "helm": "compile both Helms and nothing else",
    "images": "make the images, and bring them into the cluster if it runs",
    "up": "start the cluster unless it runs; the last line is the path of the administrator's kubeconfig",
    "load": "bring the IMAGEs named, which buildah or Docker has, into the cluster",
    "volumes": "make the volumes anew and empty that deleted claims left",
    "down": "end the cluster and remove what it left on this machine",
    "status": "show what runs, and what it asks of the node",
    "path": "print the path of the TOOL named as the last line, compiled if it is not yet",
}


def main() -> int:
    """Do what one verb says."""
    for number in SIGNALS:
        signal.signal(number, _interrupted)
    verb, names = _arguments()
    try:
        if verb == "status":
            say(choose().status())
        elif verb == "path" and all(map(build.is_current, names)):
            _say_paths(names)
        else:
            with locked(f"python -m tests.cluster {verb}"):
                _do(verb, names)
    except (ClusterError, OSError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


def _do(verb: str, names: list[str]) -> None:
    cluster = choose()
    match verb:
        case "build":
            build.build(names or build.FOR_CLUSTERS)
        case "helm":
            build.build(build.HELMS)
        case "path":
            build.build(names)
            _say_paths(names)
        case "up":
            say(str(cluster.up()))
        case "load":
            cluster.load(names)
        case "images":
            cluster.images()
        case "volumes":
            cluster.volumes()
        case "down":
            cluster.down()


def _say_paths(names: list[str]) -> None:
    say("\n".join(str(build.path(name)) for name in names))


def _interrupted(number: int, _frame: FrameType | None) -> None:
    """Leave by way of the clean-up, which a second signal must not disturb."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _arguments() -> tuple[str, list[str]]:
    lines = [f"  {verb:<8} {what}" for verb, what in VERBS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster",
        description=__doc__.splitlines()[0] if __doc__ else None,
        epilog="\n".join(["verbs:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB")
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    takes = {"build": True, "load": bool(arguments.names), "path": bool(arguments.names)}
    if not takes.get(arguments.verb, not arguments.names):
        parser.error(
            f"{arguments.verb}: {'name at least one' if arguments.verb in takes else 'takes no names'}"
        )
    return arguments.verb, arguments.names


if __name__ == "__main__":
    sys.exit(main())
