"""An app with the kit's profile and no tasks, for Flower and by hand: `celery -A celerykit.app …`."""

from celery import Celery

from celerykit.profile import configure
from celerykit.settings import Settings, load_or_exit

app = Celery("celerykit", set_as_current=False)
configure(app, load_or_exit(Settings))
