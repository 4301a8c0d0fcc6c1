"""Of several autoscalers one acts, whatever the clocks say and whoever dies."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from autoscaler.actuators.cluster import Cluster
from autoscaler.actuators.leader import ACT_SECONDS, LEASE_SECONDS, Leader
from tests.unit.autoscaler.fake_kubernetes import FakeKubernetes, playing


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeKubernetes]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    async with playing(tmp_path) as fake:
        yield fake


@pytest.fixture
async def cluster(fake: FakeKubernetes) -> AsyncIterator[Cluster]:
    cluster = Cluster("n", 2, CollectorRegistry())
    yield cluster
    await cluster.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def candidate(cluster: Cluster, clock: Clock) -> Callable[[str], Leader]:
    return lambda identity: Leader(cluster, "lease", identity, clock)


Candidate = Callable[[str], Leader]


async def test_the_first_leads_and_the_second_follows(fake: FakeKubernetes, candidate: Candidate) -> None:
    first, second = candidate("first"), candidate("second")
    for leader in (first, second, first, second):
        await leader.renew()
    assert (first.leading, second.leading) == (True, False)
    assert (first.holder, second.holder) == ("first", "first")
    spec = fake.leases["lease"]["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == (
        "first",
        15,
        0,
    )


@pytest.mark.behaviour("F14")
async def test_a_dead_leader_is_followed_once_its_lease_stood_still_for_its_time(
    fake: FakeKubernetes, candidate: Candidate, clock: Clock
) -> None:
    first, second = candidate("first"), candidate("second")
    await first.renew()
    clock.now += 100
    await second.renew()  # sees it for the first time, however old it is
    assert not second.leading
    clock.now += LEASE_SECONDS - 0.1
    await second.renew()
    assert not second.leading
    clock.now += 0.1
    await second.renew()
    assert second.leading
    assert fake.leases["lease"]["spec"]["leaseTransitions"] == 1
    await first.renew()
    assert (first.leading, first.holder) == (False, "second")


async def test_a_renewed_lease_is_not_taken(candidate: Candidate, clock: Clock) -> None:
    first, second = candidate("first"), candidate("second")
    for _ in range(20):
        await first.renew()
        await second.renew()
        clock.now += 5
        assert (first.leading, second.leading) == (True, False)


@pytest.mark.behaviour("F14")
async def test_a_leader_that_cannot_renew_stops_before_another_may_begin(
    fake: FakeKubernetes, candidate: Candidate, clock: Clock
) -> None:
    first, second = candidate("first"), candidate("second")
    await first.renew()
    await second.renew()
    fake.faults = {"/lease": 500}
    for _ in range(2 * LEASE_SECONDS):
        clock.now += 0.5
        await first.renew()
        assert first.leading == (clock.now < 1000 + ACT_SECONDS)
        assert not (first.leading and second.leading)
    fake.faults = {}
    await second.renew()
    assert second.leading
    assert ACT_SECONDS < LEASE_SECONDS


@pytest.mark.behaviour("F14")
async def test_of_two_that_take_it_at_once_one_gets_it(
    fake: FakeKubernetes, cluster: Cluster, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = candidate("first"), candidate("second")
    write = cluster.write_lease

    async def later(lease: object) -> None:
        monkeypatch.setattr(cluster, "write_lease", write)
        await second.renew()
        await write(lease)  # type: ignore[arg-type]

    monkeypatch.setattr(cluster, "write_lease", later)
    await first.renew()
    assert (first.leading, second.leading) == (False, True)
    assert fake.leases["lease"]["spec"]["holderIdentity"] == "second"


async def test_a_lease_that_is_given_back_is_taken_at_once(
    fake: FakeKubernetes, candidate: Candidate
) -> None:
    first, second = candidate("first"), candidate("second")
    await first.renew()
    await second.renew()
    await first._release()
    await second.renew()
    assert (first.leading, second.leading) == (False, True)
    await first._release()  # it is another's now
    assert fake.leases["lease"]["spec"]["holderIdentity"] == "second"


async def test_a_container_that_starts_anew_has_its_pods_lease(candidate: Candidate) -> None:
    await candidate("pod").renew()
    again = candidate("pod")
    await again.renew()
    assert (again.leading, again.terms) == (True, 1)


async def test_a_lease_that_somebody_else_wrote_ends_the_leading(
    fake: FakeKubernetes, candidate: Candidate
) -> None:
    leader = candidate("me")
    await leader.renew()
    fake.leases["lease"]["spec"]["holderIdentity"] = "operator"
    fake.leases["lease"]["metadata"]["resourceVersion"] = "999"
    await leader.renew()
    assert (leader.leading, leader.holder) == (False, "operator")


async def test_a_leader_that_lost_and_led_again_is_in_a_new_term(candidate: Candidate, clock: Clock) -> None:
    leader = candidate("me")
    await leader.renew()
    await leader.renew()
    assert leader.terms == 1
    clock.now += ACT_SECONDS
    assert not leader.leading
    await leader.renew()
    assert (leader.leading, leader.terms) == (True, 2)
