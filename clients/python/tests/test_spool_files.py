"""The files of a spool: what a crash or damage leaves, and what is made of it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from sluice_client import RejectedError, SpoolError, SpoolLockedError
from sluice_client._frames import HEADER_BYTES, Frame, decode, scan
from sluice_client._spool import Lost, Segment, Spool

LARGE = 1 << 30


def frame(number: int, body: bytes | None = None) -> Frame:
    return Frame(number.to_bytes(16, "big"), number, 1, b'{"n":%d}' % number if body is None else body)


def write(spool: Spool, frames: Sequence[Frame]) -> None:
    spool.publish(spool.append(frames))


def read_all(spool: Spool) -> list[tuple[Segment, Frame]]:
    found = []
    while (item := spool.read()) is not None:
        if not isinstance(item, Lost):
            found.append(item)
    return found


def bodies(spool: Spool) -> list[bytes]:
    return [frame.body for _, frame in read_all(spool)]


def segments(directory: Path) -> list[Path]:
    return sorted(directory.glob("segment-*.spool"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The folder of a spool with three frames, as a crash leaves it."""
    spool = Spool(tmp_path / "spool", LARGE)
    write(spool, [frame(1), frame(2)])
    write(spool, [frame(3)])
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "spool", copy)
    spool.close()
    return copy


def test_frames_come_back_in_order_with_their_keys(directory: Path) -> None:
    spool = Spool(directory, LARGE)
    assert spool.unread == 3
    assert [frame for _, frame in read_all(spool)] == [frame(1), frame(2), frame(3)]
    spool.close()


def test_a_torn_tail_is_cut_at_every_length_of_the_last_frame(directory: Path, tmp_path: Path) -> None:
    [original] = segments(directory)
    whole = original.stat().st_size
    begin = whole - frame(3).size
    for length in range(begin, whole):
        copy = tmp_path / f"torn-{length}"
        shutil.copytree(directory, copy)
        [segment] = segments(copy)
        os.truncate(segment, length)
        spool = Spool(copy, LARGE)
        assert bodies(spool) == [frame(1).body, frame(2).body], length
        assert spool.cut_bytes == length - begin
        assert spool.damaged_bytes == 0
        assert segment.stat().st_size == begin
        write(spool, [frame(4)])
        assert bodies(spool) == [frame(4).body]
        spool.close()
        # What was cut is gone for good, and what was written after it is not.
        again = Spool(copy, LARGE)
        assert bodies(again) == [frame(1).body, frame(2).body, frame(4).body]
        assert again.cut_bytes == 0
        again.close()


def test_a_last_frame_with_any_wrong_byte_is_cut(directory: Path, tmp_path: Path) -> None:
    [original] = segments(directory)
    whole = original.stat().st_size
    for offset in range(whole - frame(3).size, whole):
        copy = tmp_path / f"wrong-{offset}"
        shutil.copytree(directory, copy)
        [segment] = segments(copy)
        change(segment, offset)
        spool = Spool(copy, LARGE)
        assert bodies(spool) == [frame(1).body, frame(2).body], offset
        assert spool.cut_bytes == frame(3).size
        spool.close()


def test_zeros_at_the_end_are_cut(directory: Path) -> None:
    [segment] = segments(directory)
    with segment.open("ab") as file:
        file.write(bytes(10_000))
    spool = Spool(directory, LARGE)
    assert len(bodies(spool)) == 3
    assert spool.cut_bytes == 10_000
    spool.close()


def test_damage_in_the_middle_is_put_aside_and_reported_and_the_rest_is_kept(
    directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "sluice_client")
    [original] = segments(directory)
    first = frame(1).size
    for offset in range(first, first + frame(2).size):
        copy = tmp_path / f"damaged-{offset}"
        shutil.copytree(directory, copy)
        [segment] = segments(copy)
        change(segment, offset)
        data = segment.read_bytes()
        caplog.clear()
        spool = Spool(copy, LARGE)
        assert bodies(spool) == [frame(1).body, frame(3).body], offset
        assert spool.damaged_bytes == frame(2).size
        assert spool.cut_bytes == 0
        [aside] = (copy / "damaged").iterdir()
        assert aside.read_bytes() == data[first : first + frame(2).size]
        assert str(aside) in caplog.text
        spool.close()
        again = Spool(copy, LARGE)
        assert bodies(again) == [frame(1).body, frame(3).body]
        assert again.damaged_bytes == 0
        again.close()
    assert original.exists()


def test_an_incomplete_frame_in_a_segment_that_is_not_the_last_is_damage(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 16)  # a segment for each write
    write(spool, [frame(1)])
    write(spool, [frame(2)])
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "spool", copy)
    spool.close()
    first, second = segments(copy)
    os.truncate(first, first.stat().st_size - 1)
    spool = Spool(copy, LARGE)
    assert bodies(spool) == [frame(2).body]
    assert (spool.damaged_bytes, spool.cut_bytes) == (frame(1).size - 1, 0)
    assert second.exists()
    spool.close()


