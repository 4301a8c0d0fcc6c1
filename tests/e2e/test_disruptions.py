"""The whole node is drained under load, with the kit's defaults: all pods go at once and wait for it."""

import time

import pytest

from tests.e2e.cluster import eventually
from tests.e2e.load import Drain, Load, judged, settled


@pytest.mark.behaviour("C23")
@pytest.mark.timeout(600)
def test_a_drained_node_loses_no_task(kit, tell):
    eventually(lambda: settled(kit), 300, "all pods are ready")
    with Load(kit) as load:
        with Drain(kit) as drain:
            done = drain(60)
            left = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in drain.left()}
            tell(f"of a node {'drained' if done else 'being drained'} {left or 'nothing'} is left")
            # a worker waits minutes for a database that has no node, so that no result is lost
            assert left <= {"worker"}
        began = time.time()
        eventually(lambda: settled(kit), 300, "all pods are ready again")
        back = time.time()
        eventually(lambda: load.answers(back) > 5, 60, "answers")
    counts = judged(kit, load)
    tell(f"all answered again after {back - began:.0f} s: {counts}, {dict(load.others)}")
    assert counts.lost == 0
