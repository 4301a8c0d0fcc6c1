"""Asking workers at their own HTTP ports, wherever they run."""

import logging
from typing import Literal

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPError

from autoscaler.model import Answer

ANSWER_SECONDS = 2.0

logger = logging.getLogger(__name__)


class Workers:
    """The HTTP ports of all workers; `token` lets them drain."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._http = AsyncHTTPClient(force_instance=True, max_clients=100, max_body_size=65536)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    async def state(self, name: str, host: str, port: int) -> Answer | None:
        """Ask a worker how it is; None is no usable answer, which for one that just starts is the rule."""
        return await self._ask(name, host, port, "GET", "/readyz")

    async def tell(
        self, name: str, host: str, port: int, path: Literal["/drain", "/undrain"]
    ) -> Answer | None:
        """Tell a worker to take no more tasks, or to go on; None is that it did not answer so."""
        return await self._ask(name, host, port, "POST", path)

    async def _ask(self, name: str, host: str, port: int, method: str, path: str) -> Answer | None:
        address = f"[{host}]" if ":" in host else host
        try:
            response = await self._http.fetch(
                f"http://{address}:{port}{path}",
                method=method,
                body="" if method == "POST" else None,
                headers={"Authorization": f"Bearer {self._token}"} if method == "POST" else None,
                raise_error=False,
                follow_redirects=False,
                connect_timeout=ANSWER_SECONDS,
                request_timeout=ANSWER_SECONDS,
            )
            if response.code not in {200, 503}:  # 503: not ready, with the same body
                logger.warning("%s answers HTTP %d to %s", name, response.code, path)
                return None
            return msgspec.json.decode(response.body, type=Answer)
        except (HTTPError, OSError, msgspec.DecodeError):
            return None
