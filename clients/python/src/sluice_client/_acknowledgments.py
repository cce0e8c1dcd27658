"""The file that remembers which frames of a spool need not be sent any more.

Each record has the 16 bytes of a key and a CRC-32 of them. It names a frame by its key and not by its place, so that it
never stands for a later frame. The file is not synced: if a record is lost, its frame is sent again under its key, and
counts once.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from pathlib import Path

_RECORD = 20
# A larger file is written anew, without the keys of segments that were removed.
_LARGE = 1 << 20


class Acknowledgments:
    """The file, to which keys are appended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._size = 0
        self._limit = _LARGE

    def load(self) -> set[bytes]:
        """Returns the keys in the file. A record that is damaged or incomplete is left out."""
        data = self._path.read_bytes() if self._path.exists() else b""
        records = (data[offset : offset + _RECORD] for offset in range(0, len(data), _RECORD))
        return {record[:16] for record in records if record == _record(record[:16])}

    @property
    def is_large(self) -> bool:
        """Whether the file should be written anew."""
        return self._size > self._limit

    def add(self, key: bytes) -> None:
        """Appends a key.

        Raises:
            OSError: It could not be written.
        """
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # One that is written in part would make all later ones unreadable.
        if os.write(self._descriptor, _record(key)) != _RECORD:
            os.ftruncate(self._descriptor, self._size)
        else:
            self._size += _RECORD

    def rewrite(self, keys: Iterable[bytes]) -> None:
        """Replaces the file by one with these keys.

        Raises:
            OSError: It could not be written; the former file stays.
        """
        data = b"".join(map(_record, keys))
        copy = self._path.with_suffix(".new")
        copy.write_bytes(data)
        self.close()
        copy.replace(self._path)
        self._size = len(data)
        self._limit = max(_LARGE, 2 * self._size)

    def remove(self) -> None:
        """Removes the file."""
        if self._size or self._descriptor is not None:
            self.close()
            self._path.unlink(missing_ok=True)
            self._size = 0

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _record(key: bytes) -> bytes:
    return key + zlib.crc32(key).to_bytes(4, "big")
