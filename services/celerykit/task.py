"""The base class of the tasks of an app that celerykit is installed in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Task as CeleryTask
from celery.canvas import Signature

from celerykit.profile import without_past


class Task(CeleryTask):
    """A task whose requests are counted where it runs, and whose replacement answers its caller."""

    abstract = True
    Request = "celerykit.request:Request"

    def replace(self, sig: Signature) -> Any:
        """Replace this task as Celery does; the caller that waits gets the answer of the replacement."""
        inherited = {**without_past(self.request.headers or {}), **(sig.options.get("headers") or {})}
        for step in (sig, *(getattr(sig, "tasks", None) or ())):
            step.set(headers={**inherited, **(step.options.get("headers") or {})})
        with replies_to(self.app, self.request.reply_to):
            return super().replace(sig)


@contextmanager
def replies_to(app: Any, queue: str | None) -> Iterator[None]:
    """Have whatever this thread sends or freezes meanwhile answer to a queue.

    Celery writes the thread's own reply queue into every step of a canvas when it freezes it, and takes no
    other word for it: an option `reply_to` reaches single tasks only.
    """
    own = app.thread_oid
    app._local.oid = queue or own  # noqa: SLF001  # there is no public way
    try:
        yield
    finally:
        app._local.oid = own  # noqa: SLF001
