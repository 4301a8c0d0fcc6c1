"""The base class of the tasks of an app that celerykit is installed in."""

from celery import Task as CeleryTask


class Task(CeleryTask):
    """A task whose requests are counted where it runs."""

    abstract = True
    Request = "celerykit.request:Request"
