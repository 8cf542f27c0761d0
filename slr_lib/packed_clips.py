"""All clips of a data set in a few flat files, and their statistics. F frames of all clips together, P points.

points.npy float16 [F, P, 3], mask.npy bool [F, P], times.npy float32 [F] (seconds from the clip's first frame) and
clips.csv with a row a clip: the index's columns, `first` and `frames` (where the clip lies), `source_frames` (before
frames without hands were dropped) and `damaged` (1: its video breaks off long before its end, extraction says where).

Half precision keeps 11 bits: at the shoulder's distance from the origin a step of 0.0005 of that distance, an order
below the tremor of detection; an SVM on WLASL100 predicts the same sign for every clip with either precision.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from slr_lib.clips import Clip, ClipSettings, prepare_clip
from slr_lib.errors import InputError
from slr_lib.skeleton import Skeleton

if TYPE_CHECKING:
    from slr_lib.landmark_store import LandmarkStore

TABLE = "clips.csv"
ARRAYS = {"points": np.dtype(np.float16), "mask": np.dtype(np.bool_), "times": np.dtype(np.float32)}
_BLOCK = 4096  # frames read at once
_SMALLEST_SPREAD = 1e-3


class _Stream:
    """A .npy file that grows by rows; its header is written again at the end, when their number is known."""

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...]):
        self.path, self.dtype, self.shape, self.rows = path, dtype, shape, 0
        self.part = path.with_name(f".{path.name}.part")
        self.file = self.part.open("wb")
        self._write_header()
        self.start = self.file.tell()

    def _write_header(self) -> None:
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False,
                  "shape": (self.rows, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)  # leaves room for the first dimension to grow

    def append(self, rows: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(rows, self.dtype).tobytes())
        self.rows += len(rows)

    def close(self) -> None:
        """Finish the file under its temporary name."""
        self.file.seek(0)
        self._write_header()
        if self.file.tell() != self.start:
            raise RuntimeError(f"{self.part}: the header of {self.rows} rows does not fit its place")
        self.file.close()


def pack_clips(index: pd.DataFrame, store: LandmarkStore, skeleton: Skeleton, folder: str | os.PathLike,
               settings: ClipSettings | None = None, progress: bool = True) -> pd.DataFrame:
    """Prepare every clip of the index and write `folder`; memory stays flat, one clip at a time.

    The table is written last: a folder without it is not finished. Equal input gives equal bytes.

    Args:
        index: a row a clip, with columns clip, gloss, signer, split, duplicates.

    Returns:
        The rejects: clip, reason.

    Raises:
        InputError: not one clip can be used, or the landmarks do not fit the skeleton.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TABLE).unlink(missing_ok=True)
    points = len(skeleton.select()[0].points)
    shapes = {"points": (points, 3), "mask": (points,), "times": ()}
    streams = {name: _Stream(folder / f"{name}.npy", dtype, shapes[name]) for name, dtype in ARRAYS.items()}
    rows, rejects, first = [], [], 0
    try:
        hidden = None if progress else True  # None: shown on a terminal only
        for number, name in enumerate(tqdm(index["clip"], unit="clip", desc="clips", disable=hidden)):
            clip, source_frames, damaged = _read(store, name, skeleton, settings)
            if isinstance(clip, str):
                rejects.append({"clip": name, "reason": clip})
                continue
            for array, stream in streams.items():
                stream.append(getattr(clip, array))
            rows.append({"number": number, "first": first, "frames": len(clip.times), "source_frames": source_frames,
                         "damaged": int(damaged)})
            first += len(clip.times)
        if not rows:
            raise InputError(f"{store.folder}: none of the {len(index)} clips can be used"
                             + (f"; {rejects[0]['clip']}: {rejects[0]['reason']}" if rejects else "") + ".")
        for stream in streams.values():
            stream.close()
            stream.part.replace(stream.path)
    finally:
        for stream in streams.values():
            stream.file.close()
            stream.part.unlink(missing_ok=True)
    packed = pd.DataFrame(rows).set_index("number")
    columns = ["clip", "gloss", "signer", "split", "duplicates"]
    table = pd.concat([index.reset_index(drop=True)[columns].loc[packed.index], packed], axis=1)
    part = folder / f".{TABLE}.part"
    table.to_csv(part, index=False, lineterminator="\n")
    part.replace(folder / TABLE)
    return pd.DataFrame(rejects, columns=["clip", "reason"])


def _read(store: LandmarkStore, name: str, skeleton: Skeleton, settings) -> tuple[Clip | str, int, bool]:
    """A clip of the store or why there is none, its number of frames, and whether too few of them could be decoded."""
    if name not in store:
        return "no landmarks: it was not extracted or imported", 0, False
    landmarks = store.read(name)
    damaged = bool(landmarks.info.get("damaged"))
    return prepare_clip(landmarks, skeleton, settings), len(landmarks.times), damaged


