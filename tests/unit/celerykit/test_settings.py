"""Settings: read from the environment, and refused with a line that names the variable."""

import pytest

from celerykit.settings import Database, Settings, SettingsError, load, load_or_exit

GOOD = {
    "CELERYKIT_BROKER_URL": "amqp://kit:p%40ss@rabbitmq:5672/%2F",
    "CELERYKIT_DATABASE_URL": "mysql://kit:kit@mysql:3306/kit",
}


def test_what_is_not_set_has_its_default():
    settings = load(Settings, GOOD)
    assert settings.queues == ("default",)
    assert settings.worker_port == 8001


def test_a_list_is_written_with_commas():
    assert load(Settings, GOOD | {"CELERYKIT_QUEUES": "fast, slow"}).queues == ("fast", "slow")


@pytest.mark.parametrize(
    ("variable", "value", "right"),
    [
        ("BROKER_URL", "redis://localhost", "amqp://USER"),
        ("BROKER_URL", "amqp://kit:kit@host:port/", "amqp://USER"),
        ("DATABASE_URL", "postgres://kit@host/kit", "mysql://USER"),
        ("DATABASE_URL", "mysql://kit@host", "must name a database"),
        ("BROKER_CA_FILE", "/ca.crt", "unless CELERYKIT_BROKER_URL begins with amqps://"),
        ("DATABASE_CA_FILE", "/ca.crt", "unless CELERYKIT_DATABASE_URL begins with mysqls://"),
        ("QUEUES", "", "cannot be a task queue"),
        ("QUEUES", "a,,b", "cannot be a task queue"),
        ("QUEUES", "work.dlq", "cannot be a task queue"),
        ("QUEUES", "gw.reply.x", "cannot be a task queue"),
        ("WORKER_PORT", "http", "Expected `int`"),
        ("WORKER_PORT", "65536", "<= 65535"),
        ("DELIVERY_LIMIT", "0", ">= 1"),
        ("TASK_TIME_LIMIT", "soon", "Expected `int`"),
        ("TASK_EVENTS", "perhaps", "Expected `bool`"),
        ("LIVENESS_SECONDS", "1", ">= 5"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_is_right(variable, value, right):
    with pytest.raises(SettingsError) as refused:
        load(Settings, GOOD | {f"CELERYKIT_{variable}": value})
    assert str(refused.value).startswith(f"CELERYKIT_{variable}: ")
    assert right in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("variable", GOOD)
def test_a_missing_one_is_named(variable):
    with pytest.raises(SettingsError, match=f"^{variable}: is required"):
        load(Settings, {name: value for name, value in GOOD.items() if name != variable})


def test_a_program_with_wrong_settings_ends_with_code_2_and_one_line(monkeypatch, capsys):
    monkeypatch.setenv("CELERYKIT_BROKER_URL", "nonsense")
    with pytest.raises(SystemExit) as ended:
        load_or_exit(Settings)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_error_shows_no_password():
    with pytest.raises(SettingsError) as refused:
        load(Settings, GOOD | {"CELERYKIT_BROKER_URL": "http://kit:s3cret@host/"})
    assert "s3cret" not in str(refused.value)


def test_a_user_and_a_password_of_their_own_go_encoded_in_place_of_those_in_the_url():
    settings = load(
        Settings,
        GOOD
        | {
            "CELERYKIT_BROKER_URL": "amqp://rabbitmq:5672/%2F",
            "CELERYKIT_BROKER_USERNAME": "kit",
            "CELERYKIT_BROKER_PASSWORD": "p@ss:/#%",
            "CELERYKIT_DATABASE_PASSWORD": "s p",
        },
    )
    assert settings.broker_url == "amqp://kit:p%40ss%3A%2F%23%25@rabbitmq:5672/%2F"
    assert settings.database_url == "mysql://kit:s%20p@mysql:3306/kit"


def test_the_database_alone_is_read_and_checked_as_with_all_the_rest():
    assert load(Database, GOOD).database_url == GOOD["CELERYKIT_DATABASE_URL"]
    with pytest.raises(SettingsError, match="must name a database"):
        load(Database, {"CELERYKIT_DATABASE_URL": "mysql://kit@host"})
