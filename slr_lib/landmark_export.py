"""The landmark store -> a folder that other projects read: a parquet a clip as in Kaggle GISLR, or a .pose a clip.

`python -m slr_lib.landmark_export --dataset demo --format gislr --to exported`

The table of clips goes with the landmarks, and a data set's YAML by which all of it can be imported again.
docs/export.md says what each format loses.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm

from slr_lib.data_sets import DataSet, load_data_set
from slr_lib.errors import InputError, exit_status
from slr_lib.gislr import POINTS, write_gislr
from slr_lib.index import COLUMNS, read_index, write_table
from slr_lib.landmark_store import ClipLandmarks, LandmarkStore, require_space
from slr_lib.pose_files import write_pose
from slr_lib.signs import read_signs
from slr_lib.skeleton import HOLISTIC, Skeleton, load_skeleton

SUFFIXES = {"gislr": ".parquet", "pose": ".pose"}
# our columns under the names of Kaggle's train.csv, beside the ones that it lacks
KAGGLE = {"clip": "sequence_id", "gloss": "sign", "signer": "participant_id"}
UNEVEN = 0.001  # seconds off an even rate from which on a frame's time counts as lost
_TABLE, _FOLDER = ("clip", "gloss", "signer", "split", "duplicates"), "landmarks"


def export_landmarks(data_set: DataSet, form: str, folder: str | os.PathLike, progress: bool = True) -> str:
    """Write the clips that the store holds, the table that lists them, and a data set's YAML for their import.

    A file that has the time stamp of the clip's file in the store is finished and is not written again, so a killed
    run goes on where it was; the table comes last. A clip that is not stored, or is damaged there, is listed with the
    reason in rejects.csv.

    Args:
        form: `gislr` or `pose`.
        folder: must be absent, empty, or hold an earlier export of the same data set in the same form.

    Returns:
        One line that sums it up.

    Raises:
        InputError: the index is missing, the skeleton does not fit the form, the folder holds something else or cannot
            be written, or no clip is stored.
    """
    skeleton = load_skeleton(data_set.skeleton_source)
    writer = _writer(data_set, form, skeleton)
    folder = Path(folder).absolute()
    index, store = read_index(data_set), LandmarkStore(data_set.landmarks)
    rows, reasons = _readable(index, store)
    if not rows:
        raise InputError(f"{store.folder}: none of the {len(index)} clips of {data_set.index} is stored; run "
                         f"`make repro DATASET={data_set.name}` first.")
    table = _table(index, rows, form, store)
    uneven = 0
    try:
        _claim(folder, _describe(data_set, form, folder, table, read_signs(data_set)), data_set)
        (folder / _FOLDER).mkdir(exist_ok=True)
        if described := data_set.skeleton_file:
            shutil.copyfile(described, folder / described.name)
        todo = [clip for clip in rows if not _finished(_target(folder, store, clip, form), store.path(clip))]
        require_space(folder, sum(store.path(clip).stat().st_size for clip in todo))
        bar = tqdm(todo, initial=len(rows) - len(todo), total=len(rows), unit="clip", desc="export",
                   disable=None if progress else True)  # None: shown on a terminal only
        for clip in bar:
            target, source = _target(folder, store, clip, form), store.path(clip)
            stamp = source.stat().st_mtime_ns
            try:
                landmarks = store.read(clip)
            except InputError as error:
                reasons[clip] = str(error)
                target.unlink(missing_ok=True)
                continue
            uneven += form == "pose" and _rate(landmarks, data_set.fps)[1] > UNEVEN
            _write(target, lambda file, landmarks=landmarks: writer(file, landmarks), stamp)
        table = table[~index["clip"][table.index].isin(reasons)]
        write_table(pd.DataFrame(list(reasons.items()), columns=["clip", "reason"]), folder / "rejects.csv")
        write_table(table, folder / _index_name(form))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}); free disk space or make the folder "
                         "writable, then run again: finished files are kept.") from error
    line = f"{len(table)} clips in {folder}, {len(reasons)} left out"
    line += f" (reasons in {folder / 'rejects.csv'})" if reasons else ""
    line += f"; {uneven} of the {len(todo)} written now had uneven times, which .pose evens out" if uneven else ""
    return f"{line}; {_yaml_path(folder, data_set, form)} imports them"


def _writer(data_set: DataSet, form: str, skeleton: Skeleton) -> Callable[[BinaryIO, ClipLandmarks], None]:
    def pose(file: BinaryIO, landmarks: ClipLandmarks) -> None:
        write_pose(file, landmarks.points, _rate(landmarks, data_set.fps)[0], _size(landmarks.info), skeleton)

    if form == "pose":
        return pose
    strangers = [name for name in skeleton.points if name not in HOLISTIC.points]
    if strangers:
        raise InputError(f"data set {data_set.name}: its skeleton {skeleton.name} has the point {strangers[0]}, which "
                         "GISLR's 543 have not; export it by `--format pose`.")
    chosen = [HOLISTIC.index(name) for name in skeleton.points]

    def gislr(file: BinaryIO, landmarks: ClipLandmarks) -> None:
        points = np.full((len(landmarks.points), POINTS, 3), np.nan, np.float32)
        points[:, chosen] = landmarks.points
        write_gislr(file, points, landmarks.times - landmarks.times[0])

    return gislr


def _readable(index: pd.DataFrame, store: LandmarkStore) -> tuple[dict[str, int], dict[str, str]]:
    """The stored clips with their place in the index, and why the others cannot be exported."""
    stored = set(store.clips())
    rows = {clip: place for place, clip in enumerate(index["clip"]) if clip in stored}
    return rows, {clip: "it has no landmarks in the store" for clip in index["clip"] if clip not in stored}


def _table(index: pd.DataFrame, rows: dict[str, int], form: str, store: LandmarkStore) -> pd.DataFrame:
    """The table of the clips: ours or Kaggle's names, `path` from the folder, and the further columns of the index."""
    names = KAGGLE if form == "gislr" else {}
    index = index.iloc[list(rows.values())]
    table = index[list(_TABLE)].rename(columns=names)
    table.insert(0, "path", [f"{_FOLDER}/{_target(Path(), store, clip, form).name}" for clip in rows])
    sizes = [_stored_size(store, clip) for clip in rows]
    table["width"], table["height"] = zip(*(size or ("", "") for size in sizes))
    further = [name for name in index if name not in (*COLUMNS, *table) and not name.startswith("table.")]
    return table.join(index[further])


