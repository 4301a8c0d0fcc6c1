"""A load that stays while pods go, and what became of its tasks."""

import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from subprocess import CalledProcessError

from local import ledger
from tests.e2e.cluster import Kit, eventually

CALLERS = 4
SECONDS = 0.3  # that a task takes
WAIT = 30  # seconds that a call waits for its result


@dataclass
class Load:
    """Callers that each send a task through the gateway and await its end, again and again."""

    kit: Kit
    accepted: dict = field(default_factory=dict)  # when, by task
    answered: list = field(default_factory=list)  # when a call had its result
    others: Counter = field(default_factory=Counter)  # what came in place of a result
    whole_at: float = 0  # when the kit was itself again
    counts: ledger.Counts | None = None  # what became of the accepted tasks, in the end

    def __enter__(self):
        self._stop = threading.Event()
        key = self.kit.secret("gateway", "api-key")
        self._headers = {"Authorization": f"Bearer {key}", "Prefer": f"wait={WAIT}"}
        self._threads = [threading.Thread(target=self._call_on) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()
        eventually(lambda: len(self.answered) > 2 * CALLERS, 60, "the load runs")
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def answers(self, since):
        """How many calls had their result since then."""
        return sum(at > since for at in self.answered)

    def longest_gap(self):
        """The longest time without a result."""
        return max(b - a for a, b in pairwise(self.answered))

    def _call_on(self):
        kit = Kit(self.kit.cluster, self.kit.helm, self.kit.namespace)
        while not self._stop.is_set():
            if not self._called(kit):
                self._stop.wait(0.2)
        kit.close()

    def _called(self, kit):
        """Whether a call was answered with a task's result, or its id."""
        body = {"kwargs": {"seconds": SECONDS}}
        try:
            answer = kit.ask(
                "gateway", 8000, "/v1/tasks/task.sleep",
                method="POST", body=body, headers=self._headers, timeout=WAIT + 10,
            )  # fmt: skip
        except (OSError, AssertionError, CalledProcessError) as error:
            kit.close()  # the pod may be gone and the way to it still open
            self.others[type(error).__name__] += 1
            return False
        if answer.status not in {200, 202}:
            self.others[answer.status] += 1
            return False
        self.accepted[answer.json["id"]] = time.time()
        if answer.status == 200:
            self.answered.append(time.time())
        return True


@contextmanager
def disturbed(kit, *, rests=120, returns=120, answers=60):
    """A load, under which the body disturbs a kit that is at rest; then it becomes whole and answers again.

    The bounds are seconds.
    """
    eventually(lambda: settled(kit), rests, "all pods are ready")
    with Load(kit) as load:
        yield load
        eventually(lambda: settled(kit), returns, "all pods are ready again")
        load.whole_at = time.time()
        eventually(lambda: load.answers(load.whole_at) > 5, answers, "answers of the whole kit")
    load.counts = judged(kit, load)


@dataclass
class Drain:
    """Drains the node that most pods of a kit are on, of these alone; in the end it takes pods again."""

    kit: Kit

    def __enter__(self):
        pods = self.kit.get("pods")["items"]
        self.node = Counter(pod["spec"].get("nodeName") for pod in pods).most_common(1)[0][0]
        self.kit.kubectl("label", "pods", "--all", "--overwrite", f"drain={self.kit.namespace}")
        return self

    def __call__(self, seconds):
        """Drain as long as that; whether all that was to go has gone."""
        try:
            self.kit.cluster.kubectl(
                "drain", self.node, "--ignore-daemonsets", "--delete-emptydir-data",
                f"--pod-selector=drain={self.kit.namespace}", f"--timeout={seconds}s",
                seconds=seconds + 30,
            )  # fmt: skip
        except CalledProcessError as error:
            if not any(word in error.stderr for word in ("timeout", "deadline exceeded")):
                raise
            return False
        return True

    def left(self):
        """The pods that are still on the node."""
        return self.kit.get("pods", "-l", f"drain={self.kit.namespace}")["items"]

    def __exit__(self, *_):
        self.kit.cluster.kubectl("uncordon", self.node)


def settled(kit):
    """Whether every pod is ready and none is about to go."""
    for item in kit.get("deployments,statefulsets")["items"]:
        if item["status"].get("readyReplicas", 0) < item["spec"]["replicas"]:
            return False
    return not any("deletionTimestamp" in pod["metadata"] for pod in kit.get("pods")["items"])


def rows(kit, ids):
    """The attempts at these tasks."""
    return ledger.read_rows(kit.database_url(), ids)


def counted(kit, accepted):
    """What became of the accepted tasks; an attempt is interrupted if it came to no end."""
    attempts = rows(kit, accepted)
    workers = {row.worker.partition("@")[0] for row in attempts}
    return ledger.count(accepted, attempts, set(), workers)


def judged(kit, load):
    """What became of the accepted tasks; those that end get the time to. No call may have ended in a 500.

    A task that failed before its caller's eyes is answered so, and its id is not among the accepted.
    """
    assert not load.others[500], f"a task failed: {dict(load.others)}"
    end = time.monotonic() + 90

    def look():
        counts = counted(kit, load.accepted)
        return (not counts.lost or time.monotonic() > end) and counts

    return eventually(look, 150, "the ledger can be read")
