"""Clips whose truth is known, in every format that people record in: each picture shows its number and four colours."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

COLOURS = np.uint8([[230, 20, 30], [20, 170, 40], [30, 40, 210], [220, 210, 40]])  # top left, top right, bottom ...
FRAMES = 24
_BITS = 16
_FAST_VPX = {"deadline": "realtime", "cpu-used": "8"}
_UNEVEN = (0, 40, 90, 300, 310, 700, *range(800, 800 + 33 * 18, 33))  # milliseconds
# of an MP4's track header: (a, b, c, d) of its matrix, which shows a stored (x, y) at (x a + y c, x b + y d)
TURNS = {"90": (0, 1, -1, 0), "180": (-1, 0, 0, -1), "270": (0, -1, 1, 0), "mirrored": (-1, 0, 0, 1)}


@dataclass(frozen=True)
class Encoding:
    """How pictures become a file: PyAV's names, options of codec and container, what the pictures are tagged with."""

    codec: str = "libx264"
    pixels: str = "yuv420p"
    container: str | None = None
    codec_options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    colour: dict[str, str] = field(default_factory=dict)
    b_frames: int = 0


@dataclass(frozen=True)
class Format:
    """A clip to make and its truth: times in seconds of the pictures shown, size (width, height) as shown, the number
    of pictures before time 0, which the file holds and does not show, and whether the pictures are greys."""

    name: str
    file: str
    encoding: Encoding = Encoding()
    milliseconds: tuple[int, ...] = tuple(range(0, 40 * FRAMES, 40))
    size: tuple[int, int] = (160, 120)
    turn: str = ""
    hidden: int = 0
    grey: bool = False

    @property
    def times(self) -> np.ndarray:
        """Seconds since the first picture shown."""
        shown = np.array(self.milliseconds[self.hidden:])
        return (shown - shown[0]) / 1000

    def write(self, folder: Path) -> Path:
        """Write the clip into a folder; returns its path."""
        path = folder / self.file
        pictures = (_stored(draw_pattern(number, *self.size), self.turn) for number in range(len(self.milliseconds)))
        encode(path, pictures, self.encoding, self.milliseconds)
        if self.turn:
            path.write_bytes(turned(path.read_bytes(), self.turn))
        return path


