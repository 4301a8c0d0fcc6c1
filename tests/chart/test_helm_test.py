"""`helm test` runs the example task where clients may call it, and no task of the user's."""

import pytest

from tests.chart.render import GIVEN

QUEUE = {"queue": "default"}


@pytest.mark.parametrize(
    ("catalogue", "task"),
    [
        ({}, "task.echo"),
        ({"task.echo": QUEUE, "mine": QUEUE}, "task.echo"),
        ({"task.echo": QUEUE | {"allowed": False}}, None),
        ({"mine": QUEUE}, None),
    ],
)
@pytest.mark.behaviour("C37")
def test_the_task_is_one_of_the_catalogue(helm, catalogue, task):
    objects = helm.render(GIVEN, {"gateway": {"catalogue": catalogue}})
    assert objects.variables("kit-test/test").get("TASK") == task
