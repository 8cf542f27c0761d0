"""A video file <-> RGB frames with times, by PyAV (FFmpeg); the only module that imports av.

Everything that extraction asks of a decoder is decided here: times come from presentation timestamps, rotation tags
are obeyed, a file that breaks off gives its frames up to the last good one and says so, and an unreadable or absurd
one is an `InputError` that names the file and the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from slr_lib.errors import InputError
from slr_lib.mp4_boxes import KINDS, check_boxes

# FFmpeg also opens playlists, text art and image patterns, some of which fetch other files: only these are videos
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,m4v"
MAX_PIXELS = 8192 * 4320  # 8K: a decoder may hold 16 pictures, and these must fit into 2 GB
MAX_FRAMES = 100_000  # nearly an hour at 30 frames/s: no clip of one sign, and 650 MB of landmarks
# In these codecs a packet is a frame; in the others some packets show nothing, so only decoding counts them
PACKET_IS_FRAME = {"h264", "hevc", "mpeg4", "mjpeg", "gif"}
FALLBACK_FPS = 30
# for the decoders: a codec's own header may claim more than the container's
_LIMITS = {"max_pixels": str(MAX_PIXELS)}
# cpu-independent: x264's vector code for the bit rate (mbtree) reads beyond its arrays, so that small or unaligned
# pictures come out differently from one run to the next
_ENCODING = {"preset": "veryfast", "crf": "20", "threads": "1", "x264-params": "cpu-independent=1"}


@dataclass(frozen=True)
class Damage:
    """What is wrong with a file that breaks off; `promised` is the header's count of frames, None where it has none."""

    text: str
    decoded: int
    promised: int | None


