"""The tables that list a data set's clips: Slovo's annotations.csv with its videos, or a landmark set's own table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from slr_lib.data_sets import LEAVE_ONE_SIGNER_OUT, OFFICIAL, STRATIFIED, DataSet, find_home
from slr_lib.errors import InputError
from slr_lib.index import COLUMNS, REJECT_COLUMNS, accepted, known_signers, make_list, read_rows, rejected
from slr_lib.signs import choose_signs, needed_clips

FOLDS = 5  # of a stratified split

_SLOVO = ("attachment_id", "text", "user_id", "height", "width", "length", "train")
_OURS = (*_SLOVO[:3], *_SLOVO[5:], "begin", "end", "duplicates")  # the other columns are kept as they are
_VIDEOS = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".mpg", ".mpeg", ".3gp", ".wmv", ".ts", ".gif", ".ogv")
_TRUTH = {"true": "train", "1": "train", "false": "test", "0": "test"}
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
           "test": "test", "testing": "test", "": ""}


def read_annotations(folder_or_path: str | Path) -> pd.DataFrame:
    """Read a table in Slovo's format: tab-separated attachment_id, text, user_id, height, width, length, train,
    and begin and end where it has them.

    Returns:
        The list of clips in the table's order; `path` is empty. Further columns are kept under their own names.

    Raises:
        InputError: the table is absent, unreadable, empty or lacks a column; names it, and the remedy.
    """
    path = Path(folder_or_path)
    path = path / "annotations.csv" if path.is_dir() or not path.suffix else path
    remedy = "`make slovo` downloads Slovo; clips of your own need a table like Slovo's (README); or correct `path`."
    header, rows = read_rows(path, "\t", remedy)
    lacking = [name for name in _SLOVO if name not in header]
    if lacking:
        commas = " (it looks comma-separated)" if len(header) == 1 and "," in header[0] else ""
        raise InputError(
            f"{path} lacks the column {', '.join(lacking)}; it needs {', '.join(_SLOVO)}, separated by tabs{commas}."
        )
    lines = []
    for number, values, reason in rows:
        row = dict(zip(header, values))
        faults = [reason] if reason else []
        numbers = {}
        for ours, theirs in (("begin", "begin"), ("end", "end"), ("frames", "length")):
            numbers[ours], fault = _whole_number(theirs, row.get(theirs, ""))
            faults += [fault] * bool(fault)
        faults += _interval_faults(numbers)
        split = _TRUTH.get(row.get("train", "").lower(), "")
        if not split:
            faults.append(f"train is `{row.get('train', '')}`, not True or False")
        names = {"clip": row.get("attachment_id", ""), "gloss": row.get("text", ""), "signer": row.get("user_id", "")}
        lines.append(_line(names | {"split": split, "duplicates": row.get("duplicates", "")} | numbers, number, faults))
        lines[-1] |= _further({name: row.get(name, "") for name in header if name not in _OURS})
    return make_list(lines, path)


def read_import_index(data_set: DataSet) -> pd.DataFrame:
    """Read the table of a landmark set by the columns that its YAML names, rows outside `where` left out.

    Returns:
        The list of clips in the table's order; `path` is empty. Further columns are kept, those whose names are ours
        as `table.<name>`.

    Raises:
        InputError: the folder or the table is absent, unreadable or empty, or a named column is not there.
    """
    settings = data_set.landmark_import
    path = data_set.root / settings.index
    if not data_set.root.is_dir():
        raise InputError(
            f"{data_set.root}: no such folder; the data set {data_set.name} expects its table {settings.index} and its "
            f"landmarks ({settings.format}) there, see docs/import.md for the form and where to get them."
        )
    expected = f"The data set {data_set.name} expects its table there (docs/import.md); correct `import.index`."
    header, rows = read_rows(path, None, expected)
    columns = settings.columns.model_dump()
    needed = {"split"} if data_set.split == OFFICIAL else set()
    for ours, theirs in columns.items():
        optional = ours == "split" and ours not in needed and ours not in settings.columns.model_fields_set
        if theirs is not None and theirs not in header and not optional:
            raise InputError(
                f"{path} has no column `{theirs}`; name the column in `import.columns.{ours}`"
                f"{'' if ours in ('clip', 'gloss') else ' (null where there is none)'}: it has {', '.join(header)}."
            )
    if "split" in needed and columns["split"] is None:
        raise InputError(f"{path}: `split: official` needs a column; name it in `import.columns.split`.")
    for name in settings.where:
        if name not in header:
            raise InputError(f"{path} has no column `{name}`; correct `import.where`: it has {', '.join(header)}.")
    lines = []
    for number, values, reason in rows:
        row = dict(zip(header, values))
        if not all(row.get(name) in allowed for name, allowed in settings.where.items()):
            continue
        ours = {name: row.get(theirs, "") if theirs else "" for name, theirs in columns.items()}
        faults = [reason] if reason else []
        split = settings.split_values.get(ours["split"], _SPLITS.get(ours["split"].lower()))
        if split is None:
            faults.append(f"split is `{ours['split']}`, which `import.split_values` does not explain")
        lines.append(_line(ours | {"split": split or ""}, number, faults))
        lines[-1] |= _further({name: row.get(name, "") for name in header if name not in columns.values()})
    if not lines:
        raise InputError(f"{path}: no row has the values of `import.where`; correct them.")
    listed = make_list(lines, path)
    listed["duplicates"] = _duplicate_groups(listed)
    return listed


def list_clips(data_set: DataSet) -> pd.DataFrame:
    """Every row of the data set's table, whichever format it has; see the module's text for the columns."""
    return read_import_index(data_set) if data_set.landmark_import else read_annotations(data_set.root)


def list_videos(data_set: DataSet) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The table's rows with the `path` of each one's video, and the videos that no row names as rejects.

    Clips lie at train/ID.mp4 and test/ID.mp4, or all in the folder itself; other video formats are as good. Paths
    are relative to the project's folder where the data set's `path` is, else absolute.
    """
    listed = read_annotations(data_set.root)
    root = data_set.root if data_set.root.is_dir() else data_set.root.parent
    videos = _videos(root)
    used: set[tuple[str, str]] = set()
    table = listed.attrs["table"]
    paths, reasons = [], []
    for clip, split, row, reason in zip(listed["clip"], listed["split"], listed["row"], listed["reason"]):
        folders = (split, "", *(name for name in ("train", "test") if name != split))
        folder = next((name for name in folders if (name, clip) in videos), None)
        path = videos.get((folder, clip))
        if path:
            used.add((folder, clip))
        if not reason and path is None:
            reason = f"row {row} of {table} has no video: {root / split / clip}.mp4 is not there"
        elif not reason and folder not in (split, ""):
            reason = f"row {row} of {table} says {split}, but its video lies in {folder}/; move it or correct `train`"
        elif not reason and path.stat().st_size == 0:
            reason = "the video is an empty file; copy or download it again"
        paths.append(_portable(path) if path else "")
        reasons.append(reason)
    listed["path"], listed["reason"] = paths, reasons
    orphans = [
        {"clip": clip, "path": _portable(path), "reason": f"no row of {table} names this video", "gloss": "",
         "split": folder, "row": ""}
        for (folder, clip), path in sorted(videos.items()) if (folder, clip) not in used
    ]
    return listed, pd.DataFrame(orphans, columns=list(REJECT_COLUMNS), dtype=object)


