"""Files that are no clips any more, or never were: cut off, with flipped bytes, or with headers that claim too much."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from made_clips import FORMATS, draw_pattern, encode

FRAMES, SIZE = 24, (160, 120)
PLACES = 40  # at which each source is cut off
FLIPPED, FLIPS = 20, 8  # copies with flipped bytes, and bytes flipped in each
SOURCES = ("h264.mp4", "index_first.mp4", "fragments.mp4", "hevc.mp4", "mjpeg.avi", "mpeg4.avi", "h264.mkv", "vp8.webm",
           "clip.gif", "h264.ts")
# No format here has a checksum over its pictures: a fault shows where its bytes make no sense. Most do in H.264, MJPEG
# and MPEG-4; in these others nearly any bytes mean something, or lost ones leave no gap
UNCHECKED = ("hevc.mp4", "vp8.webm", "clip.gif", "h264.ts")
MOST_UNNOTICED = 3  # of FLIPPED copies, in formats other than these
ABSURD = 10**9


@dataclass(frozen=True)
class Broken:
    """One broken file to make: `write` gets the folder of the sources and returns the file's bytes."""

    name: str
    file: str
    write: Callable[[Path], bytes]


def write_sources(folder: Path) -> None:
    """Clips to break: the pattern under a texture that moves, so that every frame takes bytes."""
    encodings = {case.file: case.encoding for case in FORMATS}
    for name in SOURCES:
        encode(folder / name, _textured(), encodings[name], range(0, 40 * FRAMES, 40))


def cut_off(folder: Path, source: str) -> Iterator[Path]:
    """The source cut off at PLACES places, evenly from one byte to one byte short; in growing order."""
    data = (folder / source).read_bytes()
    for place in np.linspace(1, len(data) - 1, PLACES).astype(int):
        yield _written(folder, f"cut_{place:06d}_{source}", data[:place])


