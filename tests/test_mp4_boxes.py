"""Claims of an MP4's index, on files of a few boxes."""

from __future__ import annotations

import struct

import pytest

from slr_lib.errors import InputError
from slr_lib.mp4_boxes import check_boxes


def box(kind: bytes, *content: bytes, wide: bool = False) -> bytes:
    data = b"".join(content)
    head = struct.pack(">I4sQ", 1, kind, len(data) + 16) if wide else struct.pack(">I4s", len(data) + 8, kind)
    return head + data


def track(kind: bytes, count: int, wide: bool = False) -> bytes:
    handler = box(b"hdlr", struct.pack(">4x4x4s", kind))
    table = box(b"minf", box(b"stbl", box(b"stsz", struct.pack(">4xII", 1, count)), wide=wide))
    return box(b"trak", box(b"mdia", handler, table))


def check(tmp_path, *boxes: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"".join(boxes))
    check_boxes(path, 1000)


@pytest.mark.parametrize("wide", [False, True])
def test_a_picture_track_of_too_many_frames_is_refused(tmp_path, wide):
    head = box(b"ftyp", b"isom")
    check(tmp_path, head, box(b"moov", track(b"vide", 1000, wide)))
    with pytest.raises(InputError, match=r"clip\.mp4.*promises 1001 frames"):
        check(tmp_path, head, box(b"moov", track(b"soun", 10**9), track(b"vide", 1001, wide)))
    check(tmp_path, head, box(b"moov", track(b"soun", 10**9), track(b"vide", 3)))  # bare sound has many samples


def test_fragments_hold_no_more_frames_than_bytes(tmp_path):
    def fragment(count: int) -> bytes:
        return box(b"moof", box(b"traf", box(b"trun", struct.pack(">II", 1, count))))

    head = box(b"ftyp", b"isom")
    check(tmp_path, head, fragment(30), fragment(30))
    with pytest.raises(InputError, match="promises 80 frames in a file of 76 bytes"):
        check(tmp_path, head, fragment(40), fragment(40))


@pytest.mark.parametrize("data", [
    b"", b"abc", b"RIFF1234AVI ", b"\0\0\0\x08moov", b"\0\0\0\x03moov", b"\xff\xff\xff\xffmoov", b"\0\0\0\x01moov\0\0",
    b"\0\0\0\0moov\0\0\0\x10stsz\0\0"])
def test_other_and_cut_files_pass(tmp_path, data):
    check(tmp_path, data)
