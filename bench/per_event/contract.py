"""The events that both services accept, as `POST /publish` of Sluice does: one, or a list of them."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class Event(BaseModel):
    topic: str
    event_id: str
    timestamp: datetime
    source: str
    payload: dict[str, Any]


def as_list(body: Event | list[Event]) -> list[Event]:
    return body if isinstance(body, list) else [body]