def _describe(data_set: DataSet, form: str, folder: Path, table: pd.DataFrame, signs: list[str]) -> dict:
    """The content of a data set's YAML by which the exported folder is imported."""
    names = KAGGLE if form == "gislr" else {}
    glosses = set(table[names.get("gloss", "gloss")])
    signs = [sign for sign in signs if sign in glosses]
    columns = {name: names.get(name, name) for name in _TABLE}
    given = {"format": form, "index": _index_name(form), "columns": columns, "signs": "all"}
    given |= {"times": "time", "size": ["width", "height"]} if form == "gislr" else {}
    described = data_set.skeleton_file
    keys = data_set.model_dump(include={"title", "synthetic", "no_mirror", "fps", "aspect", "split"})
    return keys | {
        "kind": "landmarks",
        "path": str(folder),
        "skeleton": str(folder / described.name) if described else data_set.skeleton,
        "signs": {"glosses": signs},
        "class_counts": sorted({min(count, len(signs)) for count in data_set.class_counts}),
        "no_event": data_set.no_event if data_set.no_event in glosses else None,
        "import": given,
    }


def _claim(folder: Path, description: dict, data_set: DataSet) -> None:
    """Make the folder ours, or see that it is ours with the same settings. Raises InputError where it is not."""
    path = _yaml_path(folder, data_set, description["import"]["format"])
    text = "# Imports what lies beside it (docs/import.md); after a move correct `path`.\n" + yaml.safe_dump(
        description, sort_keys=False, allow_unicode=True, width=120)
    if path.is_file():
        if path.read_text(encoding="utf-8") == text:
            return
        raise InputError(f"{path} is of an export with other settings or signs; delete {folder}, or name another.")
    if folder.exists() and (not folder.is_dir() or set(folder.iterdir()) - {_part(path)}):
        raise InputError(f"{folder} holds something else; name an empty or a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, lambda file: file.write(text.encode()))


def _write(target: Path, write: Callable[[BinaryIO], object], stamp: int | None = None) -> None:
    """Write a file, whole or not at all; stamp: its time of change in nanoseconds."""
    part = _part(target)
    content = io.BytesIO()
    write(content)
    part.write_bytes(content.getbuffer())
    if stamp is not None:
        os.utime(part, ns=(stamp, stamp))
    part.replace(target)


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")  # a killed run's is written over by the next


def _finished(target: Path, source: Path) -> bool:
    return target.is_file() and target.stat().st_mtime_ns == source.stat().st_mtime_ns


def _target(folder: Path, store: LandmarkStore, clip: str, form: str) -> Path:
    return (folder / _FOLDER / store.path(clip).name).with_suffix(SUFFIXES[form])


def _yaml_path(folder: Path, data_set: DataSet, form: str) -> Path:
    return folder / f"{data_set.name}_{form}.yaml"


def _index_name(form: str) -> str:
    return "train.csv" if form == "gislr" else "index.csv"


def _stored_size(store: LandmarkStore, clip: str) -> tuple[int, int] | None:
    try:
        return _size(store.info(clip))
    except InputError:
        return None  # its file is damaged, which shows when it is read


def _size(info: dict) -> tuple[int, int] | None:
    width, height = info.get("width"), info.get("height")
    return (width, height) if width and height else None


def _rate(landmarks: ClipLandmarks, fallback: float) -> tuple[float, float]:
    """Frames a second, and how many seconds a frame's time is off them at most."""
    times = landmarks.times - landmarks.times[0]
    if times[-1] == 0:
        return fallback, 0.0
    fps = (len(times) - 1) / times[-1]
    return float(fps), float(abs(times - np.arange(len(times)) / fps).max())


def main(arguments: list[str] | None = None) -> int:
    """Command line; prints an InputError's sentence alone and returns 1."""
    parser = argparse.ArgumentParser(prog="python -m slr_lib.landmark_export", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, help="name of a data set, or path of its YAML file")
    parser.add_argument("--format", required=True, choices=sorted(SUFFIXES))
    parser.add_argument("--to", required=True, metavar="FOLDER", help="a new or empty folder, or an earlier export")
    options = parser.parse_args(arguments)
    return exit_status(lambda: export_landmarks(load_data_set(options.dataset), options.format, options.to))


if __name__ == "__main__":
    sys.exit(main())
