"""The catalogue file."""

import pytest

from gateway.catalogue import EXAMPLE, CatalogueError, Task, load


def test_the_example_holds_the_example_tasks():
    tasks = load(EXAMPLE)
    assert set(tasks) == {"task.query_users", "task.echo", "task.sleep", "task.cpu", "task.fail"}
    assert all(task.allowed and task.queue == "default" for task in tasks.values())


def test_every_key_of_a_task_is_read(tmp_path):
    path = tmp_path / "catalogue.yaml"
    path.write_text(
        "tasks: {a.b: {queue: q, allowed: false, timeLimitSeconds: 9, softTimeLimitSeconds: 8,"
        " expiresSeconds: 7, foreign: true, terminable: true}}"
    )
    expected = Task(
        queue="q",
        allowed=False,
        time_limit_seconds=9,
        soft_time_limit_seconds=8,
        expires_seconds=7,
        foreign=True,
        terminable=True,
    )
    assert load(path) == {"a.b": expected}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a map with the one key `tasks`"),
        ("tasks: {}\nmore: 1", "must be a map with the one key `tasks`"),
        ("tasks:", "tasks: must map at least one task"),
        ("tasks: []", "tasks: must map at least one task"),
        ("tasks: {a: [", "is not YAML"),
        ("a: !!python/object:os.system x", "is not YAML"),
        ("\0", "is not YAML"),
        ("tasks: {1: {queue: q}}", "tasks.1: a task's name must be a string"),
        ("tasks: {a/b: {queue: q}}", "tasks.a/b: a task's name must be a string"),
        ("tasks: {a: }", "tasks.a: Expected `object`, got `null`"),
        ("tasks: {a: {}}", "tasks.a: Object missing required field `queue`"),
        ("tasks: {a: {queue: 5}}", "tasks.a.queue: Expected `str`, got `int`"),
        ("tasks: {a: {queue: ''}}", "tasks.a.queue: Expected `str` of length >= 1"),
        ("tasks: {a: {queue: q.dlq}}", "tasks.a.queue: 'q.dlq' cannot be a task queue"),
        ("tasks: {a: {queue: gw.q}}", "tasks.a.queue: 'gw.q' cannot be a task queue"),
        ("tasks: {a: {queue: q, alowed: true}}", "tasks.a: Object contains unknown field `alowed`"),
        ("tasks: {a: {queue: q, allowed: 1}}", "tasks.a.allowed: Expected `bool`, got `int`"),
        ("tasks: {a: {queue: celery_delayed_1}}", "tasks.a.queue: 'celery_delayed_1' cannot be a task queue"),
        ("tasks: {a: {queue: q, foreign: rpc}}", "tasks.a.foreign: Expected `bool`, got `str`"),
        ("tasks: {a: {queue: q, terminable: 1}}", "tasks.a.terminable: Expected `bool`, got `int`"),
        ("tasks: {a: {queue: q, expiresSeconds: 0}}", "tasks.a.expiresSeconds: Expected `int` >= 1"),
        (
            "tasks: {a: {queue: q, softTimeLimitSeconds: x}}",
            "tasks.a.softTimeLimitSeconds: Expected `int | null`",
        ),
        (
            "tasks: {a: {queue: q, foreign: true}, b: {queue: q}}",
            "tasks.a.foreign: queue 'q' is also that of tasks.b, which is not foreign",
        ),
        ("tasks: {a: {queue: q, timeLimitSeconds: 0}}", "tasks.a.timeLimitSeconds: Expected `int` >= 1"),
        (
            "tasks: {a: {queue: q, timeLimitSeconds: 5, softTimeLimitSeconds: 5}}",
            "tasks.a.softTimeLimitSeconds: must be below timeLimitSeconds, which is 5",
        ),
    ],
)
@pytest.mark.behaviour("C4")
def test_a_bad_catalogue_is_one_line_that_names_the_key(tmp_path, text, message):
    path = tmp_path / "catalogue.yaml"
    path.write_text(text)
    with pytest.raises(CatalogueError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_missing_catalogue_says_so(tmp_path):
    with pytest.raises(CatalogueError, match="cannot be read: No such file or directory"):
        load(tmp_path / "none.yaml")
