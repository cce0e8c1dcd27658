"""A queue on disk: a thread writes events to the spool, and batches are read from there."""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ._delivery import Delivery, settle
from ._errors import EventError, NotDeliveredError, RejectedError, SluiceError, SpoolError
from ._event import Encoded
from ._frames import HEADER_BYTES, Frame
from ._options import Options
from ._queue import Batch, Item, Queue
from ._spool import Lost, Segment, Spool
from ._stats import Stats

logger = logging.getLogger("sluice_client")

# How long the writing thread may take for what it has begun, after the deadline of `close`.
_LAST_WRITE = 5.0
# After so many seconds a dead letter that could not be written is tried again.
_DEAD_LETTER_RETRY = 1.0


class SpoolQueue(Queue):
    """Events wait in memory for at most the linger, until they are written together: a frame is a batch."""

    # An event has a future for each of its two stages.
    OVERHEAD = 2 * Queue.OVERHEAD

    def __init__(self, options: Options, aborted: threading.Event, directory: Path) -> None:
        super().__init__(options, aborted)
        self._spool = Spool(directory, options.spool_bytes)
        self.counters.recovered = self._spool.unread
        if self.counters.recovered:
            logger.info("%s: %d events are left to be delivered", directory, self.counters.recovered)
        # Whoever wants to know the end of an event holds its future, so that millions of events that wait on the disk
        # need no memory. A future with a callback is kept.
        self._deliveries: weakref.WeakValueDictionary[int, Delivery] = weakref.WeakValueDictionary()
        self._kept: set[Delivery] = set()
        self._in_flight: dict[str, tuple[Segment, Frame]] = {}
        # What the events that are not written yet will take on the disk.
        self._reserved = 0
        # The number of the first event that is being written.
        self._writing: float = math.inf
        self._written_all = False
        self._to_write = threading.Condition(self.lock)
        self._writer = threading.Thread(target=self._write_all, name="sluice-client-spool", daemon=True)
        self._writer.start()

    # From memory to the disk

    def _write_all(self) -> None:
        while self._write_next():
            pass
        with self.lock:
            self._written_all = True
            self._work.notify_all()
            self._progress.notify_all()

    def _write_next(self) -> bool:
        # A function of its own, so that no future is held here while the next events are waited for.
        groups = self._next_groups()
        if groups:
            self._write(groups)
        return bool(groups)

    def _next_groups(self) -> list[list[Item]]:
        """Waits until there is a batch, and takes it with all further ones that are full. Empty at the end."""
        with self.lock:
            while True:
                due_in = self._gathering.due_in(self._at_once)
                if due_in == 0:
                    break
                if self._closing:
                    return []
                self._to_write.wait(None if due_in == math.inf else due_in)
            groups = [self._gathering.cut()]
            size = sum(map(_disk_of_item, groups[0]))
            while self._gathering.is_full and size < self._spool.segment_bytes:
                groups.append(self._gathering.cut())
                size += sum(map(_disk_of_item, groups[-1]))
            self._writing = groups[0][0].number
            return groups

    def _write(self, groups: list[list[Item]]) -> None:
        # A random key is used, so that no other request of any client has it.
        frames = [
            Frame(os.urandom(16), items[0].number, len(items), b"\n".join(item.line for item in items))
            for items in groups
        ]
        items = [item for group in groups for item in group]
        failure: SpoolError | None = None
        written = None
        try:
            written = self._spool.append(frames)
        except Exception as error:
            logger.error("%s: %d events could not be written: %s", self._spool.directory, len(items), error)
            failure = SpoolError(f"the event could not be written to the spool: {error}")
        with self.lock:
            # The disk has taken longer than `close` waits. `abort` has counted these events.
            too_late = self.aborted.is_set()
            self._reserved -= sum(map(_disk_of_item, items))
            if not too_late:
                self._memory -= sum(item.memory for item in items)
            if written is not None:
                self._spool.publish(written)
                for item in items:
                    self._deliveries[item.number] = item.delivery
                self._work.notify(len(groups))
            elif not too_late:
                self.counters.failed += len(items)
        for item in items:
            settle(item.delivery.spooled, failure)
            if failure is not None:
                settle(item.delivery, failure)
            elif too_late:
                settle(item.delivery, _left_in_spool())
        with self.lock:
            self._writing = math.inf
            self._room.notify_all()
            self._progress.notify_all()

    # From the disk to the server

    def take(self) -> Batch | None:
        while True:
            with self.lock:
                found = None
                while not self.aborted.is_set():
                    found = self._spool.read()
                    if found is not None or self._written_all:
                        break
                    self._work.wait()
                if found is None or self.aborted.is_set():
                    return None
                if not isinstance(found, Lost):
                    segment, frame = found
                    key = frame.key.hex()
                    self._in_flight[key] = (segment, frame)
                    return Batch(key, frame.body.split(b"\n"), -1 if segment.recovered else frame.first)
                lost = [self._deliveries.pop(number, None) for number in found.numbers]
                self.counters.failed += found.events
                self._progress.notify_all()
            for delivery in filter(None, lost):
                settle(delivery, SpoolError("the event was damaged on the disk of the spool"))

    def done(self, batch: Batch, outcomes: Sequence[SluiceError | None]) -> None:
        if not self._keep_dead_letters(batch, outcomes):
            return
        with self.lock:
            if self.aborted.is_set():
                return
            segment, frame = self._in_flight.pop(batch.key)
            self._ending[batch.key] = batch.first
            refused = sum(isinstance(outcome, RejectedError) for outcome in outcomes)
            delivered = sum(outcome is None for outcome in outcomes)
            self.counters.rejected += refused
            self.counters.delivered += delivered
            self.counters.failed += len(outcomes) - refused - delivered
            if refused + delivered == len(outcomes):
                self._spool.acknowledge(segment, frame.key)
            self._free(even_active=segment.end >= self._spool.segment_bytes // 4)
            ended = [self._deliveries.pop(number, None) for number in _numbers(batch)]
            self._room.notify_all()
        for delivery, outcome in zip(ended, outcomes, strict=False):
            if delivery is not None:
                settle(delivery, outcome)
        self._ended(batch)

    def _keep_dead_letters(self, batch: Batch, outcomes: Sequence[SluiceError | None]) -> bool:
        """Writes what was refused to the dead letters, before it is removed from the spool. False if it gives up."""
        pairs = zip(batch.lines, outcomes, strict=True)
        refused = [(line, outcome) for line, outcome in pairs if isinstance(outcome, RejectedError)]
        while refused:
            try:
                with self.lock:
                    if self.aborted.is_set():
                        return False
                    self._spool.dead_letters.add(batch.key, refused)
                return True
            except OSError as error:
                logger.error("%s: dead letters could not be written: %s", self._spool.directory, error)
            if self.aborted.wait(_DEAD_LETTER_RETRY):
                return False
        return True

    def _free(self, *, even_active: bool) -> None:
        # The segment that is written to is not removed each time that it is empty: a new one costs a file and a sync.
        self._spool.remove_finished(with_active=self._writing == math.inf and (even_active or self._blocked > 0))

    def abort(self) -> None:
        with self.lock:
            self._closing = True
            for condition in (self._to_write, self._work, self._room):
                condition.notify_all()
        self._writer.join(_LAST_WRITE)
        with self.lock:
            self.aborted.set()
            in_memory = self._gathering.clear()
            on_disk = list(self._deliveries.values())
            self.counters.failed += self.counters.waiting
            self._deliveries.clear()
            self._in_flight.clear()
            self._memory = 0
            self._work.notify_all()
            self._progress.notify_all()
            if not self._writer.is_alive():
                self._spool.close()
        for item in in_memory:
            error = NotDeliveredError("the client was closed before the event was written to the spool")
            settle(item.delivery.spooled, error)
            settle(item.delivery, error)
        for delivery in on_disk:
            settle(delivery, _left_in_spool())

    # What `Queue` asks

    def _hurry(self) -> None:
        super()._hurry()
        self._to_write.notify_all()

    def _check_size(self, encoded: Encoded) -> None:
        for name, size in (("buffer_bytes", self._memory_of(encoded)), ("spool_bytes", _disk_of(encoded.line))):
            if size > getattr(self.options, name):
                raise EventError("payload", f"the event counts {size} bytes, more than {name}")

    def _delivery(self, encoded: Encoded) -> Delivery:
        return Delivery(encoded.topic, encoded.event_id, kept=self._kept)

    def _refuse(self, delivery: Delivery, error: SluiceError) -> None:
        settle(delivery.spooled, error)
        settle(delivery, error)

    def _fits(self, encoded: Encoded) -> bool:
        disk = self._spool.size + self._spool.dead_letters.size + self._reserved
        return (
            self._memory + self._memory_of(encoded) <= self.options.buffer_bytes
            and disk + _disk_of(encoded.line) <= self.options.spool_bytes
        )

    def _make_room(self) -> None:
        self._free(even_active=True)

    def _full(self) -> str:
        spool, options = self._spool, self.options
        return (
            f"no room in the spool: {self.counters.waiting} events wait; its segments have {spool.size} bytes and its "
            f"dead letters {spool.dead_letters.size}, and spool_bytes is {options.spool_bytes}; {self._memory} bytes "
            f"wait in memory to be written, and buffer_bytes is {options.buffer_bytes}"
        )

    def _add(self, item: Item) -> None:
        self._memory += item.memory
        self._reserved += _disk_of(item.line)
        self._gathering.add(item)
        if len(self._gathering) == 1 or self._gathering.is_full:
            self._to_write.notify()

    def _lowest(self) -> float:
        in_flight = [-1 if segment.recovered else frame.first for segment, frame in self._in_flight.values()]
        unread = [segment.next_number for segment in self._spool.segments if segment.unread]
        return min([self._gathering.first, self._writing, *in_flight, *unread, *self._ending.values()])

    def _stats(self) -> Stats:
        return replace(
            super()._stats(),
            spooled_bytes=self._spool.size,
            dead_letter_bytes=self._spool.dead_letters.size,
            cut_bytes=self._spool.cut_bytes,
            damaged_bytes=self._spool.damaged_bytes,
        )


def _left_in_spool() -> NotDeliveredError:
    detail = "the client was closed before the server confirmed the event; it is in the spool"
    return NotDeliveredError(detail, spooled=True)


def _numbers(batch: Batch) -> range:
    """Returns the numbers of the events of a batch. Nobody here waits for those that another process took."""
    return range(0) if batch.first < 0 else range(batch.first, batch.first + len(batch.lines))


def _disk_of(line: bytes) -> int:
    """Returns how many bytes of the spool are kept free for an event. A header for each is more than is needed."""
    return len(line) + 1 + HEADER_BYTES


def _disk_of_item(item: Item) -> int:
    return _disk_of(item.line)
