"""The actuators: each knows the workers of all pools, and is told how many there shall be and which go."""

from collections.abc import Mapping
from typing import Protocol

from autoscaler.config import Pool
from autoscaler.model import Decision, Fleet


class ActuationError(Exception):
    """Not all that was decided could be done; the next tick tries again. One line for people."""


class Actuator(Protocol):
    """What the loop needs of the world in which workers run."""

    async def fleets(self) -> Mapping[str, Fleet]:
        """Look at all workers, by pool; a pool without workers may be left out."""

    async def act(self, name: str, pool: Pool | None, decision: Decision) -> None:
        """Do what was decided and carry on what was begun: called for every pool at every tick.

        Raises ActuationError if a part could not be done.
        """

    def close(self) -> None:
        """Let go of everything but the workers."""
