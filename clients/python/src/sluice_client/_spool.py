"""The folder of a spool: segments with frames, a file of acknowledgments, dead letters, and a lock.

A `Spool` has no lock for threads: its queue holds one for every method but `append`, which one thread alone calls.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ._acknowledgments import Acknowledgments
from ._dead_letters import DeadLetters
from ._errors import SpoolError
from ._files import sync_directory, write_all
from ._frames import HEADER_BYTES, Frame, decode, length_of, scan
from ._lock import DirectoryLock

logger = logging.getLogger("sluice_client")

_SEGMENT_BYTES = 8 << 20
# With so many segments the room of delivered frames is free soon enough.
_SEGMENTS = 16


@dataclass
class Segment:
    """A file with frames. What lies before `end` is on the disk."""

    number: int
    path: Path
    recovered: bool
    end: int = 0
    # Where the frame begins that is read next, the number of its first event, and the number after the last event.
    position: int = 0
    next_number: int = -1
    end_number: int = -1
    # Events of frames that were not read yet and are not acknowledged.
    unread: int = 0
    in_flight: int = 0
    acknowledged: set[bytes] = field(default_factory=set)
    reader: int | None = None

    @property
    def is_finished(self) -> bool:
        """Whether all frames are acknowledged."""
        return self.position >= self.end and self.in_flight == 0

    def read(self, offset: int, size: int) -> bytes:
        """Reads from the file."""
        if self.reader is None:
            self.reader = os.open(self.path, os.O_RDONLY)
        return os.pread(self.reader, size, offset)

    def close(self) -> None:
        """Closes the file."""
        if self.reader is not None:
            os.close(self.reader)
            self.reader = None


@dataclass(frozen=True)
class Written:
    """Frames that are on the disk, and cannot be read before `publish` was called."""

    segment: Segment
    end: int
    events: int
    first: int
    end_number: int


@dataclass(frozen=True)
class Lost:
    """Events that were damaged: how many, and the numbers of those that this process has taken."""

    events: int
    numbers: list[int]


class Spool:
    """The files of a folder. The constructor repairs what a crash left."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self.segment_bytes = min(_SEGMENT_BYTES, max(1, max_bytes // _SEGMENTS))
        self.segments: list[Segment] = []
        self.cut_bytes = 0
        self.damaged_bytes = 0
        self._active: Segment | None = None
        self._writer: int | None = None
        self._acknowledgments = Acknowledgments(directory / "acknowledged")
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = DirectoryLock(directory)
            try:
                sync_directory(directory.parent)
                self.dead_letters = DeadLetters(directory / "dead-letters.jsonl")
                self._recover()
            except BaseException:
                self._lock.release()
                raise
        except OSError as error:
            raise SpoolError(f"spool_directory: {directory} cannot be used: {error}") from error

    @property
    def size(self) -> int:
        """The size of all segments."""
        return sum(segment.end for segment in self.segments)

    @property
    def unread(self) -> int:
        """The number of events in frames that were not read yet."""
        return sum(segment.unread for segment in self.segments)

    # Recovery

    def _recover(self) -> None:
        paths = sorted(self.directory.glob("segment-*.spool"))
        known = self._acknowledgments.load()
        for path in paths:
            data = path.read_bytes()
            found = scan(data)
            damaged = found.damaged
            end = len(data)
            if path == paths[-1] and damaged and damaged[-1][1] == end:
                # A crash interrupts only the last write to the last segment: nothing of it was confirmed.
                end = damaged.pop()[0]
                self._cut(path, end, len(data) - end)
            if damaged:
                self._put_aside(path, data, damaged)
                self._rewrite(path, [frame for _, frame in found.frames])
                end = sum(frame.size for _, frame in found.frames)
            waiting = [frame for _, frame in found.frames if frame.key not in known]
            if not waiting:
                path.unlink()
                continue
            segment = Segment(int(path.stem.removeprefix("segment-")), path, recovered=True, end=end)
            segment.unread = sum(frame.events for frame in waiting)
            segment.acknowledged = {frame.key for _, frame in found.frames if frame.key in known}
            self.segments.append(segment)
        self._rewrite_acknowledgments()

    def _cut(self, path: Path, end: int, size: int) -> None:
        logger.warning("%s: cut %d bytes off its end, where writing was interrupted", path, size)
        self.cut_bytes += size
        with path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())

    def _put_aside(self, path: Path, data: bytes, ranges: Sequence[tuple[int, int]], base: int = 0) -> None:
        """Copies what is damaged to files in the folder `damaged`."""
        folder = self.directory / "damaged"
        folder.mkdir(mode=0o700, exist_ok=True)
        for begin, end in ranges:
            # The checksum is in the name, because the numbers of segments are used again.
            copy = folder / f"{path.stem}-{base + begin}-{zlib.crc32(data[begin:end]):08x}.bin"
            with copy.open("wb") as file:
                file.write(data[begin:end])
                file.flush()
                os.fsync(file.fileno())
            self.damaged_bytes += end - begin
            logger.error("%s: %d damaged bytes at %d were put aside: %s", path, end - begin, base + begin, copy)
        sync_directory(folder)

    def _rewrite(self, path: Path, frames: Sequence[Frame]) -> None:
        """Replaces a segment by one with its good frames alone."""
        copy = path.with_suffix(".new")
        with copy.open("wb") as file:
            file.writelines(frame.encode() for frame in frames)
            file.flush()
            os.fsync(file.fileno())
        copy.replace(path)
        sync_directory(self.directory)

    # Writing

    def append(self, frames: Sequence[Frame]) -> Written:
        """Writes frames, and returns when they are on the disk.

        Raises:
            OSError: They are not, or it is not known.
        """
        if self._writer is None:
            self._begin_segment()
        assert self._active is not None
        assert self._writer is not None
        segment, begin = self._active, self._active.end
        data = b"".join(frame.encode() for frame in frames)
        try:
            write_all(self._writer, data)
            os.fsync(self._writer)
        except OSError:
            # Nothing may follow an incomplete frame. What was not synced may be lost although a later sync succeeds, so
            # this file is not used any more.
            self._end_segment()
            os.truncate(segment.path, begin)
            raise
        written = Written(
            segment,
            begin + len(data),
            sum(frame.events for frame in frames),
            frames[0].first,
            frames[-1].first + frames[-1].events,
        )
        if written.end >= self.segment_bytes:
            self._end_segment()
        return written

    def publish(self, written: Written) -> None:
        """Lets frames be read."""
        segment = written.segment
        if not self.segments or self.segments[-1] is not segment:
            self.segments.append(segment)
        segment.end = written.end
        segment.unread += written.events
        segment.end_number = written.end_number
        if segment.next_number < 0:
            segment.next_number = written.first

    def _begin_segment(self) -> None:
        number = max((segment.number for segment in self.segments), default=0) + 1
        if self._active is not None:
            number = max(number, self._active.number + 1)
        path = self.directory / f"segment-{number:012}.spool"
        writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
        try:
            # Without it the file itself could be missing after a power cut.
            sync_directory(self.directory)
        except OSError:
            os.close(writer)
            raise
        self._active, self._writer = Segment(number, path, recovered=False), writer

    def _end_segment(self) -> None:
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None

    # Reading

    def read(self) -> tuple[Segment, Frame] | Lost | None:
        """Reads the next frame that is not acknowledged; `Lost` if there was damage in its place."""
        for segment in self.segments:
            while segment.position < segment.end:
                length = length_of(segment.read(segment.position, HEADER_BYTES))
                inside = length is not None and segment.position + length <= segment.end
                frame = decode(segment.read(segment.position, length)) if length is not None and inside else None
                if frame is None:
                    return self._skip_damage(segment)
                segment.position += frame.size
                if not segment.recovered:
                    segment.next_number = frame.first + frame.events
                if frame.key in segment.acknowledged:
                    continue
                segment.unread -= frame.events
                segment.in_flight += 1
                return segment, frame
        return None

    def _skip_damage(self, segment: Segment) -> Lost:
        data = segment.read(segment.position, segment.end - segment.position)
        found = scan(data)
        if not found.damaged:
            # It can be read now.
            return Lost(0, [])
        self._put_aside(segment.path, data, found.damaged[:1], segment.position)
        segment.position += found.damaged[0][1]
        waiting = [frame for _, frame in found.frames if frame.key not in segment.acknowledged]
        lost = max(0, segment.unread - sum(frame.events for frame in waiting))
        segment.unread -= lost
        if segment.recovered:
            return Lost(lost, [])
        left = {number for frame in waiting for number in range(frame.first, frame.first + frame.events)}
        numbers = [number for number in range(segment.next_number, segment.end_number) if number not in left]
        segment.next_number = waiting[0].first if waiting else segment.end_number
        return Lost(lost, numbers)

    # Ends of frames

    def acknowledge(self, segment: Segment, key: bytes) -> None:
        """Remembers that a frame need not be sent any more.

        It is not synced: if it is lost, the frame is sent again under its key, and counts once.
        """
        segment.in_flight -= 1
        segment.acknowledged.add(key)
        try:
            self._acknowledgments.add(key)
            if self._acknowledgments.is_large:
                self._rewrite_acknowledgments()
        except OSError as error:
            logger.warning("%s: a frame may be sent again, because it was not noted: %s", self.directory, error)

    def _rewrite_acknowledgments(self) -> None:
        self._acknowledgments.rewrite(key for segment in self.segments for key in segment.acknowledged)

    def remove_finished(self, *, with_active: bool) -> None:
        """Removes segments whose frames are all acknowledged.

        `with_active` also removes the one that was written to last; then `append` must not run.
        """
        for segment in list(self.segments):
            if not segment.is_finished:
                continue
            if segment is self._active:
                if not with_active:
                    continue
                self._end_segment()
            segment.close()
            segment.path.unlink(missing_ok=True)
            self.segments.remove(segment)
        if not self.segments:
            self._acknowledgments.remove()

    def close(self) -> None:
        """Closes the files and releases the lock."""
        self.remove_finished(with_active=True)
        self._end_segment()
        for segment in self.segments:
            segment.close()
        self._acknowledgments.close()
        self._lock.release()
