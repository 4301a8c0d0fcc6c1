"""What a task hands to the one that replaces it, without a broker."""

import pytest
from celery import Celery, chain


@pytest.fixture
def replace():
    """Replace a task that has these headers; the replacement as it would be sent."""
    app = Celery("test", set_as_current=False, task_cls="celerykit.task:Task")

    @app.task(name="own.task", bind=True)
    def task(self):
        """Never run here."""

    task.on_replace = lambda sig: sig

    def replace(headers, *steps):
        task.push_request(id="t", headers=headers)
        try:
            signatures = [task.si().set(**options) for options in steps]
            return task.replace(chain(*signatures) if len(signatures) > 1 else signatures[0])
        finally:
            task.pop_request()

    return replace


@pytest.mark.parametrize("name", ["x-death", "x-first-death-queue", "x-delivery-count", "x-opt-deaths"])
def test_a_replacement_inherits_nothing_that_the_broker_noted(replace, name):
    sent = replace({name: "then", "traceparent": "00-abc"}, {})
    assert sent.options["headers"] == {"traceparent": "00-abc"}


def test_each_step_of_a_replacement_keeps_its_own_headers(replace):
    sent = replace({"a": 0, "b": 0}, {"headers": {"a": 1}}, {"headers": {"a": 2}}, {})
    assert [step.options["headers"] for step in sent.tasks] == [
        {"a": 1, "b": 0},
        {"a": 2, "b": 0},
        {"a": 0, "b": 0},
    ]