class Video:
    """An open video: iterate once over (time, picture); use it as a context manager or call `close`.

    time: float seconds since the first picture given, never falling; picture: uint8 [height, width, 3], RGB, C-order.
    `width`, `height` are those of the pictures, so after rotation; `aspect` is width over height as meant to be seen,
    for pixels need not be square. `promised_frames` is what the header claims to show, `fps` its average rate (each
    None where it claims nothing). `decoded` (frames decoded so far), `damage` (a Damage, or None) and `trimmed` are
    settled once the iteration has ended; `trimmed` tells whether begin/end cut anything.
    """

    def __init__(self, path: str | os.PathLike, begin: int | None = None, end: int | None = None):
        self.path = Path(path)
        self.decoded = 0
        self.damage: Damage | None = None
        self.trimmed = False
        self._begin, self._stop, self._least, self._most = 0, None, 0, None
        if end is not None:
            self._plan_trimming(int(begin or 0), int(end))
        self._passed_over: str | None = None  # the fault for which a strict decoder gives no frame at all
        self._begin_decoding()
        if self._first is None and self._error:  # it may be a harmless one, in the messages beside the pictures
            self._passed_over = self._error
            self._begin_decoding(strict=False)
        try:
            if self._first is None:
                raise InputError(f"{self.path}: no frame decodes ({self._error or 'the video track is empty'}); "
                                 "copy or record the clip again")
            self._size = (self._first.width, self._first.height)
            self._sideways, self._flips = _orientation(self._first)
            ratio = float(self._stream.sample_aspect_ratio or 1)  # a pixel's width over its height, as stored
            self.aspect = self.width / self.height * (1 / ratio if self._sideways else ratio)
        except BaseException:
            self.close()
            raise

    @property
    def width(self) -> int:
        """Pixels across a picture, after rotation."""
        return self._size[self._sideways]

    @property
    def height(self) -> int:
        """Pixels down a picture, after rotation."""
        return self._size[1 - self._sideways]

    @property
    def promised_frames(self) -> int | None:
        """Frames that the header says would be shown; None where it does not say (browser recordings, Matroska)."""
        return None if self._promise is None else self._promise - self._hidden

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        first, self._first = self._first, None
        if first is None:
            raise RuntimeError("a Video can be read once: open it again")
        step = 1.0 / (self.fps or FALLBACK_FPS)
        start, now, time, frame, place = None, -step, 0.0, first, 0
        while frame is not None:
            now = now + step if frame.time is None else frame.time
            if place >= self._begin and (self._stop is None or place < self._stop):
                start = now if start is None else start
                time = max(time, now - start)
                yield time, self._picture(frame)
            place += 1
            if self._stop is not None and place >= max(self._stop, self._least):
                break
            frame = next(self._frames, None)
        else:
            self._settle()
        self.close()
        if self.decoded < self._least or (self._most is not None and self.decoded > self._most):
            why = f" ({self.damage.text})" if self.damage else ""
            raise InputError(f"{self.path}: {self.decoded} frames decode{why}, which fits neither a clip still to be "
                             "cut by its begin and end nor one cut already; correct its row or replace the file")

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_error) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; harmless when done twice."""
        self._container.close()

    def _plan_trimming(self, begin: int, end: int) -> None:
        """Decide from the count of frames whether [begin, end) is still to be cut; iteration then verifies the count.

        Slovo's begin and end count frames of the untrimmed originals, and most copies hold trimmed clips. So: cut where
        the file has more than end - begin + 1 frames and at least `end`; keep all where it has end - begin, one more or
        less; anything else contradicts the table.
        """
        length = end - begin
        if begin < 0 or length < 1:
            raise InputError(f"{self.path}: begin {begin} and end {end} hold no frame; correct the clip's row")
        count = count_frames(self.path)
        if abs(count - length) <= 1:
            self._least, self._most = max(1, length - 1), length + 1
        elif count > length and end <= count:
            self._begin, self._stop, self._least, self.trimmed = begin, end, max(end, length + 2), True
        else:
            raise InputError(f"{self.path}: {count} frames fit neither begin {begin} and end {end} of an untrimmed "
                             f"clip nor the {length} frames of a trimmed one; correct its row or replace the file")

    def _begin_decoding(self, strict: bool = True) -> None:
        """Open the file and decode its first frame, None where none decodes.

        strict: a decoder that meets nonsense says so, and does not paint over it with what surrounds it.
        """
        self._container = _open(self.path)
        try:
            self._stream = _picture_stream(self._container, self.path, strict)
            self.fps = _rate(self._stream)
            self._unfinished = self._stream.codec_context.name == "gif" and not _has_end_mark(self.path)
            self._promise = self._stream.frames or None
            self._read = self._hidden = self._lost = 0  # packets: read, not to be shown, bad before the first frame
            self._error: str | None = None
            self._failed = False
            self._frames = self._decode()
            self._first = next(self._frames, None)
        except BaseException:
            self.close()
            raise
        if self._first is None:
            self.close()

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Frames up to the first error. Errors before the first frame are passed over: a recording may begin midway."""
        packets = self._container.demux(self._stream)
        if self._unfinished:
            packets = _all_but_last(packets)
        while not self._failed:
            frames = []
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                self._read += packet.size > 0
                self._hidden += packet.is_discard
                if packet.is_corrupt:  # the rest of a cut frame: those that wait in the decoder are whole
                    self._error, self._failed = "it is cut off within a frame", True
                    frames = self._stream.codec_context.decode(None)
                elif self._lost and not self.decoded and packet.size and not packet.is_keyframe:
                    self._lost += 1  # it would be painted onto a picture that is lost
                else:
                    frames = packet.decode()
            except av.FFmpegError as error:
                self._fail(_reason(error))
            for frame in frames:
                if frame.is_corrupt:
                    self._fail("a part of the picture does not decode")
                    if self._failed:
                        return
                    continue
                self.decoded += 1
                if self.decoded > MAX_FRAMES:
                    raise InputError(f"{self.path}: more than {MAX_FRAMES} frames; cut it into clips of one sign")
                yield frame

    def _fail(self, why: str) -> None:
        self._error, self._failed = why, self.decoded > 0
        self._lost += not self._failed

    def _settle(self) -> None:
        """Say what is wrong, once the file has been read to where it ends or breaks off."""
        text = None
        if self._failed:
            text = f"breaks off after frame {self.decoded}: {self._error}"
        elif self._unfinished:
            text = f"breaks off after frame {self.decoded}: it ends without a GIF's end mark"
        elif self._promise is not None and self._read < self._promise:
            text = f"breaks off after frame {self.decoded}: it ends before the last frame that its header promises"
        elif self._lost:
            text = f"{self._lost} packets before the first good frame do not decode: {self._error}"
        elif self._passed_over:
            text = f"its frames hold errors that were passed over: {self._passed_over}"
        if text is not None:
            self.damage = Damage(text, self.decoded, self.promised_frames)

    def _picture(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 [height, width, 3]. A recording may change its size midway: later pictures take the first one's."""
        width, height = self._size
        try:
            rgb = frame.to_ndarray(format="rgb24", width=width, height=height)
        except (av.FFmpegError, ValueError) as error:
            raise InputError(f"{self.path}: pictures of format {frame.format.name} cannot be turned into RGB "
                             f"({_reason(error)}); convert the clip to H.264") from None
        return np.ascontiguousarray((rgb.swapaxes(0, 1) if self._sideways else rgb)[self._flips])


def read_video(path: str | os.PathLike, begin: int | None = None, end: int | None = None) -> Video:
    """Open a video for one pass over its (seconds, RGB picture) pairs; memory stays flat. See `Video`.

    begin, end: frames of the untrimmed original, cut only where the file is untrimmed (`Video._plan_trimming`); with
    end None nothing is cut. Raises InputError, naming the file and the reason, where it is missing, empty, no video,
    absurdly large, holds no frame, or contradicts begin and end (this last may show only when the iteration ends).
    """
    return Video(path, begin, end)


def count_frames(path: str | os.PathLike) -> int:
    """Frames that a file shows: by reading its packets where these are frames, by decoding it elsewhere.

    Counts up to the first error. Raises InputError like `read_video`.
    """
    path = Path(path)
    with _open(path) as container:
        stream = _picture_stream(container, path)
        count = 0
        try:
            if stream.codec_context.name in PACKET_IS_FRAME:
                for packet in container.demux(stream):
                    count += packet.size > 0 and not packet.is_discard and not packet.is_corrupt
            else:
                for _frame in container.decode(stream):
                    count += 1
        except av.FFmpegError:
            pass  # the iteration meets the same error and reports it with the place
    return count


def write_video(path: str | os.PathLike, frames: Iterable[np.ndarray], fps: float) -> int:
    """Write uint8 RGB frames [H, W, 3] as an H.264 (yuv420p) MP4 and return their number.

    The same frames give the same bytes: one encoder thread, no clock and no version in the file. The file appears
    whole or not at all. Raises InputError for no frame, odd or differing sizes, or another dtype.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    count, stream = 0, None
    try:
        with av.open(str(part), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
            for picture in frames:
                if stream is None:
                    _check_picture(path, picture, picture.shape)
                    stream = _encoder(container, picture.shape[1], picture.shape[0], fps)
                    shape = picture.shape
                _check_picture(path, picture, shape)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame.pts, frame.time_base = count, stream.codec_context.time_base
                container.mux(stream.encode(frame))
                count += 1
            if stream is None:
                raise InputError(f"{path}: no frame to write")
            container.mux(stream.encode(None))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _encoder(container, width: int, height: int, fps: float):
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream("libx264", rate=rate, options=_ENCODING)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    context = stream.codec_context
    context.time_base = 1 / rate
    context.thread_count = 1
    context.flags |= av.codec.context.Flags.bitexact
    return stream


def _check_picture(path: Path, picture: np.ndarray, shape: tuple[int, ...]) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"{path}: frames must be uint8 [H, W, 3], not {picture.dtype} {list(picture.shape)}")
    if picture.shape != shape:
        raise InputError(f"{path}: frames of one video differ in size, {list(picture.shape)} after {list(shape)}")
    if picture.shape[0] % 2 or picture.shape[1] % 2:
        raise InputError(f"{path}: H.264 in yuv420p needs an even width and height, not "
                         f"{picture.shape[1]}x{picture.shape[0]}; draw one pixel more")


def _open(path: Path) -> av.container.InputContainer:
    """Open a container, or raise InputError with what is wrong with the file."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path in the clips' table") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not head:
        raise InputError(f"{path}: the file is empty; copy or download it again")
    check_boxes(path, MAX_FRAMES)
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a git-LFS pointer, not the video itself; fetch it with `git lfs pull`")
    try:
        # "file:" keeps a colon in the name from being read as a protocol; metadata in any encoding must not stop us
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", **_LIMITS}
        return av.open(f"file:{path}", options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        cut = head[4:8] in KINDS
        why = "its index is missing: the file is cut off or damaged" if cut else f"no video: {_reason(error)}"
        raise InputError(f"{path}: cannot be opened ({why}); copy or download it again") from None


def _picture_stream(container, path: Path, strict: bool = False):
    """The video track, decoded by one thread: clips are spread over cores by process. Raises InputError."""
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    if not streams:
        raise InputError(f"{path}: no video track that can be decoded; is it a sound file?")
    stream = streams[0]
    context = stream.codec_context
    if context.width * context.height > MAX_PIXELS:
        raise InputError(f"{path}: {context.width}x{context.height} pixels are more than a clip can have; "
                         "its header is damaged, or scale it down")
    if stream.frames > MAX_FRAMES:
        raise InputError(f"{path}: its header promises {stream.frames} frames, more than the {MAX_FRAMES} of a clip; "
                         "its header is damaged, or cut it into clips of one sign")
    context.thread_count = 1
    context.thread_type = "NONE"
    context.options = _LIMITS | ({"err_detect": "explode"} if strict else {})
    return stream


def _orientation(frame: av.VideoFrame) -> tuple[bool, tuple[slice, slice]]:
    """How the stored picture is to be shown: whether x and y change places, then slices that flip y and x.

    FFmpeg's own angle tells a mirrored picture from a turned one no more, so the matrix itself is read: a stored (x, y)
    is shown at (x a + y c, x b + y d).
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist() if matrix else (1, 0, 0, 0, 1)
    sideways = abs(b) > abs(a)
    across, down = (c, b) if sideways else (a, d)
    return sideways, (slice(None, None, -1 if down < 0 else 1), slice(None, None, -1 if across < 0 else 1))


def _has_end_mark(gif: Path) -> bool:
    """Whether a GIF, which tells its number of frames nowhere, ends as it should; zeros behind that are padding."""
    with gif.open("rb") as file:
        file.seek(max(0, gif.stat().st_size - 64))
        return file.read().rstrip(b"\0").endswith(b";")


def _all_but_last(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    held = None
    for packet in packets:
        if packet.size:
            if held is not None:
                yield held
            held = packet


def _rate(stream) -> float | None:
    rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate and 0 < rate < 1000 else None


def _reason(error: Exception) -> str:
    """FFmpeg's own words without its number and the file's name."""
    return (getattr(error, "strerror", None) or str(error)).strip().rstrip(".").lower()
