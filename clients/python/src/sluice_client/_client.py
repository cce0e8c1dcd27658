"""The client."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ._deliver import deliver
from ._delivery import Delivery
from ._errors import ForkedError, NotDeliveredError, RejectedError, SluiceError
from ._event import Event, encode
from ._exchange import AbortedError, Exchange
from ._memory_queue import MemoryQueue
from ._options import Options, WhenFull
from ._queue import Batch, Queue
from ._spool_queue import SpoolQueue
from ._stats import Stats

logger = logging.getLogger("sluice_client")

# After so many seconds the spool is read again when that has failed.
_READ_RETRY = 1.0


class Client:
    """Publishes events to Sluice in the background: in batches, each repeated under one key until it is answered.

    All methods may be called by several threads. The README describes the options.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        token_file: str | os.PathLike[str] | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        batch_events: int = 1000,
        batch_bytes: int = 1 << 20,
        linger: float = 0.05,
        max_in_flight: int = 4,
        buffer_bytes: int = 64 << 20,
        when_full: WhenFull = "block",
        block_timeout: float | None = None,
        spool_directory: str | os.PathLike[str] | None = None,
        spool_bytes: int = 1 << 30,
        request_timeout: float = 30.0,
        backoff_min: float = 0.1,
        backoff_max: float = 30.0,
        close_timeout: float = 10.0,
    ) -> None:
        """Makes a client and starts its threads. No request is sent before the first event.

        Raises:
            ValueError: An option cannot be used; the text begins with its name.
            SpoolLockedError: Another client uses the folder of the spool.
            SpoolError: The folder of the spool cannot be used.
        """
        self._options = options = Options(
            url=url,
            token=token,
            token_file=_path(token_file),
            ca_file=_path(ca_file),
            cert_file=_path(cert_file),
            key_file=_path(key_file),
            batch_events=batch_events,
            batch_bytes=batch_bytes,
            linger=linger,
            max_in_flight=max_in_flight,
            buffer_bytes=buffer_bytes,
            when_full=when_full,
            block_timeout=block_timeout,
            spool_directory=_path(spool_directory),
            spool_bytes=spool_bytes,
            request_timeout=request_timeout,
            backoff_min=backoff_min,
            backoff_max=backoff_max,
            close_timeout=close_timeout,
        )
        self._pid = os.getpid()
        aborted = threading.Event()
        self._exchange = Exchange(options, aborted, self._repeated)
        self._queue: Queue
        if options.spool_directory is None:
            self._queue = MemoryQueue(options, aborted)
        else:
            self._queue = SpoolQueue(options, aborted, options.spool_directory)
        self._closing = threading.Lock()
        self._closed: bool | None = None
        # Started at once: at the exit of the interpreter no thread can be started any more.
        self._threads = [
            threading.Thread(target=self._run, name=f"sluice-client-{number}", daemon=True)
            for number in range(options.max_in_flight)
        ]
        for thread in self._threads:
            thread.start()
        _clients.add(self)

    def send(self, event: Event | Mapping[str, Any]) -> Delivery:
        """Takes an event, and returns its future. It waits only if there is no room, with `when_full="block"`.

        Raises:
            EventError: The event cannot be sent; it names the field.
            BufferFullError: There was no room within `block_timeout`.
            ClosedError: The client was closed.
            ForkedError: The client was made in another process.
        """
        self._check_process()
        # A callback of a delivery is called by one of these threads. If it waited, nothing could make room.
        return self._queue.put(encode(event), may_block=threading.current_thread() not in self._threads)

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until all events that were taken before are delivered or rejected. False if the time was not enough.

        With a spool, these are also the events of former processes.
        """
        self._check_process()
        return self._queue.flush(_deadline(timeout))

    def close(self, timeout: float | None = None) -> bool:
        """Takes no more events, waits until all are delivered or rejected, and stops. False if the time was not enough.

        `timeout` is `close_timeout` if it is not given. At its end, the future of each event that is not answered
        raises `NotDeliveredError`. Events in a spool stay there for the next client.
        """
        self._check_process()
        deadline = _deadline(self._options.close_timeout if timeout is None else timeout)
        with self._closing:
            if self._closed is None:
                self._closed = self._queue.close(deadline)
                self._queue.abort()
                for thread in self._threads:
                    if thread is not threading.current_thread():
                        # A request that is still in flight ends with its thread, or with the process.
                        thread.join(1.0 if self._closed else 0.1)
                if not any(thread.is_alive() for thread in self._threads):
                    self._exchange.close()
                _clients.discard(self)
            return self._closed

    def stats(self) -> Stats:
        """Returns the counters."""
        self._check_process()
        return self._queue.stats()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A child that was forked within the block leaves it too.
        if os.getpid() == self._pid:
            self.close()

    def _run(self) -> None:
        while True:
            try:
                batch = self._queue.take()
            except OSError as error:
                logger.error("the spool cannot be read: %s", error)
                if self._queue.aborted.wait(_READ_RETRY):
                    return
                continue
            if batch is None:
                return
            try:
                outcomes = deliver(self._exchange, batch)
            except AbortedError:
                return
            except Exception as error:
                # A defect of this library. The other events are still sent, and the futures of these do not hang.
                logger.exception("a batch could not be sent")
                outcomes = [NotDeliveredError(f"a defect of the client: {error!r}") for _ in batch.lines]
            self._report(batch, outcomes)
            self._queue.done(batch, outcomes)

    def _report(self, batch: Batch, outcomes: list[SluiceError | None]) -> None:
        refused = [outcome for outcome in outcomes if isinstance(outcome, RejectedError)]
        if refused:
            logger.warning("the server refused %d of %d events; the first: %s", len(refused), len(outcomes), refused[0])
        self._queue.answered(str(refused[0]) if len(refused) == len(batch.lines) else None)

    def _repeated(self, reason: str) -> None:
        logger.info("a request is repeated: %s", reason)
        self._queue.repeated(reason)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedError(f"this client was made in process {self._pid}: make one in each process, after the fork")


def _path(path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(path)


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Delivers at the exit of the interpreter what was not delivered yet, within `close_timeout`."""
    for client in list(_clients):
        if client._pid == os.getpid():
            client.close()
