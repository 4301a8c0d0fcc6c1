"""The network between the broker and everybody else breaks, and nobody is told."""

import pytest

from tests.faults.harness import SLOTS, flowing, now
from tests.faults.load import DEADLINE, Load
from tests.integration.support import eventually

pytestmark = pytest.mark.integration

HEARTBEAT = 4  # seconds; the kit's own are 20 (gateway) and 30 (worker)


@pytest.fixture
def short_heartbeat(site, proxy):
    """For both: the gateway takes the URL's, a worker the smaller of its own and the broker's."""
    site.broker.ctl("eval", f"application:set_env(rabbit, heartbeat, {HEARTBEAT}).")
    site.broker_query = f"?heartbeat={HEARTBEAT}"
    yield
    site.broker.ctl("eval", "application:set_env(rabbit, heartbeat, 60).")


@pytest.mark.fault(
    "The network to the broker goes silent: nothing arrives, nothing is reset",
    "every request ends in its time with a 503; the gateway notices within two heartbeats (4 s here), a"
    " worker within two and a half;"
    " nothing accepted is lost",
)
def test_silence(site, proxy, short_heartbeat, measured):
    site.start()
    with Load(site.url) as load:
        flowing(load)
        began = now()
        proxy.silence()
        noticed = {}

        def all_notice():
            if "gateway" not in noticed and not site.gateway_report()["broker"]:
                noticed["gateway"] = now() - began
            for worker in site.workers:
                if worker not in noticed and not site.is_ready(worker):
                    noticed[worker] = now() - began
            return len(noticed) == 3

        eventually(all_notice, 60, f"everybody notices: {noticed}")
        eventually(lambda: now() - began > DEADLINE, DEADLINE, "the requests of the silence end")
        proxy.speak()
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    by_gateway = noticed.pop("gateway")
    measured(
        f"noticed by the gateway after {by_gateway:.1f} s, by the last worker after"
        f" {max(noticed.values()):.1f} s; {verdict}"
    )
    verdict.check(twice=2 * SLOTS)
    looking = 1.5
    assert by_gateway <= 2 * HEARTBEAT + looking
    assert max(noticed.values()) <= 2.5 * HEARTBEAT + looking


@pytest.mark.fault(
    "Every connection to the broker is reset (RST), three times",
    "everybody connects again; nothing accepted is lost",
)
def test_resets(site, proxy, measured):
    site.start()
    count = 0
    with Load(site.url) as load:
        for _ in range(3):
            flowing(load, 10)
            count += proxy.reset()
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(f"{count} reset; {verdict}")
    verdict.check(twice=3 * 2 * SLOTS)


@pytest.mark.fault(
    "The network to the broker is slow: a quarter of a second each way",
    "all goes on, later",
)
def test_slowness(site, proxy, measured):
    site.start()
    with Load(site.url, rate=6) as load:
        flowing(load)
        proxy.delay(0.25)
        slow = now()
        flowing(load, 15)
        first = load.seen(lambda a: a.status == 200 and a.began > slow, since=slow)
        proxy.delay(0)
        mended = now()
        flowing(load)
    verdict = site.judge(load, mended=mended)
    measured(f"first result over the slow network after {first:.1f} s; {verdict}")
    verdict.check(twice=2 * SLOTS)
