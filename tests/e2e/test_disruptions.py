"""The whole node is drained under load, with the kit's defaults: all pods go at once and wait for it."""

import time

import pytest

from tests.e2e.load import Drain, disturbed


@pytest.mark.behaviour("C23")
@pytest.mark.timeout(600)
def test_a_drained_node_loses_no_task(kit, tell):
    with disturbed(kit, rests=300, returns=300) as load:
        with Drain(kit) as drain:
            done = drain(60)
            left = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in drain.left()}
            tell(f"of a node {'drained' if done else 'being drained'} {left or 'nothing'} is left")
            # a worker waits minutes for a database that has no node, so that no result is lost
            assert left <= {"worker"}
        began = time.time()
    tell(f"all answered again after {load.whole_at - began:.0f} s: {load.counts}, {dict(load.others)}")
    assert load.counts.lost == 0
