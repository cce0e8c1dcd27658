"""The file of events that the server has refused for good: a JSON object on each line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from ._errors import RejectedError
from ._files import sync_directory, write_all


class DeadLetters:
    """The file, to which events are appended. The constructor removes a line whose writing was interrupted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = 0
        if not path.exists():
            return
        with path.open("r+b") as file:
            data = file.read()
            self.size = data.rfind(b"\n") + 1
            # The frame of such an event is not acknowledged, so it is sent, and refused, again.
            file.truncate(self.size)

    def add(self, key: str, refused: Iterable[tuple[bytes, RejectedError]]) -> None:
        """Appends events with the reasons, and returns when they are on the disk.

        Raises:
            OSError: They could not be written.
        """
        data = b"".join(_entry(key, line, reason) for line, reason in refused)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
            if self.size == 0:
                sync_directory(self._path.parent)
        except OSError:
            os.ftruncate(descriptor, self.size)
            raise
        finally:
            os.close(descriptor)
        self.size += len(data)


def _entry(key: str, line: bytes, reason: RejectedError) -> bytes:
    members = {
        "refused_at": datetime.now(timezone.utc).isoformat().replace("+00:00", "Z"),
        "idempotency_key": key,
        "status": reason.status,
        "code": reason.code,
        "detail": reason.detail,
        "index": reason.index,
        "field": reason.field,
        "request_id": reason.request_id,
    }
    return b'%s,"event":%s}\n' % (json.dumps(members, separators=(",", ":")).encode()[:-1], line)
