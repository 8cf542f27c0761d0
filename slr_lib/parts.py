"""Which packed clips train, validate and test in every fold, and the statistics of each fold's training clips."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from slr_lib.clips import ClipSettings
from slr_lib.data_sets import DataSet
from slr_lib.errors import InputError
from slr_lib.index import read_index, write_table
from slr_lib.inventory import write_json
from slr_lib.packed_clips import PackedClips, statistics
from slr_lib.skeleton import load_skeleton
from slr_lib.splits import TRAIN, UNUSED, assign_parts, describe_parts, folds

PARTS, STATISTICS, DESCRIPTION = "parts.csv", "statistics.json", "description.json"


def clip_settings(data_set: DataSet) -> ClipSettings:
    """How the landmarks of a data set become clips."""
    return ClipSettings(aspect=data_set.aspect)


def write_parts(data_set: DataSet, packed: PackedClips, validation_share: float, seed: int,
                train_damaged: bool = False) -> list[dict]:
    """Write the parts of every fold and the statistics of its training part beside the packed clips.

    What else of the data set decides about training (skeleton, signs that are never mirrored) is written too, so that
    DVC sees it change.

    Args:
        train_damaged: train on clips too whose video breaks off (PackedClips: `damaged`).

    Returns:
        Of each fold, splits.describe_parts of the clips that were packed.

    Raises:
        InputError: no training clip is left.
    """
    index = read_index(data_set)
    skeleton, _ = load_skeleton(data_set.skeleton_source).select()
    table, found, reports = packed.table[["clip"]].copy(), {}, []
    for fold in folds(data_set, index):
        table[fold] = _parts(data_set, index, packed, fold, validation_share, seed, train_damaged)
        training = np.flatnonzero(table[fold] == TRAIN)
        if not len(training):
            raise InputError(f"{packed.folder}: no training clip is left for fold {fold}; the rejects tell why.")
        found[fold] = statistics(packed, training, skeleton).as_plain()
        reports.append(describe_parts(packed.table, data_set, fold, table[fold]))
    write_table(table, packed.folder / PARTS)
    write_json(found, packed.folder / STATISTICS)
    description = {"skeleton": asdict(skeleton), "no_mirror": list(data_set.no_mirror), "no_event": data_set.no_event}
    write_json(description, packed.folder / DESCRIPTION)
    return reports


def parts_of(packed: PackedClips, fold: str) -> pd.Series:
    """Part of every packed clip in a fold: train, val, test or ''.

    Raises:
        InputError: the stage prepare_clips did not finish, or knows no such fold.
    """
    path = packed.folder / PARTS
    if not path.is_file():
        raise InputError(f"{path} is missing; run the stage prepare_clips again.")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if fold not in table:
        raise InputError(f"{path}: no fold {fold!r}; choose one of {', '.join(table.columns[1:])}.")
    return table[fold]


def check_parts(data_set: DataSet, packed: PackedClips, fold: str, validation_share: float, seed: int,
                train_damaged: bool = False) -> None:
    """Make sure that clips are split as `write_parts` would split them now, with the same arguments: for what reads
    them without DVC, which would prepare them anew.

    Raises:
        InputError: it would split them otherwise, or did not finish.
    """
    index, then = read_index(data_set), parts_of(packed, fold).to_numpy()
    known = packed.table["clip"].isin(index["clip"]).all()
    if not known or (_parts(data_set, index, packed, fold, validation_share, seed, train_damaged) != then).any():
        raise InputError(f"{packed.folder / PARTS}: the data set would be split otherwise now; run the stage "
                         "prepare_clips again.")


def _parts(data_set: DataSet, index: pd.DataFrame, packed: PackedClips, fold: str, validation_share: float, seed: int,
           train_damaged: bool) -> np.ndarray:
    """The part of every packed clip, assigned on the index, before any reject, so that a clip that fails moves no
    other."""
    parts = assign_parts(index, data_set, fold, validation_share, seed).set_axis(index["clip"])
    parts = parts.loc[packed.table["clip"]].to_numpy()
    return parts if train_damaged else np.where((parts == TRAIN) & (packed.table["damaged"] == 1), UNUSED, parts)
