"""One object for each thread of each process: for connections, which neither may share."""

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar
from weakref import finalize

T = TypeVar("T")


class _Lease(Generic[T]):
    """A thread's hold on an object; it ends with the thread."""

    def __init__(self, value: T, pid: int) -> None:
        self.value = value
        self.pid = pid


class PerThread(Generic[T]):
    """Makes an object on first use in a thread, or takes over that of one that has ended.

    With gevent each task has a thread of its own. A forked child makes its own objects.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._local = threading.local()
        self._idle: deque[tuple[T, int]] = deque()

    def get(self) -> T:
        """The object of this thread."""
        lease: _Lease[T] | None = getattr(self._local, "lease", None)
        if lease is None or lease.pid != os.getpid():
            lease = self._local.lease = _Lease(self._idle_or_new(), os.getpid())
            self._local.ending = finalize(lease, self._idle.append, (lease.value, lease.pid))
            self._local.ending.atexit = False
        return lease.value

    def drop(self) -> None:
        """Forget the object, so that the next use makes a new one."""
        if getattr(self._local, "lease", None) is not None:
            self._local.ending.detach()
            self._local.lease = None

    def _idle_or_new(self) -> T:
        with suppress(IndexError):  # another thread was quicker
            while self._idle:
                value, pid = self._idle.pop()
                if pid == os.getpid():
                    return value
        return self._make()
