"""The header `Prefer` (RFC 7240), as far as the gateway heeds it: `wait=N` and `respond-async`."""

import re
from collections.abc import Iterable
from typing import NamedTuple

# commas inside of a quoted string divide nothing, nor behind a quote that is never closed
_PREFERENCE = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*(?:"|\\?$))+')
_NAME_AND_VALUE = re.compile(r'\s*(?P<name>[^\s=;,"]+)(?:\s*=\s*"?(?P<value>[^\s;"]*)"?)?\s*(?:;.*)?')
# beyond it nothing is sensible, and the cost of a hostile header stays bounded
_LONGEST = 1000


class Preferences(NamedTuple):
    """What the client prefers; `wait` in whole seconds, None if it said nothing."""

    respond_async: bool = False
    wait: int | None = None

    def applied(self) -> str:
        """The value of `Preference-Applied`; empty if nothing was preferred."""
        wait = [] if self.wait is None else [f"wait={self.wait}"]
        return ", ".join([*(["respond-async"] if self.respond_async else []), *wait])


def parse(headers: Iterable[str], *, longest: int) -> Preferences:
    """Read all `Prefer` headers of a request; a wait is cut to `longest`.

    What is unknown or malformed is ignored, and of a repeated preference the first counts, as the RFC wants.
    """
    found: dict[str, str] = {}
    for preference in _PREFERENCE.findall(", ".join(headers)[:_LONGEST]):
        match = _NAME_AND_VALUE.fullmatch(preference)
        if match:
            found.setdefault(match["name"].lower(), match["value"] or "")
    wait = found.get("wait", "")
    return Preferences(
        respond_async="respond-async" in found,
        wait=min(int(wait), longest) if wait.isascii() and wait.isdecimal() else None,
    )
