"""One object for each thread of each process: for connections, which neither may share."""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerThread(Generic[T]):
    """Makes an object on first use in a thread; a forked child makes its own."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._local = threading.local()

    def get(self) -> T:
        """The object of this thread, made now if there is none."""
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.pid, self._local.value = os.getpid(), self._make()
        value: T = self._local.value
        return value

    def drop(self) -> None:
        """Forget the object, so that the next use makes a new one."""
        self._local.pid = None
        self._local.value = None
