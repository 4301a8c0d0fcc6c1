"""The network between the broker and everybody else, or the gateway alone, breaks, and nobody is told."""

import math

import pytest

from tests.faults.harness import SLOTS, now
from tests.faults.load import DEADLINE
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
    " worker within two and a half; nothing accepted is lost",
)
def test_silence(site, proxy, short_heartbeat, fault):
    site.start()
    with fault(site, twice=2 * SLOTS) as trial:
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
    by_gateway = noticed.pop("gateway")
    by_worker = max(noticed.values())
    trial.note(f"noticed by the gateway after {by_gateway:.1f} s, by the last worker after {by_worker:.1f} s")
    looking = 1.5
    assert by_gateway <= 2 * HEARTBEAT + looking
    assert by_worker <= 2.5 * HEARTBEAT + looking


@pytest.mark.fault(
    "Every connection to the broker is reset (RST), three times",
    "everybody connects again; nothing accepted is lost",
)
def test_resets(site, proxy, fault):
    site.start()
    with fault(site, twice=3 * 2 * SLOTS) as trial:
        count = proxy.reset()
        for _ in range(2):
            trial.flowing(10)
            count += proxy.reset()
        trial.note(f"{count} reset")


@pytest.mark.fault(
    "The network to the broker is slow: a quarter of a second each way",
    "all goes on, later",
)
def test_slowness(site, proxy, fault):
    site.start()
    with fault(site, twice=2 * SLOTS, rate=6, before=8, after=8) as trial:
        proxy.delay = 0.25
        slow = now()
        trial.flowing(15)
        first = trial.load.seen(lambda a: a.status == 200 and a.began > slow, since=slow)
        trial.note(f"first result over the slow network after {first:.1f} s")
        proxy.delay = 0


@pytest.fixture
def its_own_network(site, proxy):
    """The network in which the gateway alone reaches the broker."""
    site.gateway_environment["CELERYKIT_BROKER_URL"] = site.broker_url
    site.broker_port = 0
    return proxy


@pytest.mark.fault(
    "The network to the gateway is cut between a publish and its confirm, three times: the broker has the"
    " task, the gateway never hears so",
    "503, and what was refused may have run; never a 202 for what the broker has not",
)
def test_lost_confirms(site, its_own_network, fault):
    site.start()
    with fault(site) as trial:
        for _ in range(3):
            its_own_network.mute()
            unheard = len(site.rows())
            eventually(lambda had=unheard: len(site.rows()) >= had + 10, what="tasks nobody heard of")
            its_own_network.reset()
            its_own_network.speak()
            trial.flowing(10)
    assert trial.verdict.unasked > 0
    assert set(trial.verdict.refused) == {"broker-unavailable"}


@pytest.mark.fault(
    "The network between gateway and broker holds everything back for five seconds each way",
    "every request ends in its time with a 503, as no confirm comes within five seconds; what was refused may"
    " run",
)
def test_five_seconds_of_latency(site, its_own_network, fault):
    site.start()
    with fault(site, rate=6, before=8, after=8) as trial:
        its_own_network.delay = 5
        trial.refusing(30)
        its_own_network.delay = 0
    assert trial.verdict.unasked > 0


@pytest.mark.fault(
    "The network between gateway and broker carries 1 KB/s in each connection",
    "what gets through in time is answered, all else is a 503 in its time; what was refused may run later",
)
def test_one_kilobyte_a_second(site, its_own_network, fault):
    site.start()
    with fault(site, rate=6, before=8, after=8) as trial:
        its_own_network.rate = 1024
        trial.refusing(30)
        its_own_network.rate = math.inf
