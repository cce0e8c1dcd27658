"""Events, and how they are written as JSON."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import Any

from ._errors import EventError

# These limits are fixed in the server. Limits that can be set there (payload, body, events) are checked by it alone.
_MAX_BYTES = {"topic": 256, "event_id": 512, "source": 512}


@dataclass(frozen=True)
class Event:
    """An event to be published.

    Attributes:
        payload: Any value that can be written as JSON.
        topic: The topic.
        event_id: The id, unique in its topic. By default a random one is made.
        timestamp: The time of the event: a `datetime` with a time zone, or text in RFC 3339. By default the time of
            `send`.
        source: Who sends it.
    """

    payload: Any
    topic: str = "default"
    event_id: str | None = None
    timestamp: datetime | str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Encoded:
    """An event as a line of JSON, in UTF-8 and without a line feed."""

    topic: str
    event_id: str
    line: bytes


_FIELDS = frozenset(field.name for field in fields(Event))


def encode(event: Event | Mapping[str, Any]) -> Encoded:
    """Returns the line of an event.

    The id and the time are chosen here if they are missing, so that each repetition has the same bytes.

    Raises:
        EventError: The event cannot be sent; it names the field.
    """
    if not isinstance(event, Event):
        event = _from_mapping(event)
    topic = _text("topic", event.topic)
    event_id = str(uuid.uuid4()) if event.event_id is None else _text("event_id", event.event_id)
    members: dict[str, Any] = {"topic": topic, "event_id": event_id, "timestamp": _timestamp(event.timestamp)}
    if event.source is not None:
        members["source"] = _text("source", event.source, may_be_blank=True)
    head = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
    return Encoded(topic, event_id, b'%s,"payload":%s}' % (head[:-1], _payload(event.payload)))


def _from_mapping(members: Mapping[str, Any]) -> Event:
    if not isinstance(members, Mapping):
        raise EventError("event", f"must be an Event or a mapping, not {type(members).__name__}")
    unknown = sorted(str(name) for name in members if name not in _FIELDS)
    if unknown:
        raise EventError(unknown[0], f"is not a field of an event; the fields are {', '.join(sorted(_FIELDS))}")
    if "payload" not in members:
        raise EventError("payload", "is missing")
    return Event(**members)


def _text(field: str, value: object, *, may_be_blank: bool = False) -> str:
    if not isinstance(value, str):
        raise EventError(field, f"must be a string, not {type(value).__name__}")
    if not may_be_blank and not value.strip():
        raise EventError(field, "must not be blank")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise EventError(field, "has half of a surrogate pair, which is no UTF-8") from error
    if size > _MAX_BYTES[field]:
        raise EventError(field, f"has {size} bytes; at most {_MAX_BYTES[field]} are allowed")
    return value


def _timestamp(value: datetime | str | None) -> str:
    if value is None:
        value = datetime.now(timezone.utc)
    if isinstance(value, str):
        if not value.isascii():
            raise EventError("timestamp", "must be in RFC 3339, such as 2026-01-31T12:00:00Z")
        return value
    if not isinstance(value, datetime):
        raise EventError("timestamp", f"must be a datetime or a string, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise EventError("timestamp", "has no time zone; use for example datetime.now(timezone.utc)")
    return value.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _payload(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise EventError("payload", "has half of a surrogate pair, which is no UTF-8") from error
    except RecursionError as error:
        raise EventError("payload", "has too many nested lists and mappings") from error
    except (TypeError, ValueError) as error:
        raise EventError("payload", f"cannot be written as JSON: {error}") from error