def index_of_videos(data_set: DataSet) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Index of the clips of a folder in Slovo's layout, and the rejects (clip, path, reason, gloss, split, row).

    A row without its video, a video without its row, duplicate ids and malformed values are rejects, never errors.

    Raises:
        InputError: the table is absent or malformed, no clip at all can be used, or a part of the split is empty.
    """
    listed, orphans = list_videos(data_set)
    return accepted(listed, data_set), rejected(listed, orphans)


def count_folds(data_set: DataSet) -> int:
    """How many test parts a data set has: 1, the signers of its table, or 5 of a stratified split.

    Raises:
        InputError: the table must be read for it (leave_one_signer_out) and cannot.
    """
    if data_set.split == LEAVE_ONE_SIGNER_OUT:
        listed = list_clips(data_set)
        if data_set.landmark_import and data_set.landmark_import.signs == "needed":
            listed = needed_clips(listed, choose_signs(listed, data_set), data_set)
        return len(known_signers(listed[listed["reason"] == ""]))
    return FOLDS if data_set.split == STRATIFIED else 1


def _whole_number(name: str, text: str) -> tuple[int | str, str]:
    # lengths are written as 66.0
    if not text:
        return "", ""
    try:
        value = float(text)
        if value < 0 or value != int(value):
            raise ValueError
    except (ValueError, OverflowError):
        return "", f"{name} is `{text}`, not a whole number of frames"
    return int(value), ""


def _interval_faults(numbers: dict) -> list[str]:
    begin, end, frames = numbers["begin"], numbers["end"], numbers["frames"]
    if (begin == "") != (end == ""):
        return ["one of begin and end is empty"]
    faults = [f"begin {begin} is not before end {end}"] if begin != "" and begin >= end else []
    return faults + (["length is 0"] if frames == 0 else [])


def _further(columns: dict) -> dict:
    # a column of the table that has one of our names, but other contents
    ours = (*COLUMNS, "row", "reason")
    return {f"table.{name}" if name in ours else name: value for name, value in columns.items()}


def _line(names: dict, number: int, faults: list[str]) -> dict:
    clip = names["clip"]
    if not clip:
        faults = [*faults, "its clip id is empty"]
    elif clip in (".", "..") or any(sign in clip for sign in "/\\"):
        faults = [*faults, f"its clip id `{clip}` is no file name"]
    if not names["gloss"]:
        faults = [*faults, "its gloss is empty"]
    return {name: names.get(name, "") for name in COLUMNS} | {"row": number, "reason": "; ".join(faults)}


def _duplicate_groups(listed: pd.DataFrame) -> list[str]:
    # a table may name a group, or the clip that this one repeats (then that clip belongs to the group as well)
    named = set(listed["duplicates"]) & set(listed["clip"]) - {""}
    return [group or (clip if clip in named else "") for clip, group in zip(listed["clip"], listed["duplicates"])]


def _videos(root: Path) -> dict[tuple[str, str], Path]:
    """(folder, clip) -> video; ID.mp4 is preferred to the same clip in another format."""
    videos: dict[tuple[str, str], Path] = {}
    for folder in ("train", "test", ""):
        if not (root / folder).is_dir():
            continue
        found = [path for path in (root / folder).iterdir() if path.suffix.lower() in _VIDEOS]
        rank = {path: (path.stem, path.suffix != ".mp4", path.suffix) for path in found if path.name[0] != "."}
        for path in sorted(rank, key=rank.get):
            videos.setdefault((folder, path.stem), path)
    return videos


def _portable(path: Path) -> str:
    return path.relative_to(find_home()).as_posix() if path.is_relative_to(find_home()) else str(path)
