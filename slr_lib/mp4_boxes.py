"""What the boxes of an MP4 or MOV claim, checked before FFmpeg believes it and makes room for as many frames."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from slr_lib.errors import InputError

# A first box of one of these kinds makes a file an MP4 (ISO/IEC 14496-12) or a QuickTime file
KINDS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof")
_NESTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf")
_HEAD = 16


def check_boxes(path: Path, most_frames: int) -> None:
    """Refuse an MP4 whose index claims frames that it cannot have: FFmpeg makes room for all of them when it opens it.

    Two tables cost no bytes a frame, `stsz` where all frames are of one size and `trun` in a fragment, so a few damaged
    bytes can claim millions. Other files pass, and so does one that breaks off. Raises InputError, OSError where the
    file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(8)[4:] not in KINDS:
            return
        track, in_fragments = b"", 0
        for kind, head in _boxes(file, 0, size):
            claimed = 0
            if kind == b"hdlr":
                track = head[8:12]
            elif kind == b"stsz" and track == b"vide":
                claimed = struct.unpack(">I", head[8:12])[0]
            elif kind == b"trun":
                in_fragments += struct.unpack(">I", head[4:8])[0]
            if claimed > most_frames:
                raise InputError(f"{path}: its header promises {claimed} frames, more than the {most_frames} of a "
                                 "clip; its header is damaged, or cut it into clips of one sign")
            if in_fragments > size:
                raise InputError(f"{path}: its header promises {in_fragments} frames in a file of {size} bytes; "
                                 "its header is damaged, copy or download it again")


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Kind and first bytes of the content, padded with zeros to 16, of each box between two places, nested ones too."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        content = start + 8
        if size == 1:
            size, content = int.from_bytes(file.read(8)), start + 16
        if size == 0:
            size = end - start
        stop = min(start + size, end)
        if stop < content:
            return
        if kind in _NESTS:
            yield from _boxes(file, content, stop)
        else:
            yield kind, file.read(min(_HEAD, stop - content)).ljust(_HEAD, b"\0")
        start = stop
