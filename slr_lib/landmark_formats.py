"""Landmarks that somebody else extracted, as they lie on disk: GISLR parquets, NumPy arrays a clip, packed NumPy files.

Each reader goes through the clips of a data set and yields, for each, a `Source` to load it from or the reason why it
cannot be used. docs/import.md describes the formats for users.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from slr_lib.data_sets import BytePlanes, DataSet
from slr_lib.errors import InputError
from slr_lib.skeleton import HOLISTIC, Skeleton

# first point and number of points
_TYPES = {"face": (0, 468), "left_hand": (468, 21), "pose": (489, 33), "right_hand": (522, 21)}


class Unusable(ValueError):
    """A clip's landmarks cannot be used; the text is the reason for the table of rejects."""


@dataclass(frozen=True)
class Recording:
    """points float32 [T, P, 3], NaN where missing; times float64 [T] in seconds, None where they are not recorded."""

    points: np.ndarray
    times: np.ndarray | None


@dataclass(frozen=True)
class Source:
    """One clip's landmarks, not loaded yet. `fingerprint` changes with their bytes; `load` may raise Unusable."""

    fingerprint: str
    load: Callable[[], Recording]


def read_sources(rows: pd.DataFrame, data_set: DataSet, skeleton: Skeleton) -> Iterator[tuple[str, Source | str]]:
    """Yield (clip, Source or the reason why there is none) for the rows of a list of clips.

    Raises:
        InputError: a packed file is absent or does not hold what the data set's `import` names, or the skeleton has
            points that the format has not; names the file and the key.
    """
    readers = {"gislr": _read_gislr, "npy": _read_npy, "npz": _read_packed}
    yield from readers[data_set.landmark_import.format](rows, data_set, skeleton)


def to_points(array: np.ndarray, count: int, missing: float | None = None, y_up: bool = False) -> np.ndarray:
    """Bring an array of landmarks into the project's form.

    Args:
        array: [T, P, C], with any axes in place of P (hands x joints), or [T, P * C]; C is 2 or 3.
        count: P.
        missing: number that all coordinates of an undetected point have, beside NaN.
        y_up: y grows upwards in the source; here it grows downwards, as in a picture.

    Returns:
        float32 [T, P, 3]; NaN in all three coordinates where x or y is missing; z is 0 where it is not recorded.

    Raises:
        Unusable: not numbers, no frame, another number of points, infinite values, or no point at all.
    """
    if array.dtype.kind not in "fiu":
        raise Unusable(f"it holds {array.dtype} instead of numbers")
    shape = array.shape
    if array.ndim == 2 and shape[1] in (2 * count, 3 * count):
        array = array.reshape(shape[0], count, -1)
    if array.ndim < 3 or array.shape[-1] not in (2, 3):
        raise Unusable(f"its array has the shape {list(shape)}, not [frames, {count}, 2 or 3]")
    if array.shape[0] == 0:
        raise Unusable("it has no frame")
    array = array.reshape(array.shape[0], -1, array.shape[-1])
    if array.shape[1] != count:
        raise Unusable(f"it has {array.shape[1]} points a frame (shape {list(shape)}), but the skeleton has {count}")
    points = np.zeros((*array.shape[:2], 3), np.float32)
    points[..., : array.shape[-1]] = array
    if missing is not None:
        points[(array == missing).all(-1)] = np.nan
    if np.isinf(points).any():
        raise Unusable("it has infinite coordinates")
    points[np.isnan(points[..., :2]).any(-1)] = np.nan
    if np.isnan(points).all():
        raise Unusable("no point is detected in any of its frames")
    points[..., 2] = np.where(np.isnan(points[..., 0]), np.nan, np.nan_to_num(points[..., 2]))
    if y_up:
        points[..., 1] *= -1
    return points


def _read_npy(rows: pd.DataFrame, data_set: DataSet, skeleton: Skeleton) -> Iterator[tuple[str, Source | str]]:
    settings = data_set.landmark_import

    def load(path: Path) -> Recording:
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise Unusable(f"{path} is no NumPy array ({_short(error)})") from error
        if not isinstance(array, np.ndarray):
            raise Unusable(f"{path} is an archive, not one NumPy array")
        try:
            return Recording(to_points(array, len(skeleton.points), settings.missing, settings.y_up), None)
        except Unusable as error:
            raise Unusable(f"{path}: {error}") from error

    yield from _read_files(rows, data_set, skeleton, "{clip}.npy", load)


