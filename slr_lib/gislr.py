"""Parquet files as in Kaggle's Google Isolated Sign Language Recognition (GISLR, 2023): a row a point and frame.

The columns are frame, row_id, type, landmark_index, x, y, z. Of 543 rows a frame the competition's own loader, which
all of its public code uses, takes x, y and z alone: `pd.read_parquet(path, columns=["x", "y", "z"]).values`, reshaped
to [-1, 543, 3]. So the rows' order is part of the convention: frame by frame, in the order of the skeleton `holistic`.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from slr_lib.recordings import Unusable, shorten

# first point and number of points of each type, in the rows' order
TYPES = {"face": (0, 468), "left_hand": (468, 21), "pose": (489, 33), "right_hand": (522, 21)}
POINTS = 543


def read_gislr(path: Path, times: str | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A clip's parquet: points float64 [T, 543, 3], frame numbers [T], times [T] (None where no column is named).

    The rows may stand in any order, and a type may be absent from a frame as a whole. Raises Unusable with the fault.
    """
    import pyarrow as pa
    import pyarrow.parquet

    columns = ["frame", "type", "landmark_index", "x", "y", "z", *([times] if times else [])]
    try:
        table = pa.parquet.read_table(path, partitioning=None).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise Unusable(f"it is no parquet file ({shorten(error)})") from error
    lacking = [name for name in columns if name not in table]
    if lacking:
        raise Unusable(f"it lacks the column {', '.join(lacking)}")
    if table.empty:
        raise Unusable("it has no frame")
    try:
        numbers = {name: table[name].to_numpy(np.float64) for name in columns if name != "type"}
    except (ValueError, TypeError) as error:
        raise Unusable(f"a column of numbers holds something else ({shorten(error)})") from error
    frame, place = numbers["frame"], numbers["landmark_index"]
    first = table["type"].map({name: start for name, (start, _) in TYPES.items()}).to_numpy(np.float64)
    size = table["type"].map({name: number for name, (_, number) in TYPES.items()}).to_numpy(np.float64)
    wrong = ~(np.isfinite(frame) & (place >= 0) & (place < size) & (place == np.floor(place)))
    if wrong.any():
        row = int(wrong.argmax())
        raise Unusable(f"row {row + 1} is no landmark: type {table['type'].iloc[row]}, landmark_index {place[row]:g}")
    frames, which = np.unique(frame, return_inverse=True)
    target = (first + place).astype(np.int64)
    rows_at = np.zeros((len(frames), 543), np.int64)
    np.add.at(rows_at, (which, target), 1)
    for name, (start, number) in TYPES.items():
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


def write_gislr(file: BinaryIO, points: np.ndarray, times: np.ndarray) -> None:
    """Write a clip's parquet; equal landmarks give equal bytes.

    x, y and z are float32 as in the store (Kaggle's are the same numbers as doubles). A further column `time` holds
    the frame's seconds from the clip's first frame, float64; readers of the convention do not look at it.

    Args:
        points: float32 [T, 543, 3] of the skeleton `holistic`, NaN where missing. times: float64 [T].
    """
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet

    frames = len(points)
    names = [name for name, (_, number) in TYPES.items() for _ in range(number)]
    frame = pa.array(np.repeat(np.arange(frames, dtype=np.int16 if frames < 2**15 else np.int32), POINTS))
    kind = pa.array(names * frames)
    place = pa.array(np.tile(np.concatenate([np.arange(number) for _, number in TYPES.values()]), frames), pa.int16())
    row = pa.compute.binary_join_element_wise(frame.cast(pa.string()), kind, place.cast(pa.string()), "-")
    columns = {"frame": frame, "row_id": row, "type": kind, "landmark_index": place}
    columns |= {axis: pa.array(points[..., number].reshape(-1)) for number, axis in enumerate("xyz")}
    columns["time"] = pa.array(np.repeat(times, POINTS))
    few = ["frame", "type", "landmark_index", "time"]  # the other columns hardly repeat a value
    pa.parquet.write_table(pa.table(columns), file, compression="zstd", use_dictionary=few)
