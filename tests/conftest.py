"""The order of the tests."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes long when pytest-xdist shares out the files, so that none is left for the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=_length, reverse=True)


def _length(item: pytest.Item) -> int:
    if item.get_closest_marker("timeout"):
        return 2
    return 1 if item.get_closest_marker("integration") else 0
