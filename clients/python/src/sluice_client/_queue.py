"""What the two kinds of queues have in common: events wait until they are a batch, and room is bounded."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ._delivery import Delivery
from ._errors import BufferFullError, ClosedError, SluiceError
from ._event import Encoded
from ._options import Options
from ._stats import Counters, Stats


@dataclass(slots=True)
class Item:
    """An event that waits to become part of a batch. `memory` is what it counts for."""

    number: int
    line: bytes
    delivery: Delivery
    since: float
    memory: int


@dataclass(frozen=True)
class Batch:
    """Events that are sent in one request. `first` is the number of the first one, or -1 if another process took it."""

    key: str
    lines: Sequence[bytes]
    first: int


class Gathering:
    """Events that wait until they are enough for a batch, or until the first has waited for the linger."""

    def __init__(self, options: Options) -> None:
        self._events = options.batch_events
        self._bytes = options.batch_bytes
        self._linger = options.linger
        self._items: deque[Item] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def first(self) -> float:
        """The number of the first event, infinite if there is none."""
        return self._items[0].number if self._items else math.inf

    @property
    def is_full(self) -> bool:
        """Whether the events are enough for a batch."""
        return len(self._items) >= self._events or self._size >= self._bytes

    def add(self, item: Item) -> None:
        """Adds an event."""
        self._items.append(item)
        self._size += len(item.line) + 1

    def due_in(self, at_once: float) -> float:
        """Returns after how many seconds there is a batch: infinite if there is no event.

        Events with a number below `at_once` do not wait for the linger.
        """
        if not self._items:
            return math.inf
        if self.is_full or self.first < at_once:
            return 0
        return max(0.0, self._items[0].since + self._linger - time.monotonic())

    def cut(self) -> list[Item]:
        """Takes a batch: at least one event, and as many as fit."""
        batch: list[Item] = []
        size = 0
        while self._items and len(batch) < self._events:
            size += len(self._items[0].line) + 1
            if batch and size - 1 > self._bytes:
                break
            batch.append(self._items.popleft())
            self._size -= len(batch[-1].line) + 1
        return batch

    def clear(self) -> list[Item]:
        """Takes all events."""
        items = list(self._items)
        self._items.clear()
        self._size = 0
        return items


class Queue(ABC):
    """Takes events from callers, and gives batches to the threads that send them."""

    # The memory of an event beside its line: its future with a lock, and its place in the queue. tests/test_memory.py
    # compares it with what is really taken.
    OVERHEAD = 2304

    def __init__(self, options: Options, aborted: threading.Event) -> None:
        self.options = options
        # Set at the end of `close`: whoever waits gives up.
        self.aborted = aborted
        self.counters = Counters()
        self.lock = threading.Lock()
        self._work = threading.Condition(self.lock)
        self._room = threading.Condition(self.lock)
        self._progress = threading.Condition(self.lock)
        self._gathering = Gathering(options)
        self._memory = 0
        self._next = 0
        self._at_once: float = 0
        self._closing = False
        self._blocked = 0
        # The first numbers of batches whose end is known, and whose futures are being ended. `flush` waits for them.
        self._ending: dict[str, int] = {}

    def put(self, encoded: Encoded, *, may_block: bool) -> Delivery:
        """Takes an event. It waits for room if there is none, unless the options say otherwise.

        Raises:
            EventError: The event is larger than all of the room.
            BufferFullError: There was no room within `block_timeout`.
            ClosedError: The client was closed.
        """
        self._check_size(encoded)
        delivery = self._delivery(encoded)
        with self.lock:
            if self._closing:
                raise ClosedError("the client was closed")
            room = self._has_room(encoded)
            if room or (self.options.when_full == "block" and may_block and self._wait_room(encoded)):
                self.counters.sent += 1
                self._add(Item(self._next, encoded.line, delivery, time.monotonic(), self._memory_of(encoded)))
                self._next += 1
                return delivery
            full = BufferFullError(self._full())
            if self.options.when_full == "block":
                raise full
            self.counters.dropped += 1
        self._refuse(delivery, full)
        return delivery

    def _wait_room(self, encoded: Encoded) -> bool:
        timeout = self.options.block_timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        self._blocked += 1
        try:
            while not self._has_room(encoded):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._room.wait(left)
                if self._closing:
                    raise ClosedError("the client was closed while send waited for room")
        finally:
            self._blocked -= 1
        return True

    def flush(self, deadline: float | None) -> bool:
        """Waits until all events that were taken before are answered, without their linger. False at the deadline."""
        with self.lock:
            target = self._next
            self._at_once = max(self._at_once, target)
            self._hurry()
            return self._wait_progress(target, deadline)

    def close(self, deadline: float | None) -> bool:
        """Takes no more events, and waits until all are answered. False at the deadline."""
        with self.lock:
            self._closing = True
            self._at_once = math.inf
            self._hurry()
            self._room.notify_all()
            return self._wait_progress(math.inf, deadline)

    def _wait_progress(self, target: float, deadline: float | None) -> bool:
        while (lowest := self._lowest()) < target and lowest != math.inf:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            if self.aborted.is_set():
                return False
            self._progress.wait(left)
        return True

    def stats(self) -> Stats:
        """Returns a snapshot of the counters."""
        with self.lock:
            return self._stats()

    def repeated(self, reason: str) -> None:
        """Counts a request that is sent again, and remembers why."""
        with self.lock:
            self.counters.repeated += 1
            self.counters.last_error = reason

    def answered(self, reason: str | None) -> None:
        """Remembers why a request was refused, or that it was not."""
        with self.lock:
            self.counters.last_error = reason

    def _stats(self) -> Stats:
        counters = self.counters
        return Stats(
            sent=counters.sent,
            recovered=counters.recovered,
            delivered=counters.delivered,
            rejected=counters.rejected,
            dropped=counters.dropped,
            failed=counters.failed,
            repeated=counters.repeated,
            waiting_events=counters.waiting,
            waiting_bytes=self._memory,
            spooled_bytes=0,
            dead_letter_bytes=0,
            cut_bytes=0,
            damaged_bytes=0,
            last_error=counters.last_error,
        )

    def _has_room(self, encoded: Encoded) -> bool:
        if not self._fits(encoded):
            self._make_room()
        return self._fits(encoded)

    def _memory_of(self, encoded: Encoded) -> int:
        return len(encoded.line) + self.OVERHEAD

    def _hurry(self) -> None:
        """Wakes those who wait for the linger of events."""
        self._work.notify_all()

    def _make_room(self) -> None:  # noqa: B027 - a queue in memory has nothing that could make room
        """Frees what is not needed any more."""

    @abstractmethod
    def _check_size(self, encoded: Encoded) -> None:
        """Raises `EventError` if the event never fits."""

    @abstractmethod
    def _delivery(self, encoded: Encoded) -> Delivery:
        """Returns the future of a new event."""

    @abstractmethod
    def _refuse(self, delivery: Delivery, error: SluiceError) -> None:
        """Ends the future of an event that is not taken."""

    @abstractmethod
    def _fits(self, encoded: Encoded) -> bool:
        """Returns whether there is room for the event now."""

    @abstractmethod
    def _full(self) -> str:
        """Returns what there is no room in."""

    @abstractmethod
    def _add(self, item: Item) -> None:
        """Adds an event, for which there is room."""

    @abstractmethod
    def _lowest(self) -> float:
        """Returns the lowest number of the events that are not answered: infinite if there is none."""

    @abstractmethod
    def take(self) -> Batch | None:
        """Waits for a batch. `None` after the last one of a queue that was closed."""

    @abstractmethod
    def done(self, batch: Batch, outcomes: Sequence[SluiceError | None]) -> None:
        """Ends the events of a batch: each with its error, or with `None` if the server has it."""

    def _ended(self, batch: Batch) -> None:
        """Notes that the futures of a batch have ended."""
        with self.lock:
            self._ending.pop(batch.key, None)
            self._progress.notify_all()

    @abstractmethod
    def abort(self) -> None:
        """Gives up what is not answered yet, and closes the files."""
