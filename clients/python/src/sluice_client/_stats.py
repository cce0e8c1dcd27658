"""Counters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """What a client has done since it was made, and what waits now.

    Attributes:
        sent: Events that `send` has taken.
        recovered: Events that were in the spool, not delivered, when it was opened.
        delivered: Events that the server has confirmed.
        rejected: Events that the server has refused for good. With a spool they are in its dead letters.
        dropped: Events that were not taken with `when_full="drop"`.
        failed: Events that were taken and not delivered by this client: the client was closed before, or they could not
            be written to the spool. Those of them that are in the spool are delivered by the next client.
        repeated: Requests that were sent again.
        waiting_events: Events that are neither confirmed nor refused yet.
        waiting_bytes: The memory that waiting events count for.
        spooled_bytes: The size of the spool's segments. A segment is removed when all its events are delivered.
        dead_letter_bytes: The size of the spool's dead letters.
        cut_bytes: Bytes cut off the end of the spool when it was opened: an event whose writing was interrupted.
        damaged_bytes: Bytes of the spool that were damaged, and were put aside.
        last_error: Why the last request was repeated or refused; `None` after a request that was answered 202.
    """

    sent: int
    recovered: int
    delivered: int
    rejected: int
    dropped: int
    failed: int
    repeated: int
    waiting_events: int
    waiting_bytes: int
    spooled_bytes: int
    dead_letter_bytes: int
    cut_bytes: int
    damaged_bytes: int
    last_error: str | None


@dataclass
class Counters:
    """The counters that only grow. The lock of the queue guards them."""

    sent: int = 0
    recovered: int = 0
    delivered: int = 0
    rejected: int = 0
    dropped: int = 0
    failed: int = 0
    repeated: int = 0
    last_error: str | None = None

    @property
    def waiting(self) -> int:
        """The number of events whose end is open."""
        return self.sent + self.recovered - self.delivered - self.rejected - self.failed
