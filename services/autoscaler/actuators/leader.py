"""Of several autoscalers one acts: the one that holds the Lease."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease

from autoscaler.actuators import ActuationError
from autoscaler.actuators.cluster import CONFLICT, ApiError, Cluster

LEASE_SECONDS = 15  # a lease that was not renewed for so long may be taken
ACT_SECONDS = 10.0  # so long after its last renewal a leader acts: others wait LEASE_SECONDS from then
RENEW_SECONDS = 5.0
RETRY_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Leader:
    """One candidate. `clock` must be steady, and the one of the event loop."""

    def __init__(
        self, cluster: Cluster, name: str, identity: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.holder = ""  # who has the lease, as far as we know
        self.until = -1.0  # when we have to stop acting, by the clock
        self.terms = 0  # how often we began to lead
        self._cluster = cluster
        self._name = name
        self._identity = identity
        self._clock = clock
        self._seen = ("", 0.0)  # the lease's version and when we first saw it
        self._problem = ""
        self._led = False  # as last told

    @property
    def leading(self) -> bool:
        """Whether we may act now."""
        return self._clock() < self.until

    async def run(self) -> None:
        """Get and keep the lease, and give it back when cancelled: the next one need not wait."""
        try:
            while True:
                await self.renew()
                renewed = self.leading and not self._problem
                await asyncio.sleep(RENEW_SECONDS if renewed else RETRY_SECONDS)
        finally:
            await self._release()

    async def renew(self) -> None:
        """Take the lease if it is ours, nobody's or not renewed any more; tell when that changes."""
        held, asked = self.holder, self._clock()
        try:
            lease = await self._cluster.lease(self._name)
            spec = lease.spec if lease and lease.spec else LeaseSpec()
            self.holder = spec.holderIdentity or ""
            if self._may_take(lease, spec):
                await self._cluster.write_lease(self._renewed(lease, spec))
                self.holder = self._identity
                self.terms += not self.leading
                self.until = asked + ACT_SECONDS
            else:
                self.until = -1.0
            self._problem = ""
        except ActuationError as error:
            if isinstance(error, ApiError) and error.code == CONFLICT:
                self.until = -1.0  # somebody was quicker
            elif str(error) != self._problem:
                logger.error("%s", error)
            self._problem = str(error)
        led, self._led = self._led, self.leading
        if self._led and not led:
            logger.info("leading", extra={"lease": self._name, "identity": self._identity})
        elif led and not self._led:
            logger.warning("no longer leading", extra={"lease": self._name, "holder": self.holder})
        elif self.holder != held:
            logger.info("following", extra={"lease": self._name, "holder": self.holder})

    def _may_take(self, lease: Lease | None, spec: LeaseSpec) -> bool:
        """Others' clocks are not believed: a lease has run out once we saw it unchanged for so long."""
        version = (lease.metadata.resourceVersion or "") if lease and lease.metadata else ""
        if version != self._seen[0]:
            self._seen = (version, self._clock())
        if spec.holderIdentity in (None, "", self._identity):
            return True
        return self._clock() - self._seen[1] >= (spec.leaseDurationSeconds or LEASE_SECONDS)

    def _renewed(self, lease: Lease | None, spec: LeaseSpec) -> Lease:
        now = datetime.now(UTC)
        mine = spec.holderIdentity == self._identity
        return Lease(
            metadata=lease.metadata if lease else ObjectMeta(name=self._name),
            spec=LeaseSpec(
                holderIdentity=self._identity,
                leaseDurationSeconds=LEASE_SECONDS,
                acquireTime=spec.acquireTime if mine else now,
                renewTime=now,
                leaseTransitions=(spec.leaseTransitions or 0) + (lease is not None and not mine),
            ),
        )

    async def _release(self) -> None:
        self.until = -1.0
        if self.holder != self._identity:
            return
        with suppress(ActuationError):  # it runs out by itself
            lease = await self._cluster.lease(self._name)
            if lease and lease.spec and lease.spec.holderIdentity == self._identity:
                lease.spec.holderIdentity = ""
                lease.spec.renewTime = datetime.now(UTC)
                await self._cluster.write_lease(lease)
                logger.info("the lease is given back", extra={"lease": self._name})
