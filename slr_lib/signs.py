"""The list of signs that a data set's tasks are made of; a gloss's place in the list is its class id."""

from __future__ import annotations

import pandas as pd

from slr_lib.data_sets import LEAVE_ONE_SIGNER_OUT, OFFICIAL, DataSet, TestSigners
from slr_lib.errors import InputError
from slr_lib.index import write_table

_FIXED_ORDERS = ("table", "sorted", "frequent")


def choose_signs(listed: pd.DataFrame, data_set: DataSet) -> list[str]:
    """The ordered list of signs, without no_event.

    Args:
        listed: the table's clips, the unusable ones too (annotations.list_clips): a sign keeps its place where the
            clips that it had are rejects. An index, which lacks those, will do where there are none.

    Raises:
        InputError: an unknown order or gloss, fewer signs than the largest class count, or one of the signs needed
            (or no_event) has no training clip in the table; names the sign or the key, and the remedy.
    """
    table = _with_gloss(listed)
    name, signs = f"data set {data_set.name}", data_set.signs
    trained = set(table["gloss"][_may_train(table, data_set)])
    ordered = list(dict.fromkeys(signs.glosses)) if signs.glosses else _ordered(table, data_set)
    known = set(table["gloss"])
    for key, glosses in (("signs.glosses", ordered), ("no_event", [data_set.no_event] if data_set.no_event else [])):
        absent = [gloss for gloss in glosses if gloss not in known]
        if absent:
            raise InputError(f"{name}: its table has no clip of {_some(absent)}; correct `{key}`.")
    excluded = set(known - trained if signs.exclude == "untrained" else signs.exclude)
    unknown = sorted(excluded - known)
    if unknown:
        raise InputError(f"{name}: its table has no clip of {_some(unknown)}; correct `signs.exclude`.")
    ordered = [gloss for gloss in ordered if gloss not in excluded and gloss != data_set.no_event]
    largest = max(data_set.class_counts)
    _check_count(largest, ordered, name)
    needed = [*ordered[:largest], *([data_set.no_event] if data_set.no_event else [])]
    untrained = [gloss for gloss in needed if gloss not in trained]
    if untrained:
        raise InputError(
            f"{name}: {_some(untrained)} {'has' if len(untrained) == 1 else 'have'} no training clip in the table"
            f"{_why(data_set)}; add some, or leave signs out by `signs.exclude` (a list, or `untrained` for all such)."
        )
    return ordered


def task_glosses(signs: list[str], count: int, no_event: str | None, index: pd.DataFrame | None = None) -> list[str]:
    """Glosses of the task of `count` signs, in the order of the class ids: the first `count`, then no_event if any.

    Args:
        index: where given, no_event must be among its glosses.

    Raises:
        InputError: fewer signs than `count`, or no_event is not in the index.
    """
    _check_count(count, signs, "the list of signs")
    if no_event and index is not None and no_event not in set(index["gloss"]):
        raise InputError(f"no clip of {no_event} can be used; correct the key `no_event` of the data set, or drop it.")
    return [*signs[:count], *([no_event] if no_event else [])]


def needed_clips(listed: pd.DataFrame, signs: list[str], data_set: DataSet) -> pd.DataFrame:
    """The rows of a list of clips that the tasks need: of the first max(class_counts) signs, no_event, or no gloss."""
    needed = {*task_glosses(signs, max(data_set.class_counts), data_set.no_event), ""}
    return listed[listed["gloss"].isin(needed)].reset_index(drop=True)


def count_clips(listed: pd.DataFrame, signs: list[str], data_set: DataSet) -> pd.DataFrame:
    """How many clips each sign has: sign, listed, training_listed, usable, training_usable (then no_event's line)."""
    table = _with_gloss(listed)
    every = pd.Series(True, index=table.index)
    usable = table["reason"].eq("") if "reason" in table else every
    training = _may_train(table, data_set)
    glosses = [*signs, *([data_set.no_event] if data_set.no_event else [])]
    rows = {"listed": every, "training_listed": training, "usable": usable, "training_usable": training & usable}
    counts = {name: table["gloss"][mask].value_counts() for name, mask in rows.items()}
    columns = {name: count.reindex(glosses, fill_value=0) for name, count in counts.items()}
    return pd.DataFrame(columns).rename_axis("sign").reset_index()


def write_signs(counts: pd.DataFrame, data_set: DataSet) -> None:
    """Write data/<name>/signs.csv: the list of signs, a line each in the order of the class ids, no_event last."""
    write_table(counts, data_set.data / "signs.csv")


def read_signs(data_set: DataSet) -> list[str]:
    """The ordered list of signs, without no_event, as the first stage wrote it down.

    Raises:
        InputError: it has not run.
    """
    path = data_set.data / "signs.csv"
    if not path.is_file():
        stage = "import_landmarks" if data_set.landmark_import else "corpus"
        raise InputError(f"{path} is missing; make it by the stage {stage} (`make repro DATASET={data_set.name}`).")
    signs = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")["sign"]
    return [sign for sign in signs if sign != data_set.no_event]


def _with_gloss(listed: pd.DataFrame) -> pd.DataFrame:
    table = listed[listed["gloss"] != ""]
    return table.drop_duplicates(["clip", "gloss", "split"])  # an id given twice is one clip


def _ordered(table: pd.DataFrame, data_set: DataSet) -> list[str]:
    order = data_set.signs.order
    first = list(dict.fromkeys(table["gloss"]))
    if order == "table":
        return first
    if order == "sorted":
        return sorted(first)
    if order == "frequent":
        counts = table["gloss"][_may_train(table, data_set)].value_counts()
        return sorted(first, key=lambda gloss: (-int(counts.get(gloss, 0)), gloss))
    if order not in table:
        raise InputError(
            f"data set {data_set.name}: `signs.order: {order}` is neither {', '.join(_FIXED_ORDERS)} nor a column of "
            f"its table; correct it."
        )
    try:
        numbers = table[order].astype(float)
    except ValueError as error:
        raise InputError(
            f"data set {data_set.name}: the column `{order}` of `signs.order` must hold numbers ({error}); correct it."
        ) from error
    rank = numbers.groupby(table["gloss"]).min()
    return sorted(first, key=lambda gloss: (rank[gloss], gloss))


def _may_train(table: pd.DataFrame, data_set: DataSet) -> pd.Series:
    """[rows] bool: the clip is, in some fold, a training clip beside which another clip of its sign is tested."""
    if data_set.split == OFFICIAL:
        return table["split"] == "train"
    if isinstance(data_set.split, TestSigners):
        return ~table["signer"].isin(data_set.split.test_signers)
    if data_set.split == LEAVE_ONE_SIGNER_OUT:
        units = table["signer"]
    else:
        units = table["duplicates"].where(table["duplicates"] != "", "clip " + table["clip"].astype(str))
    return units.groupby(table["gloss"]).transform("nunique") > 1


def _why(data_set: DataSet) -> str:
    if data_set.split == OFFICIAL:
        return ""
    if isinstance(data_set.split, TestSigners):
        return " of any other than the test signers"
    return " of a second signer" if data_set.split == LEAVE_ONE_SIGNER_OUT else " beside the one that is tested"


def _check_count(count: int, signs: list[str], name: str) -> None:
    most = len(signs)
    if count > most:
        raise InputError(f"`class_counts` asks for {count} signs, but {name} has {most}; ask for {most} at most.")


def _some(glosses: list[str]) -> str:
    names = ", ".join(f"`{gloss}`" for gloss in glosses[:5])
    return names + (f" and {len(glosses) - 5} more signs" if len(glosses) > 5 else "")
