"""The landmarks of a set's clips on disk: a file a clip, written whole or not at all, the same content the same bytes.

A file `<clip id, url-quoted>.npz` is an uncompressed NumPy archive (numpy.load reads it) with three members: `points`
float32 [T, P, 3], `times` float64 [T] and `info`, a JSON object in UTF-8 as uint8.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from slr_lib.errors import InputError

SUFFIX, PART = ".npz", ".part"
LONGEST_NAME = 200  # bytes; file systems take 255, and a partial file's name is longer by host and process
DEAD_AFTER = 3600  # seconds after which another host's partial file is nobody's; writing one takes milliseconds

# All that zipfile and NumPy raise on a damaged archive
UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, KeyError, ValueError, EOFError, RuntimeError, OSError)


class StoreError(InputError):
    """The store itself cannot be written (full disk, read-only folder), so that no further clip can be kept either."""


@dataclass(frozen=True, eq=False)
class ClipLandmarks:
    """One clip: points float32 [T, P, 3], NaN where missing; times float64 [T], seconds, never falling; info for JSON.

    Raises InputError where shapes disagree, there is no frame, or times are not finite or fall.
    """

    points: np.ndarray
    times: np.ndarray
    info: dict = field(default_factory=dict)

    def __post_init__(self):
        points = np.ascontiguousarray(self.points, np.float32)
        times = np.ascontiguousarray(self.times, np.float64)
        if points.ndim != 3 or points.shape[2] != 3 or times.shape != points.shape[:1] or not len(times):
            raise InputError(f"landmarks must be points [T, P, 3] and times [T] with at least one frame, "
                             f"not {list(points.shape)} and {list(times.shape)}")
        if not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise InputError("the times of a clip's frames must be finite and must not fall")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "times", times)


class LandmarkStore:
    """A folder of clips' landmarks. Ids may be any text; several processes may write different clips at once."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)

    def path(self, clip: str) -> Path:
        """The file of a clip, whether it exists or not. Raises InputError for an empty id."""
        if not clip:
            raise InputError(f"{self.folder}: a clip has an empty id; give it one")
        name = quote(clip, safe="")
        if len(name) > LONGEST_NAME:  # "%~" cannot stand in a quoted id, so no other id has this name
            name = f"{name[:LONGEST_NAME - 40]}%~{hashlib.sha256(clip.encode()).hexdigest()[:32]}"
        return self.folder / (name + SUFFIX)

    def __contains__(self, clip: str) -> bool:
        return self.path(clip).is_file()

    def clips(self) -> list[str]:
        """Ids of all clips, sorted."""
        names = [name for name in self._names() if name.endswith(SUFFIX)]
        return sorted(self._clip(name) for name in names)

    def write(self, clip: str, landmarks: ClipLandmarks) -> None:
        """Store a clip in place of any older version. Raises StoreError where the folder takes no more."""
        path = self.path(clip)
        info = json.dumps({**landmarks.info, "clip": clip}, ensure_ascii=False, sort_keys=True, allow_nan=False)
        part = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}{PART}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("wb") as file:
                    # savez dates every member 1980 and stores it uncompressed: equal content, equal bytes
                    np.savez(file, points=landmarks.points, times=landmarks.times,
                             info=np.frombuffer(info.encode(), np.uint8))
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.folder}: landmarks cannot be written ({error.strerror or error}); free disk space "
                             "or make the folder writable, then run again: finished clips are kept") from error

    def read(self, clip: str) -> ClipLandmarks:
        """A clip's landmarks. Raises InputError where the clip is not stored or its file is damaged."""
        points, times, info = self._members(clip, "points", "times", "info")
        try:
            return ClipLandmarks(points, times, _parse(info))
        except ValueError as error:
            raise self._damaged(clip, error) from None

    def info(self, clip: str) -> dict:
        """What is known of a clip, without loading its points. Raises InputError like `read`."""
        try:
            return _parse(*self._members(clip, "info"))
        except ValueError as error:
            if isinstance(error, InputError):
                raise
            raise self._damaged(clip, error) from None

    def remove(self, clip: str) -> None:
        """Forget a clip; nothing happens where it is not stored. Raises StoreError in a read-only folder."""
        try:
            self.path(clip).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be changed ({error.strerror}); make it writable") from error

    def prepare(self) -> None:
        """Make the folder, prove that it can be written, and sweep the partial files of runs that were killed.

        Raises StoreError where it cannot be written.
        """
        probe = self.folder / f".probe.{socket.gethostname()}.{os.getpid()}{PART}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"\0" * 4096)
            probe.unlink()
            for name in self._names():
                if name.endswith(PART) and _is_dead(self.folder / name):
                    (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be written ({error.strerror}); free disk space or make the folder "
                             "writable") from error

    def _names(self) -> Iterator[str]:
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    yield entry.name
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise InputError(f"{self.folder}: a file stands where the folder of landmarks should be; move it") from None

    def _clip(self, name: str) -> str:
        stem = name.removesuffix(SUFFIX)
        if "%~" not in stem:
            return unquote(stem)
        return _parse(*_load(self.folder / name, "info"))["clip"]

    def _members(self, clip: str, *names: str) -> list[np.ndarray]:
        path = self.path(clip)
        try:
            return _load(path, *names)
        except FileNotFoundError:
            raise InputError(f"{self.folder}: no landmarks of clip {clip}; extract or import them first") from None
        except UNREADABLE as error:
            raise self._damaged(clip, error) from None

    def _damaged(self, clip: str, error: Exception) -> InputError:
        return InputError(f"{self.path(clip)}: the file is damaged ({error}); delete it, and the next run makes it "
                          "again")


def require_space(folder: str | os.PathLike, size: int) -> None:
    """Raise InputError where fewer than `size` bytes are free on the disk that holds, or will hold, `folder`."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < size:
        raise InputError(f"{folder}: {size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; make room, or "
                         "put the folder on another disk")


def _load(path: Path, *names: str) -> list[np.ndarray]:
    """Members of an archive. Each is read whole before it is parsed, so that its checksum is checked first."""
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        return [np.lib.format.read_array(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False) for name in names]


def _parse(info: np.ndarray) -> dict:
    return json.loads(info.tobytes().decode())


def _is_dead(part: Path) -> bool:
    """Whether the process that was writing a partial file is gone; of another host's only its age can tell."""
    host, _, process = part.name.removesuffix(PART).rpartition(".")
    if not host.endswith(f".{socket.gethostname()}") or not process.isdecimal():
        try:
            return time.time() - part.stat().st_mtime > DEAD_AFTER
        except FileNotFoundError:
            return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return int(process) == os.getpid()  # one's own is left from an earlier process of the same number
