"""The worker's own settings, what does not go together, and Celery's command line."""

import pytest

from celerykit.settings import Settings, SettingsError, load
from worker.__main__ import check, command
from worker.settings import PREFIX, WorkerSettings

URLS = {"broker_url": "amqp://u:p@host:5672/v", "database_url": "mysql://u:p@host/d"}


@pytest.mark.parametrize(
    ("variable", "value", "right"),
    [
        ("CONCURRENCY", "0", ">= 1"),
        ("CONCURRENCY", "many", "Expected `int`"),
        ("CONCURRENCY", "100000", "<= 10000"),
        ("POOL_TYPE", "solo", "`prefork`, `threads` or `gevent`"),
        ("NAME", "a b", "node name"),
        ("NAME", "a@b@c", "node name"),
        ("LOG_LEVEL", "LOUD", "what is logged"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_is_right(variable, value, right):
    with pytest.raises(SettingsError) as refused:
        load(WorkerSettings, {f"{PREFIX}{variable}": value}, PREFIX)
    assert str(refused.value).startswith(f"CELERYKIT_WORKER_{variable}: ")
    assert right in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_task_modules_may_be_said_by_an_empty_text():
    assert load(WorkerSettings, {f"{PREFIX}TASK_MODULES": ""}, PREFIX).task_modules == ()


@pytest.mark.parametrize("pool", ["threads", "gevent"])
@pytest.mark.parametrize(
    "setting", ["worker_max_tasks_per_child", "worker_max_memory_per_child_kib", "soft_shutdown_seconds"]
)
def test_children_cannot_be_ended_where_there_are_none(pool, setting, capsys):
    with pytest.raises(SystemExit) as ended:
        check(WorkerSettings(pool_type=pool), Settings(**URLS, **{setting: 1}))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"CELERYKIT_{setting.upper()}: must be 0 with")


def test_gevent_has_to_be_installed(monkeypatch, capsys):
    monkeypatch.setattr("worker.__main__.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        check(WorkerSettings(pool_type="gevent"), Settings(**URLS))
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("CELERYKIT_WORKER_POOL_TYPE: gevent is not installed")
    check(WorkerSettings(pool_type="threads"), Settings(**URLS))


def test_fast_is_not_for_gevent(capsys):
    settings = Settings(**URLS, profile="fast")
    with pytest.raises(SystemExit) as ended:
        check(WorkerSettings(pool_type="gevent"), settings)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("CELERYKIT_PROFILE: must be durable with")
    check(WorkerSettings(pool_type="threads"), settings)


def test_the_settings_become_celerys_options():
    line = command(WorkerSettings(concurrency=3, pool_type="gevent", name="one@host", log_level="ERROR"), "p")
    options = {"--concurrency=3", "--pool=gevent", "--hostname=one@host", "--loglevel=ERROR"}
    assert options <= set(line)


@pytest.mark.behaviour("C19")
def test_each_start_has_a_name_of_its_own_that_begins_with_the_pool():
    first, second = (command(WorkerSettings(), "mail")[5] for _ in range(2))
    assert first.startswith("--hostname=mail-")
    assert first != second


@pytest.mark.parametrize(
    ("variable", "value", "right"),
    [
        ("SOFT_SHUTDOWN_SECONDS", "-1", ">= 0"),
        ("SOFT_SHUTDOWN_SECONDS", "soon", "Expected `float`"),
        ("SOFT_SHUTDOWN_SECONDS", "nan", ">= 0"),
        ("WORKER_MAX_TASKS_PER_CHILD", "-1", ">= 0"),
        ("WORKER_MAX_MEMORY_PER_CHILD_KIB", "1GB", "Expected `int`"),
        ("PROFILE", "quick", "how a worker takes tasks"),
        ("POOL", "", "name of the pool"),
        ("POOL", "a b", "name of the pool"),
        ("QUEUES", "a,a", "names a queue twice"),
        ("QUEUES", "x" * 252, "longer than 251 bytes"),
        ("QUEUES", "amq.topic", "cannot be a task queue"),
        ("DRAIN_TOKEN", "a\nb", "printable ASCII"),
        ("DRAIN_TOKEN", "schlüssel", "printable ASCII"),
        ("TASK_TIME_LIMIT", "99999999", "<= 604800"),
        ("RESULT_EXPIRES_SECONDS", "1", ">= 60"),
    ],
)
def test_a_wrong_setting_of_celerykit_is_refused_with_its_name(variable, value, right):
    good = {f"CELERYKIT_{name.upper()}": url for name, url in URLS.items()}
    with pytest.raises(SettingsError) as refused:
        load(Settings, good | {f"CELERYKIT_{variable}": value})
    assert str(refused.value).startswith(f"CELERYKIT_{variable}: ")
    assert right in str(refused.value)
