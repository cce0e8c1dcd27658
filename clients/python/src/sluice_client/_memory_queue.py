"""A queue in memory."""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Sequence

from ._delivery import Delivery, settle
from ._errors import EventError, NotDeliveredError, RejectedError, SluiceError
from ._event import Encoded
from ._options import Options
from ._queue import Batch, Item, Queue


class MemoryQueue(Queue):
    """Holds events in memory until they are answered."""

    def __init__(self, options: Options, aborted: threading.Event) -> None:
        super().__init__(options, aborted)
        self._in_flight: dict[str, list[Item]] = {}

    def take(self) -> Batch | None:
        with self.lock:
            while not self.aborted.is_set():
                due_in = self._gathering.due_in(self._at_once)
                if due_in == 0:
                    return self._cut()
                if self._closing:
                    return None
                self._work.wait(None if due_in == math.inf else due_in)
        return None

    def _cut(self) -> Batch:
        items = self._gathering.cut()
        if self._gathering:
            # Some other thread must wait for the linger of those that are left.
            self._work.notify()
        # A random key is used, so that no other request of any client has it.
        batch = Batch(uuid.uuid4().hex, [item.line for item in items], items[0].number)
        self._in_flight[batch.key] = items
        return batch

    def done(self, batch: Batch, outcomes: Sequence[SluiceError | None]) -> None:
        with self.lock:
            # `abort` has taken the events whose answer came too late.
            items = self._in_flight.pop(batch.key, [])
            self._ending[batch.key] = batch.first
            for item, outcome in zip(items, outcomes, strict=False):
                self._memory -= item.memory
                if outcome is None:
                    self.counters.delivered += 1
                elif isinstance(outcome, RejectedError):
                    self.counters.rejected += 1
                else:
                    self.counters.failed += 1
            self._room.notify_all()
        for item, outcome in zip(items, outcomes, strict=False):
            settle(item.delivery, outcome)
        self._ended(batch)

    def abort(self) -> None:
        with self.lock:
            self._closing = True
            self.aborted.set()
            items = [item for batch in self._in_flight.values() for item in batch] + self._gathering.clear()
            self._in_flight.clear()
            self._memory = 0
            self.counters.failed += len(items)
            for condition in (self._work, self._room, self._progress):
                condition.notify_all()
        for item in items:
            settle(item.delivery, NotDeliveredError("the client was closed before the server confirmed the event"))

    def _check_size(self, encoded: Encoded) -> None:
        if self._memory_of(encoded) > self.options.buffer_bytes:
            raise EventError("payload", f"the event counts {self._memory_of(encoded)} bytes, more than buffer_bytes")

    def _delivery(self, encoded: Encoded) -> Delivery:
        return Delivery(encoded.topic, encoded.event_id)

    def _refuse(self, delivery: Delivery, error: SluiceError) -> None:
        settle(delivery, error)

    def _fits(self, encoded: Encoded) -> bool:
        return self._memory + self._memory_of(encoded) <= self.options.buffer_bytes

    def _full(self) -> str:
        return f"no room: {self.counters.waiting} events wait, and buffer_bytes is {self.options.buffer_bytes}"

    def _add(self, item: Item) -> None:
        self._memory += item.memory
        self._gathering.add(item)
        # One thread begins to wait for the linger of the first event, and one is woken for a full batch. To wake one
        # for each event would only cost time.
        if len(self._gathering) == 1 or self._gathering.is_full:
            self._work.notify()

    def _lowest(self) -> float:
        firsts = [items[0].number for items in self._in_flight.values()]
        return min([self._gathering.first, *firsts, *self._ending.values()])
