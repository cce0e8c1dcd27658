"""What the document cannot say, for schemathesis: how parameters of one request depend on each other.

A request that schemathesis takes for valid is changed here so that it is. Nothing else is changed: what is invalid must
be refused as it is.
"""

import json
import uuid
from datetime import datetime, timedelta
from zoneinfo import available_timezones

import schemathesis

LINES = "application/x-ndjson"
CLOUD_EVENTS = ("application/cloudevents+json", "application/cloudevents-batch+json")
ATTRIBUTES = set("specversion id source type time subject datacontenttype dataschema data data_base64".split())
TIME_ZONES = available_timezones()


@schemathesis.serializer(LINES)
def lines(ctx, value):
    return json.dumps(value).encode()


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Repairs valid requests."""
    operation = (case.method.upper(), case.operation.path)
    if operation == ("GET", "/outcomes/{receipt}") and str(case.path_parameters["receipt"]).isdigit():
        # Also where only a header is wrong, which is ignored.
        head(case)
    if not case.meta or not case.meta.generation.mode.is_positive:
        return
    repair = REPAIRS.get(operation)
    if repair:
        repair(case)


def events(case):
    """The list and the feed have other parameters."""
    query = case.query or {}
    others = ("since", "until", "cursor") if query.get("order") == "asc" else ("after",)
    for name in others:
        query.pop(name, None)


def head(case):
    """A stream lasts for ten minutes, and an outcome for which nobody waits takes ten seconds. HEAD has their headers."""
    case.method = "HEAD"


def publish(case):
    """A payload has no NUL, a body is compressed as its header says, and a key belongs to one body."""
    if isinstance(case.body, (dict, list)):
        case.body = json.loads(json.dumps(case.body).replace("\\u0000", ""))
    if case.media_type in CLOUD_EVENTS:
        for event in case.body if isinstance(case.body, list) else [case.body]:
            cloud_event(event)
    headers = case.headers or {}
    headers.pop("Content-Encoding", None)
    if "Idempotency-Key" in headers:
        headers["Idempotency-Key"] = str(uuid.uuid4())


def cloud_event(event):
    """Extensions have names of lower-case letters and digits, and values of three types. There is one form of the data."""
    for name in set(event) - ATTRIBUTES:
        del event[name]
    if "data" in event:
        event.pop("data_base64", None)


def topics(case):
    """A cursor has the bytes of a text without NUL."""
    cursor = (case.query or {}).get("cursor", "t")
    try:
        text = bytes.fromhex(cursor[1:]).decode()
    except ValueError:
        text = "\0"
    if "\0" in text:
        case.query.pop("cursor")


def windows(parameters):
    """A span has an end after its begin and few windows, in a zone that exists."""
    try:
        span = datetime.fromisoformat(parameters["to"]) - datetime.fromisoformat(parameters["from"])
    except (KeyError, TypeError, ValueError):
        span = timedelta()
    if not timedelta() < span < timedelta(days=6):
        parameters.pop("from", None)
        parameters.pop("to", None)
    if parameters.get("tz") not in TIME_ZONES:
        parameters.pop("tz", None)


def figures(case):
    """Only the fields of a meter can be asked for."""
    query = case.query or {}
    windows(query)
    query.pop("group_by", None)
    query.pop("filter", None)


def questions(case):
    for question in case.body["queries"]:
        windows(question)
        question.pop("group_by", None)
        question.pop("filter", None)


def meter(case):
    """Limits are bytes of UTF-8, and the document can only limit characters."""

    def short(text):
        return text if len(text.encode(errors="replace")) <= 256 else text.encode("ascii", "ignore").decode()

    body = case.body if isinstance(case.body, dict) else {}
    if isinstance(body.get("value"), str):
        body["value"] = short(body["value"])
    for name in ("group_by", "topics"):
        if isinstance(body.get(name), list):
            body[name] = list(dict.fromkeys(short(text) or "x" for text in body[name]))


def schema(case):
    """There are few topics with a schema, and none of them is published to by chance. `events` belongs to a dry run."""
    case.path_parameters["topic"] = f"checked-{len(case.path_parameters['topic']) % 10}"
    query = case.query or {}
    if str(query.get("dry_run")).lower() != "true":
        query.pop("events", None)


REPAIRS = {
    ("GET", "/events"): events,
    ("GET", "/events/tail"): head,
    ("POST", "/publish"): publish,
    ("GET", "/topics"): topics,
    ("GET", "/stats/series"): lambda case: windows(case.query or {}),
    ("GET", "/meters/{name}"): figures,
    ("PUT", "/meters/{name}"): meter,
    ("PUT", "/topics/{topic}/schema"): schema,
    ("POST", "/meters/query"): questions,
}
