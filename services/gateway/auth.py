"""API keys: the gateway knows only their digests, and so whose they are."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping

from gateway.problems import UNAUTHORIZED, Problem

_ENTRY = re.compile(r"(?P<owner>[^:\s]{1,255}):(?P<digest>[0-9a-fA-F]{64})")
_BEARER = re.compile(r"bearer +(?P<key>\S+) *", re.IGNORECASE)


class Keys:
    """Tells a request's owner by its key; without any key everybody is the owner "".

    Entries are `OWNER:SHA256`, the digest in hex; an owner may have several. Raises ValueError on a wrong
    one, by its place: the message never holds a digest.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._owners: list[tuple[bytes, str]] = []
        for place, entry in enumerate(filter(None, entries), start=1):
            match = _ENTRY.fullmatch(entry)
            if match is None:
                raise ValueError(
                    f"entry {place} must be OWNER:SHA256, the SHA-256 of the key as 64 hex digits"
                )
            self._owners.append((bytes.fromhex(match["digest"]), match["owner"]))

    def owner(self, headers: Mapping[str, str]) -> str:
        """Whose request it is, by `Authorization: Bearer KEY` or `X-API-Key: KEY`.

        Raises Problem (401) if keys are needed and this is none.
        """
        if not self._owners:
            return ""
        bearer = _BEARER.fullmatch(headers.get("Authorization", ""))
        key = bearer["key"] if bearer else headers.get("X-API-Key", "")
        digest = hashlib.sha256(key.encode()).digest()
        # every entry is compared, so that the time tells nothing about which one fits
        owners = [owner for known, owner in self._owners if hmac.compare_digest(known, digest)]
        if not owners:
            raise Problem(
                UNAUTHORIZED,
                "Send a valid API key as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
                headers={"WWW-Authenticate": 'Bearer realm="gateway"'},
            )
        return owners[0]