def test_damage_that_comes_while_the_spool_is_open_is_put_aside_too(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", LARGE)
    write(spool, [frame(1), frame(2), frame(3)])
    [segment] = segments(tmp_path / "spool")
    change(segment, frame(1).size + HEADER_BYTES)
    first = spool.read()
    assert isinstance(first, tuple)
    assert spool.read() == Lost(1, [2])
    assert bodies(spool) == [frame(3).body]
    assert spool.damaged_bytes == frame(2).size
    assert spool.unread == 0
    spool.close()


def test_a_frame_is_read_only_with_all_of_its_bytes_right() -> None:
    data = frame(7).encode()
    assert decode(data) == frame(7)
    for offset in range(len(data)):
        wrong = bytearray(data)
        wrong[offset] ^= 1
        assert decode(bytes(wrong)) is None, offset
        assert decode(data[:offset]) is None


def test_a_frame_within_the_body_of_another_is_not_taken_for_one() -> None:
    outer = frame(1, body=b"x" + frame(2).encode() + b"y")
    found = scan(outer.encode() + frame(3).encode())
    assert [frame for _, frame in found.frames] == [outer, frame(3)]


def test_acknowledged_frames_do_not_come_back(directory: Path) -> None:
    spool = Spool(directory, LARGE)
    found = read_all(spool)
    for number in (0, 2):
        spool.acknowledge(found[number][0], found[number][1].key)
    copy = directory.with_name("after")
    shutil.copytree(directory, copy)
    spool.close()
    again = Spool(copy, LARGE)
    assert again.unread == 1
    assert bodies(again) == [frame(2).body]
    again.close()


def test_a_damaged_or_lost_acknowledgment_means_only_that_its_frame_comes_back(directory: Path) -> None:
    spool = Spool(directory, LARGE)
    for segment, found in read_all(spool)[:2]:
        spool.acknowledge(segment, found.key)
    copy = directory.with_name("after")
    shutil.copytree(directory, copy)
    spool.close()
    for length, waiting in ((20, [2, 3]), (39, [2, 3]), (0, [1, 2, 3])):
        other = directory.with_name(f"after-{length}")
        shutil.copytree(copy, other)
        os.truncate(other / "acknowledged", length)
        again = Spool(other, LARGE)
        assert bodies(again) == [frame(number).body for number in waiting]
        again.close()
    change(copy / "acknowledged", 5)
    again = Spool(copy, LARGE)
    assert bodies(again) == [frame(1).body, frame(3).body]
    again.close()


def test_an_acknowledgment_does_not_stand_for_a_frame_of_a_later_segment_with_the_same_name(directory: Path) -> None:
    spool = Spool(directory, LARGE)
    for segment, found in read_all(spool):
        spool.acknowledge(segment, found.key)
    acknowledged = (directory / "acknowledged").read_bytes()
    spool.close()
    assert segments(directory) == []
    spool = Spool(directory, LARGE)
    write(spool, [frame(4)])
    copy = directory.with_name("after")
    shutil.copytree(directory, copy)
    (copy / "acknowledged").write_bytes(acknowledged)
    spool.close()
    again = Spool(copy, LARGE)
    assert bodies(again) == [frame(4).body]
    again.close()


def test_a_segment_is_removed_when_all_its_frames_are_acknowledged(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 16)  # a segment for each write
    for number in range(1, 5):
        write(spool, [frame(number)])
    found = read_all(spool)
    for segment, one in (found[2], found[0]):
        spool.acknowledge(segment, one.key)
        spool.remove_finished(with_active=False)
    assert [segment.number for segment in spool.segments] == [2, 4]
    assert [int(path.stem[-3:]) for path in segments(tmp_path / "spool")] == [2, 4]
    assert spool.size == frame(2).size + frame(4).size
    spool.close()


def test_a_spool_that_is_in_use_is_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", LARGE)
    with pytest.raises(SpoolLockedError, match="another client of this process"):
        Spool(tmp_path / "spool", LARGE)
    child = os.fork()
    if child == 0:
        try:
            Spool(tmp_path / "spool", LARGE)
        except SpoolLockedError as error:
            os._exit(0 if "another process" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    spool.close()
    Spool(tmp_path / "spool", LARGE).close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match=f"spool_directory: {tmp_path}/file cannot be used"):
        Spool(tmp_path / "file", LARGE)


def test_a_write_that_fails_leaves_nothing_behind_that_harms_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "spool", LARGE)
    write(spool, [frame(1)])

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(OSError, match="No space"):
            spool.append([frame(2)])
    write(spool, [frame(3)])
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "spool", copy)
    assert bodies(spool) == [frame(1).body, frame(3).body]
    spool.close()
    again = Spool(copy, LARGE)
    assert bodies(again) == [frame(1).body, frame(3).body]
    assert (again.cut_bytes, again.damaged_bytes) == (0, 0)
    again.close()


def test_a_line_of_the_dead_letters_whose_writing_was_interrupted_is_removed(directory: Path) -> None:
    reason = RejectedError(422, "invalid_event", "is wrong", index=0, field="payload")
    spool = Spool(directory, LARGE)
    spool.dead_letters.add("k", [(b'{"event_id":"1"}', reason), (b'{"event_id":"2"}', reason)])
    spool.close()
    file = directory / "dead-letters.jsonl"
    whole = file.read_bytes()
    os.truncate(file, len(whole) - 5)
    spool = Spool(directory, LARGE)
    spool.dead_letters.add("k", [(b'{"event_id":"3"}', reason)])
    assert spool.dead_letters.size == file.stat().st_size
    spool.close()
    lines = file.read_text().splitlines()
    assert ['"event_id":"1"' in lines[0], '"event_id":"3"' in lines[1], len(lines)] == [True, True, 2]


def change(path: Path, offset: int) -> None:
    """Changes one byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x20]))