def flipped(folder: Path, source: str) -> Iterator[Path]:
    """Copies of the source with FLIPS bytes changed in its middle third."""
    data = (folder / source).read_bytes()
    for seed in range(FLIPPED):
        rng, changed = np.random.default_rng(seed), bytearray(data)
        for place in rng.integers(len(data) // 3, 2 * len(data) // 3, FLIPS):
            changed[place] ^= int(rng.integers(1, 256))
        yield _written(folder, f"flip_{seed:02d}_{source}", changed)


def write_broken(folder: Path, case: Broken) -> Path:
    """Write one of BROKEN; returns its path."""
    return _written(folder, case.file, case.write(folder))


def _textured() -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    width, height = SIZE
    rows, columns = np.mgrid[:height, :width]
    for number in range(FRAMES):
        texture = 20 * np.sin((columns + rows / 2 + 3 * number) / 4) + rng.normal(0, 6, (height, width))
        yield np.clip(draw_pattern(number, width, height) + texture[..., None], 0, 255).astype(np.uint8)


def _written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _patched(data: bytes, after: bytes, skip: int, numbers: str, *values: int, every: bool = False) -> bytes:
    """A copy with other numbers, `skip` bytes behind a mark; behind each one if `every`."""
    changed, place = bytearray(data), data.index(after)
    while place >= 0:
        struct.pack_into(numbers, changed, place + len(after) + skip, *values)
        place = data.find(after, place + 1) if every else -1
    return bytes(changed)


def _many_frames(data: bytes, count: int) -> bytes:
    """An MP4 whose tables agree on `count` frames of one byte, all in one chunk."""
    for box, skip, numbers in ((b"stsz", 4, (1, count)), (b"stts", 8, (count,)), (b"stsc", 12, (count,))):
        data = _patched(data, box, skip, f">{len(numbers)}I", *numbers)
    return data


def _fragment_of_many(data: bytes, count: int) -> bytes:
    """A fragmented MP4 whose first fragment claims `count` frames and gives no table of their sizes."""
    return _patched(data, b"trun", 0, ">II", 1, count)


def _h264(width: int, height: int) -> bytes:
    """A bare H.264 stream: headers of a picture of this size, and slices that hold a few of its macroblocks."""
    def nal(kind: int, *fields: tuple[int, int] | int) -> bytes:
        """fields: (value, bits), or a number as exp-Golomb code."""
        bits = "".join(format(field[0], f"0{field[1]}b") if isinstance(field, tuple) else
                       format(field + 1, f"0{2 * (field + 1).bit_length() - 1}b") for field in fields) + "1"
        bits += "0" * (-len(bits) % 8)
        return b"\0\0\0\1" + bytes([kind]) + int(bits, 2).to_bytes(len(bits) // 8)

    sps = nal(0x67, (66, 8), (0, 8), (52, 8), 0, 0, 2, 1, (0, 1), width // 16 - 1, height // 16 - 1, (0b11000, 5))
    pps = nal(0x68, 0, 0, (0, 2), 0, 0, 0, (0, 3), 0, 0, 0, (0b100, 3))
    slices = (nal(0x65, 0, 7, 0, (0, 4), number % 2, (0, 2), 0, 1, *[3, 0, 0, (1, 1)] * 200) for number in range(6))
    return sps + pps + b"".join(slices)


def _gif(side: int) -> bytes:
    return (b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0\0\0\0\xff\xff\xff,"
            + struct.pack("<HHHH", 0, 0, side, side) + b"\0\2\2\x44\1\0;")


def _zeros_behind(data: bytes) -> bytes:
    return data[:len(data) // 2] + bytes(len(data) - len(data) // 2)


def _source(name: str, change: Callable[..., bytes], *values) -> Callable[[Path], bytes]:
    return lambda folder: change((folder / name).read_bytes(), *values)


BROKEN = (
    Broken("zero bytes", "empty.mp4", lambda _: b""),
    Broken("text named .mp4", "text.mp4", lambda _: "жест «привет»\n".encode()),
    Broken("100 kB of random bytes", "random.mp4", lambda _: np.random.default_rng(0).bytes(100_000)),
    Broken("1 MB of zeros", "zeros.mp4", lambda _: bytes(1_000_000)),
    Broken("MP4, index in front, second half never arrived", "half.mp4", _source("index_first.mp4", _zeros_behind)),
    Broken("MP4 claims 10^9 frames", "many.mp4", _source("h264.mp4", _many_frames, ABSURD)),
    Broken("MP4 claims 8 x 10^7 frames", "fewer.mp4", _source("h264.mp4", _many_frames, 8 * 10**7)),
    Broken("MP4 fragment claims 10^9 frames", "fragment.mp4", _source("fragments.mp4", _fragment_of_many, ABSURD)),
    Broken("MP4 fragment claims 5 x 10^7 frames", "fragment_fewer.mp4",
           _source("fragments.mp4", _fragment_of_many, 5 * 10**7)),
    Broken("AVI claims 10^9 frames", "many.avi", _source(
        "mjpeg.avi", lambda data: _patched(_patched(data, b"avih", 20, "<I", ABSURD), b"strh", 36, "<I", ABSURD))),
    Broken("AVI, MJPEG of 30000x30000 pixels", "huge.avi", _source(
        "mjpeg.avi", lambda data: _patched(data, b"\xff\xc0\x00\x11", 1, ">HH", 30000, 30000, every=True))),
    Broken("WebM, VP8 of 16383x16383 pixels", "huge.webm", _source(
        "vp8.webm", lambda data: _patched(data, b"\x9d\x01\x2a", 0, "<HH", 16383, 16383, every=True))),
    Broken("GIF of 30000x30000 pixels", "huge.gif", lambda _: _gif(30000)),
    Broken("H.264 of 30000x30000 pixels", "huge.h264", lambda _: _h264(30000, 30000)),
    Broken("H.264 of 16000x16000 pixels", "large.h264", lambda _: _h264(16000, 16000)),
    Broken("H.264 of 8192x4320 pixels, each frame cut off", "slices.h264", lambda _: _h264(8192, 4320)),
)
