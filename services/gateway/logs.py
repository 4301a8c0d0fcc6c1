"""Log records as JSON, one line each, on standard error."""

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "message", ...}`; the rest is what a record's `fields` hold."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line | getattr(record, "fields", {}), enc_hook=repr).decode()


def configure(level: str) -> None:
    """Send all logs of the process to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # no record shows the line that made it, nor its thread: it need not be looked for at each request
    logging._srcfile = None  # noqa: SLF001  # as Python's logging HOWTO has it
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
