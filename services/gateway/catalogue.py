"""The catalogue: which tasks may be called, on which queue and within which limits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from celerykit.settings import wrong_queue

EXAMPLE = Path(__file__).with_name("catalogue.yaml")

Seconds = Annotated[int, Meta(ge=1)]


class CatalogueError(ValueError):
    """The catalogue is wrong; the message is one line that names the key and what would be right."""


class Task(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A task that the gateway knows; it never holds the task's code."""

    queue: Annotated[str, Meta(min_length=1, max_length=255)]
    allowed: bool = True
    time_limit_seconds: Seconds | None = None
    soft_time_limit_seconds: Seconds | None = None
    expires_seconds: Seconds | None = None
    foreign: bool = False
    terminable: bool = False

    def limits(self) -> dict[str, int]:
        """The options of the message that this catalogue sets."""
        limits = {"time_limit": self.time_limit_seconds, "soft_time_limit": self.soft_time_limit_seconds}
        return {name: seconds for name, seconds in limits.items() if seconds is not None}


def load(path: Path) -> Mapping[str, Task]:
    """Read a catalogue, a map from a task's name to what is known of it.

    Raises CatalogueError.
    """
    try:
        document = msgspec.yaml.decode(path.read_bytes())
    except OSError as error:
        raise CatalogueError(f"{path}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict) or set(document) != {"tasks"}:
        raise CatalogueError(f"{path}: must be a map with the one key `tasks`")
    tasks = document["tasks"]
    if not isinstance(tasks, dict) or not tasks:
        raise CatalogueError(
            f"{path}: tasks: must map at least one task's name to its keys, as {{queue: NAME}}"
        )
    catalogue = {name: _task(f"{path}: tasks.{name}", name, entry) for name, entry in tasks.items()}
    ours = {task.queue: name for name, task in catalogue.items() if not task.foreign}
    for name, task in catalogue.items():
        if task.foreign and task.queue in ours:
            raise CatalogueError(
                f"{path}: tasks.{name}.foreign: queue {task.queue!r} is also that of"
                f" tasks.{ours[task.queue]}, which is not foreign; a queue is the one or the other"
            )
    return catalogue


def _task(where: str, name: object, entry: Any) -> Task:
    if not isinstance(name, str) or not name or "/" in name or len(name) > 255:
        raise CatalogueError(f"{where}: a task's name must be a string of 1 to 255 characters without /")
    try:
        task = msgspec.convert(entry, type=Task)
    except msgspec.ValidationError as error:
        what, _, key = str(error).partition(" - at `$")
        raise CatalogueError(f"{where}{key.rstrip('`')}: {what}") from None
    if wrong := wrong_queue(task.queue):
        raise CatalogueError(f"{where}.queue: {wrong}")
    soft, hard = task.soft_time_limit_seconds, task.time_limit_seconds
    if soft is not None and hard is not None and soft >= hard:
        raise CatalogueError(f"{where}.softTimeLimitSeconds: must be below timeLimitSeconds, which is {hard}")
    return task
