"""Publishes events to Sluice.

```python
from sluice_client import Client, Event

with Client("http://localhost:8080") as client:
    delivery = client.send(Event(topic="orders", event_id="evt-1", payload={"value": 100}))
    delivery.result(timeout=10)  # returns once the server has the event on its disk
```
"""

from ._client import Client
from ._delivery import Delivery
from ._errors import (
    BufferFullError,
    ClosedError,
    EventError,
    ForkedError,
    NotDeliveredError,
    RejectedError,
    SluiceError,
    SpoolError,
    SpoolLockedError,
)
from ._event import Event
from ._stats import Stats
from ._version import __version__

__all__ = [
    "BufferFullError",
    "Client",
    "ClosedError",
    "Delivery",
    "Event",
    "EventError",
    "ForkedError",
    "NotDeliveredError",
    "RejectedError",
    "SluiceError",
    "SpoolError",
    "SpoolLockedError",
    "Stats",
    "__version__",
]
