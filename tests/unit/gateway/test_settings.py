"""The gateway's settings: each has a wrong value, which is refused in one line that names it."""

import msgspec
import pytest

from celerykit.settings import SettingsError, load
from gateway.settings import PREFIX, GatewaySettings

WRONG = {
    "host": ["256.0.0.1"],
    "port": ["http", "-1", "65536", "1.5", ""],
    "catalogue": ["/none.yaml"],
    "api_keys": ["me", "me:12", f":{'0' * 64}"],
    "max_in_flight": ["0", "many"],
    "max_wait_seconds": ["0", "3601", "1.5"],
    "max_body_bytes": ["0", "1M"],
    "max_header_bytes": ["1023", "x"],
    "body_timeout_seconds": ["0", "x"],
    "idle_timeout_seconds": ["0", "x"],
    "shutdown_seconds": ["-1", "x"],
    "operation_ttl_seconds": ["59", "x"],
    "foreign_wait_seconds": ["0", "x"],
    "database_connections": ["0", "x"],
    "database_timeout_seconds": ["0", "x"],
    "examples": ["", "maybe", "2"],
    "example_threads": ["0", "101", "x"],
    "expose_tracebacks": ["yes please", "2"],
    "log_level": ["loud", "info", ""],
}
AT_START = {"host", "catalogue"}  # what only the program can tell: test_program.py


def test_every_setting_is_tried_with_a_wrong_value():
    assert set(WRONG) == {field.name for field in msgspec.structs.fields(GatewaySettings)}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() if name not in AT_START for value in values],
)
def test_a_wrong_value_is_one_line_that_names_its_variable(name, value):
    variable = f"{PREFIX}{name.upper()}"
    with pytest.raises(SettingsError) as caught:
        load(GatewaySettings, {variable: value}, prefix=PREFIX)
    assert str(caught.value).startswith(f"{variable}: ")
    assert "\n" not in str(caught.value)
