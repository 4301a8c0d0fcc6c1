"""The gateway dies, while tasks are sent and awaited."""

import pytest

from tests.faults.load import CUT

pytestmark = pytest.mark.integration


@pytest.mark.fault(
    "The gateway is killed (SIGKILL), then started",
    "connections break; what was answered 200 or 202 is done, and can be asked for at the new one",
)
def test_gateway_killed(site, fault):
    site.start()
    with fault(site, cut=True) as trial:
        site.processes()[site.gateway].kill()
        site.run.processes.stop(site.gateway)
        site.launch_gateway()
        site.ready()
    cut = trial.load.statuses()[CUT]
    trial.note(f"{cut} connections refused or broken")
    assert cut > 0
    told = [answer.task_id for answer in trial.load.answers if answer.status == 202]
    assert told
    assert all(site.ends(task_id)["state"] == "SUCCESS" for task_id in told)
