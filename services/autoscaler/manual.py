"""Whether somebody else has set a Deployment's number, and how long ago."""

import time
from collections.abc import Callable

from autoscaler.pods import Deployment


class Manual:
    """What is known of one Deployment. `clock` must be steady."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: frozenset[int] = frozenset()  # what the number may be if nobody else sets it
        self._template = 0
        self._since: float | None = None

    def look(self, deployment: Deployment) -> float | None:
        """Take in what is there; tell the seconds since somebody else set the number, if anybody did.

        At first nothing is known, so nothing is assumed.
        """
        if self._known and deployment.replicas not in self._known:
            # A number that comes with another template is a manifest's, and nobody's wish.
            self._since = self._clock() if deployment.template == self._template else None
        self._known, self._template = frozenset({deployment.replicas}), deployment.template
        return None if self._since is None else self._clock() - self._since

    def setting(self, replicas: int) -> None:
        """Know that we are about to set the number; an answer that is lost leaves open whether it was."""
        self._known |= {replicas}
