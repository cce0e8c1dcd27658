"""Publishes events with the official CloudEvents SDK for Python, reads them back with it, and compares.

usage: check.py URL

Exits 1 and says what differs when an event comes back with another attribute or other data, or when a repetition is not
counted as a duplicate.
"""

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import requests
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.conversion import to_binary, to_structured
from cloudevents.v1.http import CloudEvent as OlderCloudEvent
from cloudevents.v1.http import from_http

SECONDS_TO_WAIT = 30
ACCEPT = {"Accept": "application/cloudevents+json"}


class DifferenceError(Exception):
    """What the server has is not what was sent."""


def events(topic: str) -> Iterator[CloudEvent]:
    """Returns one event for each kind of data and of attribute."""
    when = datetime(2026, 1, 31, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=1)))
    required = {"type": topic, "source": "https://example.com/shop?city=K%C3%B6ln", "time": when}
    optional = {"subject": "order 7", "dataschema": "https://example.com/schemas/order"}
    extensions = {"text": 'a "quoted" text, 100% of it', "number": -7, "flag": True}
    data = {"total": 12.5, "name": "Zoë €", "emoji": "😀", "lines": [1, None, True, {"a": ""}]}
    json = {"datacontenttype": "application/json"}
    yield CloudEvent(required | optional | extensions | json | {"id": "json"}, data)
    yield CloudEvent(required | {"id": "json-by-default"}, data)
    yield CloudEvent(required | {"id": "text", "datacontenttype": "text/plain; charset=utf-8"}, "Grüße,\n\t€ 😀")
    yield CloudEvent(required | {"id": "bytes", "datacontenttype": "application/octet-stream"}, bytes(range(256)))
    yield CloudEvent(required | extensions | {"id": "no data"})
    beyond_ascii = {"id": "ä/€?#😀", "subject": "Größe", "text": "日本語"}
    yield CloudEvent(required | beyond_ascii | json, {})


def publish(url: str, headers: dict[str, str], body: bytes, what: str) -> None:
    response = requests.post(f"{url}/publish", data=body, headers=headers, timeout=SECONDS_TO_WAIT)
    if response.status_code != 202:
        raise DifferenceError(f"{what}: the server answered {response.status_code} {response.text}")


def read(url: str, topic: str, event_id: str) -> requests.Response:
    """Returns the event as soon as it is stored."""
    address = f"{url}/events/{quote(topic, safe='')}/{quote(event_id, safe='')}"
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while True:
        response = requests.get(address, headers=ACCEPT, timeout=SECONDS_TO_WAIT)
        if response.status_code == 200:
            return response
        if time.monotonic() > deadline:
            raise DifferenceError(f"{topic} {event_id}: the server answered {response.status_code} {response.text}")
        time.sleep(0.05)


def compare(what: str, sent: dict[str, Any], stored: dict[str, Any]) -> None:
    """Compares all attributes and the data, which is a member here."""
    different = [
        f"{what}: {name} was sent as {sent.get(name)!r} and is {stored.get(name)!r}"
        for name in sorted(sent.keys() | stored.keys())
        if name not in sent
        or name not in stored
        or (sent[name], type(sent[name])) != (stored[name], type(stored[name]))
    ]
    if different:
        raise DifferenceError("\n".join(different))


def members(event: BaseCloudEvent) -> dict[str, Any]:
    return event.get_attributes() | {"data": event.get_data()}


def in_headers(event: dict[str, Any]) -> dict[str, Any]:
    """Returns the event as the binary mode has it: the value of a header is a text."""
    return {name: str(value) if isinstance(value, (int, bool)) else value for name, value in event.items()}


def expect_counts(url: str, topic: str, unique: int, duplicates: int) -> None:
    expected = {"received": unique + duplicates, "unique_processed": unique, "duplicate_dropped": duplicates}
    expected["conflicts"] = 0
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while True:
        topics = requests.get(f"{url}/stats", params={"topics": 10000}, timeout=SECONDS_TO_WAIT).json()["topics"]
        if topics.get(topic) == expected:
            return
        if time.monotonic() > deadline:
            raise DifferenceError(f"{topic}: the counts should be {expected} and are {topics.get(topic)}")
        time.sleep(0.05)


def check_mode(url: str, topic: str, convert: Callable[[CloudEvent], HTTPMessage], binary: bool) -> int:
    sent = list(events(topic))
    for repetition in (0, 1):
        for event in sent:
            message = convert(event)
            publish(url, message.headers, message.body, f"{topic} {event.get_id()}")
        for event in sent:
            response = read(url, topic, event.get_id())
            stored = from_http_event(HTTPMessage(dict(response.headers), response.content))
            expected = in_headers(members(event)) if binary else members(event)
            compare(f"{topic} {event.get_id()}", expected, members(stored))
        expect_counts(url, topic, len(sent), repetition * len(sent))
    return len(sent)


def check_older(url: str, topic: str) -> int:
    """Publishes with the functions of version 1 of the SDK, which version 2 has under another name."""
    required = {"type": topic, "source": "/shop", "time": datetime(2026, 1, 31, 12, tzinfo=timezone.utc).isoformat()}
    extensions = {"subject": "order 7", "text": "a text"}
    made: list[tuple[Callable[..., tuple[dict[str, str], bytes]], dict[str, str], object]] = [
        (to_binary, {"id": "binary"} | extensions, {"name": "Zoë €"}),
        (to_structured, {"id": "structured"} | extensions, {"name": "Zoë €"}),
        (to_binary, {"id": "binary text"}, "Zoë €"),
        (to_structured, {"id": "structured text"}, "Zoë €"),
        (to_binary, {"id": "binary no data"}, None),
        (to_structured, {"id": "structured no data"}, None),
    ]
    for repetition in (0, 1):
        for convert, attributes, data in made:
            event = OlderCloudEvent(required | attributes, data)
            headers, body = convert(event)
            publish(url, headers, body, f"{topic} {event['id']}")
            response = read(url, topic, event["id"])
            stored = from_http({"content-type": ACCEPT["Accept"]}, response.content)
            sent = dict(event.get_attributes()) | {"data": event.get_data()}
            compare(f"{topic} {event['id']}", sent, dict(stored.get_attributes()) | {"data": stored.get_data()})
        expect_counts(url, topic, len(made), repetition * len(made))
    return len(made)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    url = sys.argv[1].rstrip("/")
    run = f"python.{secrets.token_hex(4)}"
    count, failed = 0, False
    checks: list[Callable[[], int]] = [
        lambda: check_mode(url, f"{run}.binary", to_binary_event, binary=True),
        lambda: check_mode(url, f"{run}.structured", to_structured_event, binary=False),
        lambda: check_older(url, f"{run}.version-1"),
    ]
    for check in checks:
        try:
            count += check()
        except DifferenceError as difference:
            print(difference, file=sys.stderr)
            failed = True
    if failed:
        return 1
    print(f"cloudevents {version('cloudevents')}: {count} events in binary and structured mode")
    return 0


if __name__ == "__main__":
    sys.exit(main())