def draw_pattern(number: int, width: int, height: int) -> np.ndarray:
    """uint8 [height, width, 3]: a colour a quarter; across the middle the number as 16 cells, the lowest bit first."""
    quarters = COLOURS.reshape(2, 2, 3).repeat((height + 1) // 2, 0).repeat((width + 1) // 2, 1)
    picture = quarters[:height, :width].copy()
    for bit, cell in enumerate(_cells(height, width)):
        picture[cell] = 235 if number >> bit & 1 else 16
    return picture


def read_number(picture: np.ndarray) -> int:
    """The number that `draw_pattern` wrote, after whatever a codec did to the picture."""
    inner = (slice(2, -2), slice(2, -2))
    return sum((picture[cell][inner].mean() > 128) << bit for bit, cell in enumerate(_cells(*picture.shape[:2])))


def colour_error(picture: np.ndarray, grey: bool = False) -> float:
    """How far the four colours are off, at worst, in steps of 0-255: shows a wrong turn, matrix or range at once."""
    height, width = picture.shape[:2]
    wanted = COLOURS.astype(float)
    if grey:
        wanted = (wanted @ [0.299, 0.587, 0.114])[:, None]
    rows, columns = ([slice(size // 10, size // 4), slice(size - size // 4, size - size // 10)]
                     for size in (height, width))
    found = np.array([picture[row, column].mean((0, 1)) for row in rows for column in columns])
    return float(np.abs(found - wanted).max())


def encode(path: Path, pictures: Iterable[np.ndarray], encoding: Encoding, milliseconds: Iterable[int]) -> None:
    """Write uint8 RGB pictures [H, W, 3], shown at these times. Even times of 40 ms give 25 frames a second."""
    milliseconds = list(milliseconds)
    even = set(np.diff(milliseconds)) <= {40}
    base = Fraction(1, 25) if even else Fraction(1, 1000)
    with av.open(str(path), "w", format=encoding.container, options=encoding.container_options) as container:
        steady = {"x264-params": "cpu-independent=1"} if encoding.codec == "libx264" else {}  # the same bytes each time
        stream = container.add_stream(encoding.codec, rate=25, options=steady | encoding.codec_options)
        context = stream.codec_context
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt, context.thread_count, context.time_base = encoding.pixels, 1, base
                if encoding.b_frames:
                    context.max_b_frames = encoding.b_frames
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if encoding.colour:
                frame = frame.reformat(format=encoding.pixels, **encoding.colour)
                context.colorspace, context.color_range = frame.colorspace, frame.color_range
            frame.pts, frame.time_base = milliseconds[number] // 40 if even else milliseconds[number], base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def turned(mp4: bytes, turn: str) -> bytes:
    """The same MP4 or MOV with another matrix in the header of its only track."""
    a, b, c, d = (number << 16 for number in TURNS[turn])
    place = mp4.index(b"tkhd") + 4 + 40
    return mp4[:place] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + mp4[place + 36:]


def _stored(shown: np.ndarray, turn: str) -> np.ndarray:
    """The picture as a file holds it that shows it by a matrix of TURNS."""
    if turn == "mirrored":
        return shown[:, ::-1]
    return np.rot90(shown, int(turn or 0) // 90)  # the matrix turns clockwise, NumPy against it


def _cells(height: int, width: int) -> list[tuple[slice, slice]]:
    high, wide = height // 8, width // 8
    return [(slice(height // 2 + (bit // 8 - 1) * high, height // 2 + bit // 8 * high),
             slice(bit % 8 * wide, (bit % 8 + 1) * wide)) for bit in range(_BITS)]


def _vpx(codec: str) -> Encoding:
    return Encoding(codec, container="webm", codec_options={**_FAST_VPX, "b": "2M"}, container_options={"live": "1"})


_X265 = Encoding("libx265", codec_options={"x265-params": "log-level=none:pools=none:frame-threads=1", "tag": "hvc1"})
_B_FRAMES = {"bf": "3", "g": "12"}
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
_GIF = Encoding("gif", "rgb8")
_JITTER = tuple(40 * i + (3, 0, 17, 9)[i % 4] for i in range(FRAMES))

FORMATS = (
    Format("MP4, H.264", "h264.mp4"),
    Format("MP4, H.264, B-frames", "b_frames.mp4", Encoding(codec_options=_B_FRAMES)),
    Format("MP4, H.264, index in front", "index_first.mp4", Encoding(container_options={"movflags": "faststart"})),
    Format("MP4, H.264, fragments, no count", "fragments.mp4",
           Encoding(codec_options={"g": "8"}, container_options=_FRAGMENTS)),
    Format("MP4, H.264, 10 bits", "ten_bits.mp4", Encoding(pixels="yuv420p10le")),
    Format("MP4, H.264, BT.709", "bt709.mp4", Encoding(colour={"dst_colorspace": "ITU709"})),
    Format("MP4, H.264, BT.709, full range", "full_range.mp4",
           Encoding(colour={"dst_colorspace": "ITU709", "dst_color_range": "JPEG"})),
    Format("MP4, H.264, greys", "grey.mp4", Encoding(pixels="gray", colour={"dst_color_range": "JPEG"}), grey=True),
    Format("MP4, H.264, variable frame rate", "uneven.mp4", milliseconds=_UNEVEN),
    Format("MP4, H.264, edit list hides 5 frames", "edit_list.mp4",
           Encoding(container_options={"avoid_negative_ts": "disabled"}), tuple(range(-200, 40 * FRAMES - 200, 40)),
           hidden=5),
    Format("MP4, H.264, starts at 2 s", "late.mp4", milliseconds=tuple(range(2000, 2000 + 40 * FRAMES, 40))),
    Format("MP4, H.264, one frame", "one.mp4", milliseconds=(0,)),
    Format("MP4, H.264, ten minutes", "ten_minutes.mp4", Encoding(codec_options={"preset": "ultrafast"}),
           tuple(range(0, 600_000, 100)), (64, 48)),
    Format("MP4, HEVC", "hevc.mp4", _X265),
    Format("MP4, AV1", "av1.mp4", Encoding("libsvtav1", codec_options={"preset": "12"})),
    Format("MP4, MPEG-4, 321x239", "odd.mp4", Encoding("mpeg4"), size=(321, 239)),
    Format("AVI, MJPEG", "mjpeg.avi", Encoding("mjpeg", "yuvj420p")),
    Format("AVI, MJPEG, 321x239", "odd.avi", Encoding("mjpeg", "yuvj420p"), size=(321, 239)),
    Format("AVI, MPEG-4", "mpeg4.avi", Encoding("mpeg4")),
    Format("AVI, MPEG-4, B-frames", "mpeg4_b.avi", Encoding("mpeg4", b_frames=2)),
    *(Format(f"MOV, H.264, {turn}{'' if turn == 'mirrored' else ' degrees'}", f"turned_{turn}.mov", size=(120, 160),
             turn=turn) for turn in TURNS),
    Format("MOV, ProRes", "prores.mov", Encoding("prores_ks", "yuv422p10le")),
    Format("MKV, H.264", "h264.mkv", Encoding(codec_options=_B_FRAMES)),
    Format("MKV, H.264, variable frame rate", "uneven.mkv", milliseconds=_UNEVEN),
    Format("MKV, H.264, 321x239", "odd.mkv", Encoding(pixels="yuv444p"), size=(321, 239)),
    Format("WebM, VP8, no duration", "vp8.webm", _vpx("libvpx"), _JITTER),
    Format("WebM, VP9, no duration", "vp9.webm", _vpx("libvpx-vp9"), _JITTER),
    Format("WebM, VP8, 321x239", "odd.webm", _vpx("libvpx"), size=(321, 239)),
    Format("GIF", "clip.gif", _GIF),
    Format("GIF, variable frame rate", "uneven.gif", _GIF, tuple(round(time, -1) for time in _UNEVEN)),
    Format("GIF, one frame", "one.gif", _GIF, (0,)),
    Format("MPEG-TS, H.264", "h264.ts", Encoding(container="mpegts")),
)