def _read_gislr(rows: pd.DataFrame, data_set: DataSet, skeleton: Skeleton) -> Iterator[tuple[str, Source | str]]:
    strangers = [name for name in skeleton.points if name not in HOLISTIC.points]
    if strangers:
        raise InputError(
            f"data set {data_set.name}: the skeleton {skeleton.name} has the point {strangers[0]}, which `format: "
            "gislr` has not; use `skeleton: holistic`, or points with its names."
        )
    chosen = np.array([HOLISTIC.index(name) for name in skeleton.points])
    settings = data_set.landmark_import

    def load(path: Path) -> Recording:
        try:
            points, frames, times = _parquet_points(path, settings.times)
            points = to_points(points[:, chosen], len(chosen), settings.missing, settings.y_up)
        except Unusable as error:
            raise Unusable(f"{path}: {error}") from error
        return Recording(points, times if settings.times else (frames - frames[0]) / data_set.fps)

    yield from _read_files(rows, data_set, skeleton, "{clip}.parquet", load)


def _parquet_points(path: Path, times: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """points [T, 543, 3], frame numbers [T], times [T] (None where no column is named)."""
    import pyarrow as pa
    import pyarrow.parquet

    columns = ["frame", "type", "landmark_index", "x", "y", "z", *([times] if times else [])]
    try:
        table = pa.parquet.read_table(path, partitioning=None).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise Unusable(f"it is no parquet file ({_short(error)})") from error
    lacking = [name for name in columns if name not in table]
    if lacking:
        raise Unusable(f"it lacks the column {', '.join(lacking)}")
    if table.empty:
        raise Unusable("it has no frame")
    try:
        numbers = {name: table[name].to_numpy(np.float64) for name in columns if name != "type"}
    except (ValueError, TypeError) as error:
        raise Unusable(f"a column of numbers holds something else ({_short(error)})") from error
    frame, place = numbers["frame"], numbers["landmark_index"]
    first = table["type"].map({name: start for name, (start, _) in _TYPES.items()}).to_numpy(np.float64)
    size = table["type"].map({name: number for name, (_, number) in _TYPES.items()}).to_numpy(np.float64)
    wrong = ~(np.isfinite(frame) & (place >= 0) & (place < size) & (place == np.floor(place)))
    if wrong.any():
        row = int(wrong.argmax())
        raise Unusable(f"row {row + 1} is no landmark: type {table['type'].iloc[row]}, landmark_index {place[row]:g}")
    frames, which = np.unique(frame, return_inverse=True)
    target = (first + place).astype(np.int64)
    rows_at = np.zeros((len(frames), 543), np.int64)
    np.add.at(rows_at, (which, target), 1)
    for name, (start, number) in _TYPES.items():
        found = (rows_at[:, start : start + number] == 1).sum(1)
        partial = (found != 0) & (found != number) | (rows_at[:, start : start + number] > 1).any(1)
        if partial.any():
            raise Unusable(f"frame {frames[partial.argmax()]:g} does not have each of {name}'s {number} points once")
    points = np.full((len(frames), 543, 3), np.nan)
    for axis, name in enumerate("xyz"):
        points[which, target, axis] = numbers[name]
    if not times:
        return points, frames, None
    return points, frames, numbers[times][np.unique(which, return_index=True)[1]]


def _read_files(
    rows: pd.DataFrame, data_set: DataSet, skeleton: Skeleton, default: str, load: Callable[[Path], Recording]
) -> Iterator[tuple[str, Source | str]]:
    settings = data_set.landmark_import
    named = "{path}" if "table.path" in rows else None  # Kaggle's train.csv has a column path
    template = settings.clip_path or named or default
    salt = _salt(data_set, skeleton)
    for row in rows.to_dict("records"):
        fields = {name.removeprefix("table."): value for name, value in row.items() if name not in ("row", "reason")}
        fields |= {theirs: row[ours] for ours, theirs in settings.columns.model_dump().items() if theirs}
        fields |= {name: row[name] for name in ("clip", "gloss", "signer")}
        try:
            path = data_set.root / template.format_map(fields)
        except (KeyError, ValueError, IndexError, AttributeError) as error:
            known = ", ".join(fields)
            raise InputError(
                f"data set {data_set.name}: `import.clip_path: {template}` cannot be filled in for row {row['row']} "
                f"({_short(error)}); its fields are {known}."
            ) from error
        try:
            digest = hashlib.sha256(salt + path.read_bytes()).hexdigest()
        except OSError as error:
            yield row["clip"], f"row {row['row']} has no landmarks: {path} cannot be read ({error.strerror})"
            continue
        yield row["clip"], Source(digest, lambda path=path: load(path))


def _read_packed(rows: pd.DataFrame, data_set: DataSet, skeleton: Skeleton) -> Iterator[tuple[str, Source | str]]:
    settings = data_set.landmark_import
    salt = _salt(data_set, skeleton)
    wanted = dict(zip(rows["clip"], rows["row"]))
    for name in settings.files:
        path = data_set.root / name
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; the data set {data_set.name} expects it there (docs/import.md), or correct "
                "`import.files`."
            )
        try:
            with np.load(path, allow_pickle=False) as packed:
                names, offsets = _names_and_offsets(packed, path, data_set)
                if not set(names) & set(wanted):
                    continue
                points, times = _packed_points(packed, path, data_set, len(offsets) and int(offsets[-1]))
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is no file of NumPy arrays ({_short(error)}); restore it.") from error
        if points.shape[1] != len(skeleton.points):
            raise InputError(
                f"{path}: `import.arrays` give {points.shape[1]} points a frame, but the skeleton {skeleton.name} has "
                f"{len(skeleton.points)}; correct `skeleton` or `import.arrays`."
            )
        for clip, start, stop in zip(names, offsets[:-1], offsets[1:]):
            if wanted.pop(clip, None) is None:
                continue
            part, when = points[start:stop], None if times is None else times[start:stop]
            digest = hashlib.sha256(salt + part.tobytes() + (b"" if when is None else when.tobytes())).hexdigest()
            yield clip, Source(digest, lambda part=part, when=when: _packed_recording(part, when, settings.y_up))
    for clip, row in wanted.items():
        yield clip, f"row {row} has no landmarks: none of the files of `import.files` names it"


