"""What the settings become in Celery's words."""

import pytest
from amqp.exceptions import PreconditionFailed
from kombu.exceptions import ContentDisallowed
from kombu.serialization import loads

from celerykit.presence import _reason
from celerykit.profile import FAST_PREFETCH, celery_settings, dead_letters, declaring
from celerykit.settings import Settings

URLS = {"broker_url": "amqp://u:p@host:5672/v", "database_url": "mysql://u:p@host/d"}


def test_nothing_is_recycled_and_sigquit_waits_for_nobody_unless_it_is_set():
    plain = celery_settings(Settings(**URLS))
    assert plain["worker_max_tasks_per_child"] is None
    assert plain["worker_max_memory_per_child"] is None
    assert plain["worker_soft_shutdown_timeout"] == 0


def test_recycling_and_soft_shutdown_are_celerys():
    settings = Settings(
        **URLS,
        worker_max_tasks_per_child=500,
        worker_max_memory_per_child_kib=300_000,
        soft_shutdown_seconds=20,
    )
    told = celery_settings(settings)
    assert told["worker_max_tasks_per_child"] == 500
    assert told["worker_max_memory_per_child"] == 300_000
    assert told["worker_soft_shutdown_timeout"] == 20


def test_fast_takes_more_and_tells_less_and_loses_no_more_than_durable():
    durable, fast = (celery_settings(Settings(**URLS, profile=name)) for name in ("durable", "fast"))
    changed = {name for name in durable if name != "task_queues" and durable[name] != fast[name]}
    assert changed == {"worker_prefetch_multiplier", "worker_send_task_events", "task_time_limit"}
    assert (durable["worker_prefetch_multiplier"], fast["worker_prefetch_multiplier"]) == (1, FAST_PREFETCH)
    assert (durable["worker_send_task_events"], fast["worker_send_task_events"]) == (True, False)


@pytest.mark.parametrize(("given", "fast"), [(3600, 60), (5, 5)])
def test_in_a_fast_worker_no_task_holds_the_others_up_for_more_than_a_minute(given, fast):
    told = celery_settings(Settings(**URLS, profile="fast", task_time_limit=given))
    assert told["task_time_limit"] == fast


def test_dead_letters_may_be_looked_at_for_ever():
    # RabbitMQ 4 throws a message of a quorum queue away after 20 returns, unless it is told otherwise
    assert dead_letters("q").queue_arguments["x-delivery-limit"] >= 10**6


def test_a_queue_that_is_another_one_ends_the_worker_with_the_brokers_words(caplog):
    with pytest.raises(SystemExit) as ended, declaring():
        raise PreconditionFailed("inequivalent arg 'x-queue-type' for queue 'mail'", (50, 10))
    assert ended.value.code == 2
    assert "for queue 'mail'" in caplog.text


@pytest.mark.parametrize(
    ("code", "reason"), [(0, "clean"), (155, "recycled"), (1, "error"), (-9, "signal9"), (None, "error")]
)
def test_a_childs_exit_has_one_of_few_reasons(code, reason):
    assert _reason(code) == reason


@pytest.mark.behaviour("S12")
@pytest.mark.parametrize("accept", ["accept_content", "result_accept_content"])
def test_a_pickle_is_refused_without_being_loaded(accept):
    bomb = b"cbuiltins\nexec\n(S'raise SystemExit'\ntR."
    with pytest.raises(ContentDisallowed):
        loads(
            bomb, "application/x-python-serialize", "binary", accept=celery_settings(Settings(**URLS))[accept]
        )
