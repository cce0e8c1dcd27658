"""The frames of a spool: requests as they are on the disk.

A frame is one request with its own `Idempotency-Key`, so that after a crash the identical body is repeated under the
identical key. Its header, in network byte order:

| bytes | |
|---|---|
| 4 | `SLF1` |
| 4 | CRC-32 of all that follows, the body included |
| 4 | length of the body |
| 4 | number of events |
| 8 | number of the first event in the process that wrote the frame |
| 16 | the key: in the header of the request it is written as 32 hexadecimal digits |

The body follows: one event on each line, with line feeds between them.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

MAGIC = b"SLF1"
_START = struct.Struct(">4sI")
_REST = struct.Struct(">IIQ16s")
HEADER_BYTES = _START.size + _REST.size


@dataclass(frozen=True)
class Frame:
    """A request on the disk."""

    key: bytes
    first: int
    events: int
    body: bytes

    def encode(self) -> bytes:
        """Returns the bytes of the frame."""
        rest = _REST.pack(len(self.body), self.events, self.first, self.key) + self.body
        return _START.pack(MAGIC, zlib.crc32(rest)) + rest

    @property
    def size(self) -> int:
        """The number of bytes on the disk."""
        return HEADER_BYTES + len(self.body)


@dataclass(frozen=True)
class Scan:
    """What a file consists of: frames with their offsets, and the ranges between them that are no frames."""

    frames: list[tuple[int, Frame]]
    damaged: list[tuple[int, int]]


def length_of(header: bytes) -> int | None:
    """Returns the length of the frame that begins with this header. `None` if no frame begins there."""
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        return None
    length: int = _REST.unpack_from(header, _START.size)[0]
    return HEADER_BYTES + length


def decode(data: bytes, offset: int = 0) -> Frame | None:
    """Returns the frame at an offset. `None` if it is incomplete or damaged."""
    length = length_of(data[offset : offset + HEADER_BYTES])
    if length is None or offset + length > len(data):
        return None
    _, crc = _START.unpack_from(data, offset)
    rest = memoryview(data)[offset + _START.size : offset + length]
    if zlib.crc32(rest) != crc:
        return None
    _, events, first, key = _REST.unpack_from(data, offset + _START.size)
    return Frame(key, first, events, data[offset + HEADER_BYTES : offset + length])


def scan(data: bytes) -> Scan:
    """Finds all frames. After damage the next frame is searched for, so that only what is damaged is lost."""
    frames: list[tuple[int, Frame]] = []
    damaged: list[tuple[int, int]] = []
    offset = 0
    while offset < len(data):
        frame = decode(data, offset)
        if frame is not None:
            frames.append((offset, frame))
            offset += frame.size
            continue
        begin = offset
        offset = data.find(MAGIC, offset + 1)
        while offset != -1 and decode(data, offset) is None:
            offset = data.find(MAGIC, offset + 1)
        offset = len(data) if offset == -1 else offset
        damaged.append((begin, offset))
    return Scan(frames, damaged)
