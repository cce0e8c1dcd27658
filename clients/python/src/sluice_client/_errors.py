"""What can go wrong, as exceptions."""

from __future__ import annotations


class SluiceError(Exception):
    """The base of all exceptions of this library."""


class EventError(SluiceError, ValueError):
    """An event cannot be sent. `field` names the field, and the text says what is wrong with it."""

    def __init__(self, field: str, detail: str) -> None:
        # All arguments are kept, so that the exception can be pickled.
        super().__init__(field, detail)
        self.field = field
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.field}: {self.detail}"


class BufferFullError(SluiceError):
    """There was no room for an event in memory, or in the spool. The event was not taken."""


class ClosedError(SluiceError):
    """The client was closed. The event was not taken."""


class ForkedError(SluiceError):
    """The client was made in another process, before a fork: its threads do not exist in this one."""


class NotDeliveredError(SluiceError):
    """The client ended before the server confirmed an event. It is not known whether the server has it.

    `spooled` says whether the event is in the spool, from which the next client of the same folder delivers it.
    """

    def __init__(self, detail: str, *, spooled: bool = False) -> None:
        super().__init__(detail)
        self.spooled = spooled


class RejectedError(SluiceError):
    """The server refused an event for good.

    Attributes:
        status: The status of the HTTP answer: 202 if other events of the request were accepted.
        code: The stable code of the error, such as `invalid_event`; `None` if the answer did not come from Sluice.
        detail: The error as text for people.
        index: The index of the event in its request, from 0; `None` if the error concerns the whole request.
        field: The field with the error, if there is one.
        request_id: The `X-Request-Id` of the answer, by which the log of the server can be searched.
    """

    def __init__(
        self,
        status: int,
        code: str | None,
        detail: str,
        *,
        index: int | None = None,
        field: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(status, code, detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.index = index
        self.field = field
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.code else f"status {self.status}: {self.detail}"


class SpoolError(SluiceError):
    """The spool cannot be used, or an event could not be written to it."""


class SpoolLockedError(SpoolError):
    """Another client uses the folder of the spool."""
