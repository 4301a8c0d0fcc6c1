"""Repeated calls by the worker's timer, whichever its pool has."""

from typing import Any


def end(handle: Any) -> None:
    """End what `call_repeatedly` began; None is nothing to end.

    Gevent's timer gives the greenlet of the first call only: the later ones heed the entry.
    """
    if handle is not None:
        getattr(handle, "entry", handle).cancel()
        handle.cancel()
