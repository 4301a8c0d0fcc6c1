"""Looks at a kit again and again while a test goes on, by a thread of its own."""

import threading
from typing import ClassVar, Self


class Watcher:
    """What each watch shares; it brings its `look`, and says what a look may fail of, to be made again."""

    pause: ClassVar[float]  # seconds between two looks
    passing: ClassVar[type[Exception]]

    def look(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self.pause):
            try:
                self.look()
            except self.passing as error:
                print("watch:", error)
