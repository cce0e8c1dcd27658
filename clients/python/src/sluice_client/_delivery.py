"""The future of an event."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any


class Delivery(Future[None]):
    """The future of an event: it ends when the server has confirmed the event, or with the reason why not.

    `result()` returns `None` once the server has the event on its disk. Otherwise it raises `RejectedError`,
    `BufferFullError`, `NotDeliveredError` or `SpoolError`. `asyncio.wrap_future(delivery)` makes it awaitable.
    An event cannot be taken back: `cancel()` returns `False`.

    Attributes:
        topic: The topic of the event.
        event_id: The id of the event, also if the client has made it.
    """

    def __init__(self, topic: str, event_id: str, *, kept: set[Delivery] | None = None) -> None:
        super().__init__()
        self.topic = topic
        self.event_id = event_id
        # With a spool, nobody but its caller holds a delivery. This set holds those with a callback.
        self._kept = kept
        self._spooled: Future[None] | None = None if kept is None else Future()
        self.set_running_or_notify_cancel()
        if self._spooled is not None:
            self._spooled.set_running_or_notify_cancel()

    @property
    def spooled(self) -> Future[None]:
        """The first stage, with a spool: a future that ends when the event is on the disk of this machine.

        From then on the event is delivered whatever happens to this process, by the next client of the same folder if
        need be. Its `result()` raises `SpoolError` if the event could not be written.

        Raises:
            AttributeError: The client has no spool.
        """
        if self._spooled is None:
            raise AttributeError("this client has no spool: set spool_directory")
        return self._spooled

    def add_done_callback(self, fn: Callable[[Future[None]], Any]) -> None:
        """Calls `fn` with this future when it ends, in a thread of the client: `fn` must return soon."""
        if self._kept is not None:
            self._kept.add(self)
            # Called at once if the event has ended already.
            super().add_done_callback(self._kept.discard)
        super().add_done_callback(fn)


def settle(future: Future[None], error: BaseException | None) -> None:
    """Ends a future. One that has ended already stays as it is."""
    # Closing a client ends the futures whose request is still in flight; its answer may come at the same time.
    with contextlib.suppress(InvalidStateError):
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
