"""The lock of a folder: one client at a time uses it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from ._errors import SpoolError, SpoolLockedError

try:
    import fcntl
except ImportError:  # pragma: no cover - not on POSIX
    fcntl = None  # type: ignore[assignment]

# A lock of fcntl belongs to the process: it ends with it, and a fork does not inherit it. For the same reason it does
# not keep out a second client of the same process, and ends when any descriptor of the file is closed.
_held: set[tuple[int, Path]] = set()
_guard = threading.Lock()


class DirectoryLock:
    """Holds the lock of a folder from the constructor to `release`."""

    def __init__(self, directory: Path) -> None:
        if fcntl is None:  # pragma: no cover - not on POSIX
            raise SpoolError("spool_directory: a spool needs the locks of a POSIX system")
        self._entry = (os.getpid(), directory.resolve())
        with _guard:
            if self._entry in _held:
                raise SpoolLockedError(f"spool_directory: {directory} is used by another client of this process")
            self._descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._descriptor)
                raise SpoolLockedError(f"spool_directory: {directory} is used by another process") from error
            except BaseException:
                os.close(self._descriptor)
                raise
            _held.add(self._entry)

    def release(self) -> None:
        """Releases the lock."""
        with _guard:
            _held.discard(self._entry)
            os.close(self._descriptor)
