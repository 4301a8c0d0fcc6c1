"""JSON that comes in, checked, and JSON that goes out, rid of Celery's wrappers."""

import json
import re
from contextlib import suppress
from typing import Annotated, Any
from uuid import UUID

import kombu.utils.json
import msgspec
from msgspec import Meta

from gateway.problems import BAD_JSON, INVALID, Problem

DEEPEST = 100  # levels of arrays and objects; workers decode with recursion
LONGEST_DELAY = 30 * 86400  # seconds

Seconds = Annotated[float, Meta(ge=0, le=LONGEST_DELAY)]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may set of a message: nothing that says where it goes or what it does there."""

    countdown: Seconds | None = None
    expires: Annotated[float, Meta(gt=0, le=LONGEST_DELAY)] | None = None
    priority: Annotated[int, Meta(ge=0, le=9)] | None = None


class TaskRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /v1/tasks/{name}`."""

    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    options: Options = Options()


def task_request(body: bytes) -> TaskRequest:
    """Decode a request's body; an empty one is a task without arguments.

    Raises Problem: 400 if it is not JSON, 422 with the `field` if it has the wrong shape.
    """
    try:
        request = msgspec.json.decode(body or b"{}", type=TaskRequest)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(BAD_JSON, str(error)) from None
    except RecursionError:
        raise _too_deep() from None
    for field in ("args", "kwargs"):
        _check_readable(field, getattr(request, field), body)
    return request


def parameter(name: str, text: str, kind: Any) -> Any:
    """Convert a part of the URL to `kind`; raises Problem (422) that names it."""
    try:
        return msgspec.convert(text, type=kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(f"{error} - at `$.{name}`") from None


def invalid(message: str) -> Problem:
    """A 422 from msgspec's words, which end in the place: `… - at `$.options.priority``."""
    what, _, place = message.partition(" - at `$")
    field = place.strip(".`")
    if unknown := re.match(r"Object contains unknown field `(.*)`", what):
        field = ".".join(filter(None, [field, unknown[1]]))
        what = "There is no such field"
    return Problem(INVALID, f"{field or 'body'}: {what}", field=field)


def plain(result: Any) -> Any:
    """A task's result as clients read it: `{"__type__", "__value__"}` of kombu gives way to its value."""
    encoded = msgspec.json.encode(result)
    if b'"__type__"' not in encoded:
        return msgspec.Raw(encoded)
    return json.loads(encoded, object_hook=_unwrap)


def _unwrap(value: dict[str, Any]) -> Any:
    if value.keys() != {"__type__", "__value__"}:
        return value
    inner = value["__value__"]
    if value["__type__"] == "uuid":
        with suppress(KeyError, TypeError, ValueError):  # a task may return what only looks like one
            return str(UUID(inner["hex"]))
    return inner


def _check_readable(field: str, value: Any, body: bytes) -> None:
    """Refuse what workers could not decode: the broker would take it, and no worker would ever run it."""
    if body.count(b"[") + body.count(b"{") > DEEPEST and not _within(value, DEEPEST):
        raise _too_deep()
    encoded = msgspec.json.encode(value)
    if b'"__type__"' in encoded:
        try:
            kombu.utils.json.loads(encoded)
        except Exception as error:  # noqa: BLE001  # decoders of kombu raise whatever they like
            raise invalid(
                f"An object with `__type__` that workers cannot read: {error!r} - at `$.{field}`"
            ) from None


def _within(value: Any, levels: int) -> bool:
    nodes = [value]
    for _ in range(levels):
        containers = (node.values() if isinstance(node, dict) else node for node in nodes)
        nodes = [child for children in containers for child in children if isinstance(child, dict | list)]
        if not nodes:
            return True
    return False


def _too_deep() -> Problem:
    return Problem(BAD_JSON, f"Arrays and objects may be nested {DEEPEST} deep.")
