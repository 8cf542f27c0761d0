"""The index of a data set's clips: one table for videos and landmarks alike, its usable rows and its rejects.

A list of clips ("listed") has a line for every row of a table, with the columns of `COLUMNS`, then the table's own
further columns, then `row` (its number in the file, 1 after the header) and `reason` (why it cannot be used, '' where
it can); `attrs["table"]` is the file. The index is its usable rows without these two.
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pandas as pd

from slr_lib.data_sets import LEAVE_ONE_SIGNER_OUT, OFFICIAL, DataSet, TestSigners, find_home
from slr_lib.errors import InputError

COLUMNS = ("clip", "gloss", "signer", "split", "duplicates", "path", "begin", "end", "frames")
REJECT_COLUMNS = ("clip", "path", "reason", "gloss", "split", "row")

_NUMBERS = ("begin", "end", "frames")


def make_list(lines: list[dict], table: Path) -> pd.DataFrame:
    """The list of clips from the rows of a table; rows that repeat an id get their `reason` here."""
    listed = pd.DataFrame(lines).astype(object)
    listed["reason"] = [f"row {row} of {table.name}: {reason}" if reason else ""
                        for row, reason in zip(listed["row"], listed["reason"])]
    _reject_duplicates(listed, table)
    last = ["row", "reason"]
    listed = listed[[name for name in listed if name not in last] + last]
    listed.attrs["table"] = str(table)
    return listed


def _reject_duplicates(listed: pd.DataFrame, table: Path) -> None:
    """Of equal rows of one id the first stays; where they differ, none does, for nothing says which is right."""
    repeated = listed[listed["clip"].duplicated(keep=False) & (listed["clip"] != "")]
    for clip, rows in repeated.groupby("clip", sort=False):
        numbers = ", ".join(str(row) for row in rows["row"])
        same = len(rows.drop(columns=["row", "reason"]).drop_duplicates()) == 1
        rest = rows.index[1:] if same else rows.index
        action = "the first is used" if same else "they differ, so none is used; keep the right one"
        listed.loc[rest, "reason"] = f"the id {clip} is in rows {numbers} of {table.name}: {action}"


def accepted(listed: pd.DataFrame, data_set: DataSet) -> pd.DataFrame:
    """The index: the usable rows of a list of clips.

    Raises:
        InputError: there is none, or a part of the split has none.
    """
    table = listed.attrs["table"]
    index = listed[listed["reason"] == ""].drop(columns=["reason", "row"]).reset_index(drop=True)
    if index.empty:
        first = listed["reason"].iloc[0]
        raise InputError(f"{table}: none of its {len(listed)} clips can be used; {first}.")
    parts = {"training": index["split"].eq("train"), "test": index["split"].eq("test")}
    if isinstance(data_set.split, TestSigners):
        missing = sorted(set(data_set.split.test_signers) - set(index["signer"]))
        if missing:
            raise InputError(f"{table}: no usable clip of the signer {missing[0]}; correct `split.test_signers`.")
        test = index["signer"].isin(data_set.split.test_signers)
        parts = {"training": ~test, "test": test}
    if data_set.split == OFFICIAL or isinstance(data_set.split, TestSigners):
        for part, rows in parts.items():
            if not rows.any():
                raise InputError(
                    f"{table}: the {part} part of its split is empty; correct the table, or choose another `split` "
                    f"for the data set {data_set.name}."
                )
    if data_set.split == LEAVE_ONE_SIGNER_OUT:
        lost = sorted(set(listed["signer"]) - set(index["signer"]) - {""})
        if lost:
            raise InputError(f"{table}: no usable clip of the signer {lost[0]}; mend its clips or take its rows out.")
        if len(known_signers(index)) < 2:
            raise InputError(f"{table} names fewer than two signers; change `split: {LEAVE_ONE_SIGNER_OUT}`.")
    return index


def rejected(listed: pd.DataFrame, *more: pd.DataFrame) -> pd.DataFrame:
    """The table of rejects: the unusable rows of a list of clips, and further tables of rejects."""
    unusable = listed.loc[listed["reason"] != "", list(REJECT_COLUMNS)]
    return pd.concat([unusable, *more], ignore_index=True) if more else unusable.reset_index(drop=True)


def known_signers(table: pd.DataFrame) -> list[str]:
    """The signers that a table names, sorted."""
    return sorted(set(table["signer"]) - {""})


def write_index(index: pd.DataFrame, data_set: DataSet) -> None:
    """Write data/<name>/index.csv, whole or not at all."""
    write_table(index, data_set.index)


def read_index(data_set: DataSet) -> pd.DataFrame:
    """Read data/<name>/index.csv: strings, '' for none; begin, end and frames whole numbers or ''; paths made absolute.

    Raises:
        InputError: it is absent or lacks a column.
    """
    stage = "import_landmarks" if data_set.landmark_import else "corpus"
    module = "exchange" if data_set.landmark_import else "corpus"
    remedy = f"make it by the stage {stage} (python -m slr_lib.{module} --dataset {data_set.name})"
    if not data_set.index.is_file():
        raise InputError(f"{data_set.index} is missing; {remedy}.")
    index = pd.read_csv(data_set.index, dtype=str, keep_default_na=False, encoding="utf-8").astype(object)
    lacking = [name for name in COLUMNS if name not in index]
    if lacking:
        raise InputError(f"{data_set.index} lacks the column {', '.join(lacking)}; {remedy}.")
    for name in _NUMBERS:
        index[name] = [int(value) if value else "" for value in index[name]]
    index["path"] = [str(find_home() / path) if path else "" for path in index["path"]]
    return index


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV, whole or not at all; the same table gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        table.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_rows(path: Path, separator: str | None, expected: str) -> tuple[list[str], list[tuple[int, list[str], str]]]:
    """Read a table's header, and of each row its number, its values, and what is wrong with it ('' for nothing).

    Args:
        separator: None takes tabs where the header has one, else commas.
        expected: what the file should be and the remedy, said where it is absent or empty.

    Raises:
        InputError: the file is absent, no UTF-8 text, malformed as a whole, or empty.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such table. {expected}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text ({error}); save it in UTF-8.") from error
    if "\0" in text:
        raise InputError(f"{path} is no table (it holds zero bytes); restore it.")
    if separator is None:
        separator = "\t" if "\t" in text.partition("\n")[0] else ","
    try:
        lines = list(csv.reader(io.StringIO(text), delimiter=separator, strict=True))
    except csv.Error as error:
        raise InputError(f"{path} is malformed ({error}); mend its quotes.") from error
    header = [name.strip() for name in lines[0]] if lines else []
    twice = sorted({name for name in header if header.count(name) > 1})
    if not header or twice:
        fault = f"names the column {twice[0]} twice" if twice else "has no header line"
        raise InputError(f"{path} {fault}; mend it.")
    rows = []
    for number, values in enumerate(lines[1:], 1):
        if not values:
            continue  # an empty line
        fault = ""
        if len(values) != len(header):
            fault = f"has {len(values)} fields, not {len(header)}"
        elif any("\n" in value for value in values):
            fault = "has a field that runs over several lines, perhaps for a stray quote"
        rows.append((number, [value.strip() for value in values], fault))
    if not rows:
        raise InputError(f"{path} lists no clip; fill it. {expected}")
    return header, rows
