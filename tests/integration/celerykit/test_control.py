"""Control commands: answered while all is well, and never waited for when the network is gone."""

import pytest
from celery import Celery

from celerykit.profile import configure
from celerykit.settings import Settings
from tests.integration.proxy import Proxy
from tests.integration.support import eventually

pytestmark = pytest.mark.integration

# answers when told to, and notes each turn of the main loop meanwhile and afterwards
HELD = """
import time
from pathlib import Path
from celery.worker.control import inspect_command

@inspect_command()
def held(state, folder):
    folder = Path(folder)
    beats = (folder / "beats").open("ab", buffering=0)
    state.consumer.timer.call_repeatedly(0.05, beats.write, (b".",))
    (folder / "asked").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    return "held"
"""


@pytest.fixture
def control(broker_url, database_url):
    """The control commands of an app on the same broker."""
    app = Celery("caller", set_as_current=False)
    configure(app, Settings(broker_url=broker_url, database_url=database_url))
    yield app.control
    app.close()


def test_a_worker_answers_to_inspect(start_worker, control):
    start_worker()
    for _ in range(2):
        (answer,) = control.inspect(timeout=10, limit=1).ping().values()
        assert answer == {"ok": "pong"}


def test_an_answer_that_nobody_can_get_does_not_silence_the_worker(start_worker, control):
    start_worker()
    nowhere = {"exchange": "no.such.exchange", "routing_key": "gone"}
    question = {"method": "ping", "destination": None, "reply_to": nowhere, "ticket": "t"}
    with control.app.connection_for_write() as connection:
        connection.Producer().publish(question, exchange=control.mailbox.exchange.name, serializer="json")
    # the broker closes the channel when it will: what is sent before that is lost, and asked for again
    answers = eventually(lambda: control.inspect(timeout=2, limit=1).ping(), what="an answer")
    assert list(answers.values()) == [{"ok": "pong"}]


@pytest.mark.own_stores
@pytest.mark.parametrize("answered_before", [True, False], ids=["connected", "not connected"])
def test_a_worker_whose_network_goes_silent_amid_an_answer_goes_on(
    start_own, control, run, broker_url, tmp_path, answered_before
):
    with Proxy(run.ports.amqp) as proxy:
        through = broker_url.replace(f":{run.ports.amqp}/", f":{proxy.port}/")
        start_own(HELD, CELERYKIT_BROKER_URL=through)
        if answered_before:
            assert control.inspect(timeout=10, limit=1).ping()
        control.broadcast("held", arguments={"folder": str(tmp_path)}, reply=True, timeout=0)
        eventually((tmp_path / "asked").exists, what="the command")
        proxy.silence()
        (tmp_path / "go").touch()
        beats = tmp_path / "beats"
        eventually(lambda: beats.stat().st_size > 20, what="turns of the main loop")


@pytest.mark.own_stores
def test_a_task_revoked_while_the_database_is_away_is_revoked_when_it_is_back(start_worker, control, stores):
    worker = start_worker()
    control.revoke("unwanted")
    eventually(lambda: "unwanted" in str(control.inspect(timeout=1).revoked()), what="the revocation")
    control.app.AsyncResult("unwanted").forget()  # Celery wrote a row at once, task or none
    stores.mysql.stop()
    try:
        control.app.send_task("task.echo", [1], task_id="unwanted")
        eventually(lambda: "unwanted goes back" in worker.log.read_text(), what="the attempt")
        assert worker.http("GET", "/livez")[0] == 200
    finally:
        stores.mysql.start()
    eventually(lambda: control.app.AsyncResult("unwanted").state == "REVOKED", what="the end")
