"""The gateway dies, while tasks are sent and awaited."""

import pytest

from tests.faults.harness import flowing, now
from tests.faults.load import CUT, Load

pytestmark = pytest.mark.integration


@pytest.mark.fault(
    "The gateway is killed (SIGKILL), then started",
    "connections break; what was answered 200 or 202 is done, and can be asked for at the new one",
)
def test_gateway_killed(site, measured):
    site.start()
    with Load(site.url) as load:
        flowing(load)
        gateway = "gateway-" + site.name
        site.run.processes.find(gateway).kill()
        site.run.processes.stop(gateway)
        site.launch_gateway()
        site.ready()
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended, cut=True)
    cut = load.statuses()[CUT]
    measured(f"{cut} connections refused or broken; {verdict}")
    verdict.check()
    assert cut > 0
    told = [answer.task_id for answer in load.answers if answer.status == 202]
    assert told
    assert all(site.ends(task_id)["state"] == "SUCCESS" for task_id in told)
