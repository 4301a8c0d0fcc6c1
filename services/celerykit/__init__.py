"""What an application installs to fit the kit: `celerykit.install(app)` does all."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery

    from celerykit.settings import Settings

__all__ = ["install"]


def install(app: "Celery", settings: "Settings | None" = None) -> "Celery":
    """Give a Celery app the kit's profile, result backend, metrics and port; returns the app.

    Call it right after the app is made, before its first task is. Without `settings` they are read from
    the environment (docs/settings.md), and SettingsError names what is missing or wrong.
    """
    # a caller of the link, which imports this package too, needs none of the worker's parts
    from celerykit.port import PortStep
    from celerykit.presence import Presence, PresenceStep
    from celerykit.profile import configure, without_task_records
    from celerykit.revocations import RevocationsStep
    from celerykit.settings import Settings, load

    settings = settings or load(Settings)
    configure(app, settings)
    if settings.profile == "fast":
        without_task_records()
    app.task_cls = "celerykit.task:Task"
    app.celerykit = Presence(settings)
    app.steps["worker"].add(PortStep)
    app.steps["consumer"].add(PresenceStep)
    app.steps["consumer"].add(RevocationsStep)
    return app
