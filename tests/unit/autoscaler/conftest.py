"""A Prometheus for every test that wants one."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.autoscaler.fake_prometheus import FakePrometheus, serving


@pytest.fixture
async def fake() -> AsyncIterator[FakePrometheus]:
    async with serving() as fake:
        yield fake