def _packed_recording(points: np.ndarray, times: np.ndarray | None, y_up: bool) -> Recording:
    return Recording(to_points(points, points.shape[1], None, y_up), times)


def _names_and_offsets(packed, path: Path, data_set: DataSet) -> tuple[list[str], np.ndarray]:
    settings = data_set.landmark_import
    names = [str(name) for name in _array(packed, settings.names, path, "import.names")]
    offsets = _array(packed, settings.offsets, path, "import.offsets")
    sound = offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) == len(names) + 1 and offsets[0] == 0
    if not sound or (np.diff(offsets.astype(np.int64)) < 0).any():
        raise InputError(
            f"{path}: `{settings.offsets}` must hold the {len(names)} clips' first frames, rising from 0, and then the "
            "number of frames; correct `import.offsets`."
        )
    return names, offsets.astype(np.int64)


def _packed_points(packed, path: Path, data_set: DataSet, frames: int) -> tuple[np.ndarray, np.ndarray | None]:
    """All frames of a packed file: points float32 [F, P, 3] with NaN where missing, and times [F] or None."""
    settings = data_set.landmark_import
    parts = []
    for entry in settings.arrays:
        name = entry.bytes if isinstance(entry, BytePlanes) else entry
        array = _byte_planes(packed, path, entry) if isinstance(entry, BytePlanes) else _array(packed, name, path)
        if len(array) != frames or array.ndim < 2 or array.shape[-1] not in (2, 3) or array.dtype.kind not in "fiu":
            raise InputError(
                f"{path}: `{name}` has the shape {list(array.shape)}, not [{frames} frames, points, 2 or 3] as "
                f"`{settings.offsets}` says; correct `import.arrays`."
            )
        array = array.reshape(frames, int(np.prod(array.shape[1:-1])), array.shape[-1])
        part = np.zeros((*array.shape[:2], 3), np.float32)
        part[..., : array.shape[-1]] = array
        if settings.missing is not None:
            part[(array == settings.missing).all(-1)] = np.nan
        parts.append(part)
    times = _array(packed, settings.times, path, "import.times") if settings.times else None
    if times is not None and times.shape != (frames,):
        raise InputError(f"{path}: `{settings.times}` must hold {frames} frames' times; correct `import.times`.")
    return np.concatenate(parts, 1), times


def _byte_planes(packed, path: Path, entry: BytePlanes) -> np.ndarray:
    """float32 [F, slots, P, C] from four planes of bytes that hold the valid slots only; NaN elsewhere."""
    planes, valid = _array(packed, entry.bytes, path), _array(packed, entry.valid, path)
    shape = [int(number) for number in _array(packed, entry.shape, path)]
    if planes.dtype != np.uint8 or planes.shape != (4, int(np.prod(shape))) or valid.sum() != shape[-1]:
        raise InputError(f"{path}: `{entry.bytes}`, `{entry.shape}` and `{entry.valid}` do not fit; restore it.")
    floats = np.ascontiguousarray(planes.T).view("<f4").reshape(shape).transpose(2, 1, 0)
    full = np.full((*valid.shape, *floats.shape[1:]), np.nan, np.float32)
    full[valid.astype(bool)] = floats
    return full


def _array(packed, name: str, path: Path, key: str = "import.arrays") -> np.ndarray:
    if name not in packed.files:
        raise InputError(f"{path} has no array `{name}`; correct `{key}`: it has {', '.join(packed.files)}.")
    return packed[name]


def _salt(data_set: DataSet, skeleton: Skeleton) -> bytes:
    # what else decides the landmarks that are stored
    settings = data_set.landmark_import
    parts = [settings.format, settings.missing, settings.y_up, settings.times, data_set.fps, list(skeleton.points)]
    return json.dumps(parts).encode()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
