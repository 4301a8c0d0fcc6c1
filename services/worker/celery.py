"""The Celery app of the ready-made worker: `celery -A worker …` finds it here."""

import signal
import sys
from importlib.util import find_spec

from celery import Celery

import celerykit
from celerykit.settings import Settings, exit_with, load_or_exit
from worker.settings import PREFIX, WorkerSettings


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # of a package that would hold it; a name that is none
        return False


if signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):  # held back by `python -m worker`
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # until Celery listens: no task has begun
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

settings = load_or_exit(WorkerSettings, prefix=PREFIX)
for name in settings.task_modules:
    if not _importable(name):
        exit_with(f"{PREFIX}TASK_MODULES: no module {name!r} can be imported; is it on PYTHONPATH?")

app = celerykit.install(Celery("worker"), load_or_exit(Settings))
app.conf.imports = ("worker.tasks", *settings.task_modules)
