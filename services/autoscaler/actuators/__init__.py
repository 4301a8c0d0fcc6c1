"""The actuators: each knows the workers of all pools, and is told how many there shall be and which go."""

from collections.abc import Mapping
from typing import Protocol

from autoscaler.config import Pool
from autoscaler.model import Decision, Fleet


class ActuationError(Exception):
    """Not all that was decided could be done; the next tick tries again. One line for people."""


class Actuator(Protocol):
    """What the loop needs of the world in which workers run."""

    @property
    def leading(self) -> bool:
        """Whether this autoscaler is the one that may act, of several over the same workers."""

    @property
    def leader(self) -> str:
        """Name the autoscaler that acts; empty while none is known, or where there is but one."""

    async def run(self) -> None:
        """Do what goes on between ticks, until cancelled."""

    async def fleets(self) -> Mapping[str, Fleet]:
        """Look at all workers, by pool; a pool without workers may be left out."""

    async def act(self, name: str, pool: Pool | None, decision: Decision) -> None:
        """Do what was decided and carry on what was begun: called for every pool at every tick.

        Without a pool it is configured no more. Raises ActuationError if a part could not be done.
        """

    def tell(self, name: str, decision: Decision, problem: str | None) -> None:
        """Tell a decision that is news, and what of it could not be done, to those who look there."""

    def close(self) -> None:
        """Let go of everything but the workers."""