class PackedClips:
    """Clips that `pack_clips` wrote, memory-mapped. `table` has the rows of clips.csv, `first` and `frames` as arrays.

    Raises:
        InputError: the folder is not finished or its files do not fit each other; names the remedy.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        path = self.folder / TABLE
        if not path.is_file():
            raise InputError(f"{path}: no such file; run the stage prepare_clips first.")
        text = dict.fromkeys(("clip", "gloss", "signer", "split", "duplicates"), str)
        self.table = pd.read_csv(path, dtype=text, keep_default_na=False)
        self.first = self.table["first"].to_numpy(np.int64)
        self.frames = self.table["frames"].to_numpy(np.int64)
        rows = int(self.frames.sum())
        for name, array in (("points", self.points), ("mask", self.mask), ("times", self.times)):
            if len(array) != rows or array.shape[1:2] not in ((), self.points.shape[1:2]):
                raise InputError(f"{self.folder / name}.npy does not fit {TABLE}; run the stage prepare_clips again.")

    @cached_property
    def points(self) -> np.ndarray:
        """float16 [F, P, 3]."""
        return self._load("points")

    @cached_property
    def mask(self) -> np.ndarray:
        """bool [F, P]."""
        return self._load("mask")

    @cached_property
    def times(self) -> np.ndarray:
        """float32 [F]."""
        return self._load("times")

    def __len__(self) -> int:
        return len(self.table)

    def __reduce__(self):
        return PackedClips, (self.folder,)  # another process maps the files itself

    def clip(self, row: int) -> Clip:
        """The clip of one row of the table."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        place = slice(self.first[row], self.first[row] + self.frames[row])
        return Clip(self.points[place].astype(np.float32), np.array(self.times[place]), np.array(self.mask[place]))

    def _load(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); run the stage prepare_clips again.") from error


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean and spread float32 [P, 3] of the training clips' coordinates, by which batches are made of order one.

    All points of a part share their values, and x and y their spread, so that shapes and directions within a part stay
    what they are.
    """

    mean: np.ndarray
    std: np.ndarray

    def as_plain(self) -> dict:
        """Lists for JSON."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_plain(cls, plain: dict) -> Statistics:
        """The inverse of `as_plain`."""
        return cls(np.array(plain["mean"], np.float32), np.array(plain["std"], np.float32))


def statistics(packed: PackedClips, rows, skeleton: Skeleton) -> Statistics:
    """Statistics of the points seen in some clips: the training part's, nothing of validation or test.

    Args:
        rows: numbers of the clips in the table. skeleton: the selected one, P points.

    Returns:
        Mean 0 and spread 1 for a part that was never seen.
    """
    return joint_statistics([(packed, rows)], skeleton)


def joint_statistics(sources: Sequence[tuple[PackedClips, Sequence[int]]], skeleton: Skeleton) -> Statistics:
    """Statistics of the points seen in some clips of several sets.

    Args:
        sources: of each set its clips and the numbers of those that count. skeleton: the selected one of all, P points.

    Returns:
        Mean 0 and spread 1 for a part that was never seen.
    """
    count = np.zeros(len(skeleton.points))
    total, square = np.zeros((2, len(skeleton.points), 3))
    blocks = (_blocks(packed, np.asarray(rows, np.int64)) for packed, rows in sources)
    for points, mask in chain.from_iterable(blocks):
        count += mask.sum(0)
        total += points.sum(0)
        square += np.square(points).sum(0)
    mean, std = np.zeros_like(total), np.ones_like(total)
    for part in skeleton.parts:
        chosen = list(part.points)
        seen = count[chosen].sum()
        if not seen:
            continue
        mean[chosen] = total[chosen].sum(0) / seen
        spread = np.sqrt(np.maximum(square[chosen].sum(0) / seen - mean[chosen[0]] ** 2, 0))
        spread[:2] = np.sqrt(np.square(spread[:2]).mean())
        std[chosen] = np.where(spread < _SMALLEST_SPREAD, 1.0, spread)
    return Statistics(mean.astype(np.float32), std.astype(np.float32))


def _blocks(packed: PackedClips, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The frames of some clips, a block at a time: points float64 [N, P, 3], zero where missing, mask bool [N, P]."""
    frames, firsts = packed.frames[rows], packed.first[rows]
    ends = np.cumsum(frames)
    for start in range(0, int(frames.sum()), _BLOCK):
        number = np.arange(start, min(start + _BLOCK, ends[-1]))  # of a frame among all of these clips'
        clip = np.searchsorted(ends, number, side="right")
        chosen = firsts[clip] + number - (ends - frames)[clip]
        yield packed.points[chosen].astype(np.float64), packed.mask[chosen]
