"""How the stores are set up; nothing here starts one."""

from pathlib import Path

import pytest

from local.process import StartError
from local.run import Run
from local.stores import RabbitMQ

LIMIT = "CELERYKIT_TASK_TIME_LIMIT"


@pytest.mark.parametrize(
    ("limit", "timeout"), [(None, 7200), ("60", 7200), ("6600", 7200), ("604800", 605400)]
)
def test_the_broker_waits_ten_minutes_longer_than_a_task_may_take_and_two_hours_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, timeout: int
) -> None:
    """Or it would take the worker's connection away while the task runs."""
    monkeypatch.delenv(LIMIT, raising=False)
    if limit:
        monkeypatch.setenv(LIMIT, limit)
    assert f"consumer_timeout = {1000 * timeout}\n" in RabbitMQ(Run(tmp_path))._config()


def test_a_time_limit_that_is_none_keeps_the_broker_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names the variable, before anything is started."""
    monkeypatch.setenv(LIMIT, "soon")
    with pytest.raises(StartError, match=rf"^{LIMIT}: Expected `int`.*$"):
        RabbitMQ(Run(tmp_path))._config()
