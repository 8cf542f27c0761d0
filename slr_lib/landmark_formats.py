"""Landmarks that somebody else extracted, as they lie on disk: a file a clip, or many clips in packed files.

Each reader goes through the clips of a data set and yields, for each, a `Source` to load it from or the reason why it
cannot be used. docs/import.md describes the formats for users.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from slr_lib.data_sets import BytePlanes, DataSet
from slr_lib.errors import InputError
from slr_lib.gislr import read_gislr
from slr_lib.pose_files import read_pose
from slr_lib.recordings import Recording, Source, Unusable, shorten, to_points
from slr_lib.skeleton import HOLISTIC, Skeleton
from slr_lib.slovo_hands import JOINTS, LAYOUT, Malformed, read_hands


def read_sources(rows: pd.DataFrame, data_set: DataSet, skeleton: Skeleton) -> Iterator[tuple[str, Source | str]]:
    """Yield (clip, Source or the reason why there is none) for the rows of a list of clips.

    Raises:
        InputError: a packed file is absent or does not hold what the data set's `import` names, or the skeleton has
            points that the format has not; names the file and the key.
    """
    readers = {"gislr": _read_gislr, "pose": _read_pose, "npy": _read_npy, "npz": _read_packed,
               "slovo_mediapipe": _read_slovo_hands}
    sources = readers[data_set.landmark_import.format](rows, data_set, skeleton)
    yield from _sized(sources, rows, data_set) if data_set.landmark_import.size else sources


def _read_npy(rows: pd.DataFrame, data_set: DataSet, skeleton: Skeleton) -> Iterator[tuple[str, Source | str]]:
    settings = data_set.landmark_import

    def load(path: Path) -> Recording:
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise Unusable(f"{path} is no NumPy array ({shorten(error)})") from error
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
            points, frames, times = read_gislr(path, settings.times)
            points = to_points(points[:, chosen], len(chosen), settings.missing, settings.y_up)
        except Unusable as error:
            raise Unusable(f"{path}: {error}") from error
        return Recording(points, times if settings.times else (frames - frames[0]) / data_set.fps)

    yield from _read_files(rows, data_set, skeleton, "{clip}.parquet", load)


def _read_pose(rows: pd.DataFrame, data_set: DataSet, skeleton: Skeleton) -> Iterator[tuple[str, Source | str]]:
    settings = data_set.landmark_import

    def load(path: Path) -> Recording:
        try:
            recording = read_pose(path.read_bytes(), skeleton)
            points = to_points(recording.points, len(skeleton.points), settings.missing, settings.y_up)
        except (Unusable, OSError) as error:
            raise Unusable(f"{path}: {error}") from error
        return replace(recording, points=points)

    yield from _read_files(rows, data_set, skeleton, "{clip}.pose", load)


def _read_slovo_hands(rows: pd.DataFrame, data_set: DataSet, skeleton: Skeleton) -> Iterator[tuple[str, Source | str]]:
    if len(skeleton.points) != 2 * JOINTS:
        raise InputError(
            f"data set {data_set.name}: `format: slovo_mediapipe` has two hands of {JOINTS} points, but the skeleton "
            f"{skeleton.name} has {len(skeleton.points)} points; use `skeleton: hands_by_detection`."
        )
    settings = data_set.landmark_import
    salt = _salt(data_set, skeleton)
    wanted = dict(zip(rows["clip"], rows["row"]))
    for name in settings.files:
        path = _packed_file(name, data_set)
        try:
            with path.open("rb") as file:
                for clip, hands in read_hands(file, wanted):
                    if wanted.pop(clip, None) is None:
                        continue  # an id that the file holds twice: the first counts
                    if isinstance(hands, str):
                        yield clip, f"{path}: {hands}"
                        continue
                    digest = hashlib.sha256(salt + hands.tobytes()).hexdigest()
                    yield clip, Source(digest, lambda hands=hands: _packed_recording(hands, None, settings.y_up))
        except (Malformed, OSError) as error:
            raise InputError(
                f"{path} is not laid out as {LAYOUT}, or breaks off ({error}); download it again (docs/import.md): "
                "the clips that came before stay."
            ) from error
    for clip, row in wanted.items():
        yield clip, f"row {row} has no landmarks: none of the files of `import.files` names it"


def _sized(
    sources: Iterator[tuple[str, Source | str]], rows: pd.DataFrame, data_set: DataSet
) -> Iterator[tuple[str, Source | str]]:
    """Give the clips the size of the pictures from the table, where their files do not tell it."""
    names = data_set.landmark_import.size
    lacking = [name for name in names if name not in rows]
    if lacking:
        raise InputError(f"data set {data_set.name}: its table has no column `{lacking[0]}`; correct `import.size`.")
    sizes = dict(zip(rows["clip"], zip(*(rows[name] for name in names))))
    for clip, source in sources:
        written = sizes[clip]
        if isinstance(source, str) or not any(written):
            yield clip, source
        elif not all(value.isascii() and value.isdecimal() and int(value) for value in written):
            yield clip, f"its {names[0]} and {names[1]} are `{written[0]}` and `{written[1]}`, not numbers of pixels"
        else:
            def load(source: Source = source, size: tuple[int, int] = tuple(map(int, written))) -> Recording:
                recording = source.load()
                return replace(recording, size=recording.size or size)

            yield clip, Source(hashlib.sha256(f"{source.fingerprint} {written}".encode()).hexdigest(), load)


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
                f"({shorten(error)}); its fields are {known}."
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
        path = _packed_file(name, data_set)
        try:
            with np.load(path, allow_pickle=False) as packed:
                names, offsets = _names_and_offsets(packed, path, data_set)
                if not set(names) & set(wanted):
                    continue
                points, times = _packed_points(packed, path, data_set, len(offsets) and int(offsets[-1]))
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is no file of NumPy arrays ({shorten(error)}); restore it.") from error
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


def _packed_file(name: str, data_set: DataSet) -> Path:
    path = data_set.root / name
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; the data set {data_set.name} expects it there (docs/import.md), or correct "
            "`import.files`."
        )
    return path


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

