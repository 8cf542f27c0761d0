"""The table of compared models: reading it, and what it says of each model and of ours against the references."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from slr_lib.errors import InputError

KEY = ("model", "data_set", "signs", "fold", "seed", "epochs", "recipe")
_MEASURED = ("clips", "top1", "top5", "mean_accuracy")
COLUMNS = ("date", *KEY, "code", "seconds", "device", "threads", "parameters", "epoch", "train_clips",
           *(f"{part}_{name}" for part in ("val", "test") for name in _MEASURED), "clips")
RESAMPLES = 10_000
_TEXT = ("date", "model", "data_set", "fold", "recipe", "code", "device", "clips")  # a hash may look like a number


def read_table(path: Path) -> pd.DataFrame:
    """The rows of a table that compare_models wrote, none where there is no file.

    Raises:
        InputError: it has other columns.
    """
    if not path.is_file():
        rows = pd.DataFrame({name: pd.Series(dtype=str if name in _TEXT else float) for name in COLUMNS})
        return rows.astype({"signs": int, "seed": int, "epochs": int})
    rows = pd.read_csv(path, dtype=dict.fromkeys(_TEXT, str))
    if tuple(rows.columns) != COLUMNS:
        raise InputError(f"{path}: other columns than this version writes; move the file away.")
    return rows


@contextmanager
def locked(table: Path) -> Iterator[None]:
    """The table is this process's alone."""
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.with_name(f".{table.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find_row(rows: pd.DataFrame, key: dict) -> dict | None:
    """The row of the run with this key, or None."""
    found = rows[_same(rows, key)]
    return found.iloc[0].to_dict() if len(found) else None


def put_row(rows: pd.DataFrame, row: dict, key: dict) -> pd.DataFrame:
    """The rows with one more, in place of that of the same run."""
    kept, added = rows[~_same(rows, key)], pd.DataFrame([row]).reindex(columns=rows.columns)
    return pd.concat([kept, added]) if len(kept) else added


def _same(rows: pd.DataFrame, key: dict) -> pd.Series:
    return (rows[list(key)].astype(str) == pd.Series(key).astype(str)).all(axis=1)


def render(rows: pd.DataFrame, folder: Path, references: tuple[str, ...]) -> str:
    """Markdown: for every task a table of the models, then ours less the best reference, clip by clip.

    Of a model's recipes the one that validation prefers enters the difference; the best reference is the one with the
    highest top-1 on the test part. Correctness of a clip is averaged over a model's runs before clips are resampled.

    Args:
        folder: of the clips' ranks; references: the models that are not ours.
    """
    lines = []
    for (data_set, signs), task in rows.groupby(["data_set", "signs"], sort=True):
        lines += [f"## {data_set}, {signs} signs", "", *_models(task, folder), ""]
        lines += [*_differences(task, folder, references), ""]
    return "\n".join(lines) + "\n" if lines else "No run yet.\n"


def _models(task: pd.DataFrame, folder: Path) -> list[str]:
    lines = ["| model | epochs, at least | recipe | runs | M parameters | trained on | minutes a run "
             "| val top-1 | test top-1 (95 %) | test top-5 | test mean accuracy |", "|" + "---|" * 11]
    for (model, epochs, recipe), runs in task.groupby(["model", "epochs", "recipe"], sort=True):
        tested = runs[runs["test_clips"].notna()]
        test = ["", "", ""]
        if len(tested):
            low, high = interval(correctness(tested, folder).to_numpy())
            test = [f"{_mean(tested, 'test_top1')} ({low:.1f} to {high:.1f})", _mean(tested, "test_top5"),
                    _mean(tested, "test_mean_accuracy")]
        counted = f"{len(runs)}" + (f", {len(tested)} tested" if len(tested) < len(runs) else "")
        if runs["code"].nunique() > 1:
            counted += f", of {runs['code'].nunique()} versions of the code"
        minutes = "" if runs["seconds"].isna().all() else f"{runs['seconds'].mean() / 60:.1f}"
        cells = [model, epochs, recipe, counted, f"{runs['parameters'].mean() / 1e6:.2f}",
                 ", ".join(sorted(runs["device"].dropna().unique())), minutes, _mean(runs, "val_top1"), *test]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def _mean(runs: pd.DataFrame, name: str) -> str:
    """Mean over the runs, and their spread where there are several; nothing where it was not measured."""
    if runs[name].isna().all():
        return ""
    spread = f" ± {runs[name].std():.1f}" if len(runs) > 1 else ""
    return f"{runs[name].mean():.1f}{spread}"


def _differences(task: pd.DataFrame, folder: Path, references: tuple[str, ...]) -> list[str]:
    tested = task[task["test_clips"].notna()]
    chosen = {model: _preferred(runs) for model, runs in tested.groupby("model", sort=True)}
    rivals = {model: runs for model, runs in chosen.items() if model in references}
    if not rivals:
        return ["No reference has met the test part."]
    best = max(rivals, key=lambda model: rivals[model]["test_top1"].mean())
    lines = []
    for model, runs in chosen.items():
        if model in references:
            continue
        mine, theirs = correctness(runs, folder), correctness(rivals[best], folder)
        if set(mine.index) != set(theirs.index):
            raise InputError(f"{model} and {best} were tested on other clips of {runs['data_set'].iloc[0]}; run both "
                             "on the same folds of the same clips, with --again.")
        difference = (mine - theirs[mine.index]).to_numpy()
        low, high = interval(difference)
        lines.append(f"{model} less {best}, the best reference: {100 * difference.mean():+.1f} points of top-1, 95 % "
                     f"interval {low:+.1f} to {high:+.1f} ({len(difference)} test clips, {len(runs)} and "
                     f"{len(rivals[best])} runs).")
    return lines


def _preferred(runs: pd.DataFrame) -> pd.DataFrame:
    """A model's runs with one recipe and number of epochs: those that validation prefers, else the latest."""
    score = "val_mean_accuracy" if runs["val_mean_accuracy"].notna().any() else "date"
    groups = [group for _, group in runs.groupby(["epochs", "recipe"], sort=True)]
    return max(groups, key=lambda group: group[score].max() if score == "date" else group[score].mean())


def correctness(runs: pd.DataFrame, folder: Path) -> pd.Series:
    """Share of the runs that recognise a test clip, by fold and clip."""
    tables = []
    for fold, name in zip(runs["fold"], runs["clips"]):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing; run its row again with --again.")
        table = pd.read_csv(folder / name, dtype={"clip": str})
        tables.append(table[table["part"] == "test"].assign(fold=fold))
    table = pd.concat(tables)
    return (table["rank"] == 0).groupby([table["fold"], table["clip"]]).mean()


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval, in per cent, of the mean of clips' values, by resampling clips."""
    random, count = np.random.default_rng(seed), len(values)
    means = np.concatenate([
        random.multinomial(count, np.full(count, 1 / count), size=500) @ values / count
        for _ in range(RESAMPLES // 500)
    ])
    low, high = np.percentile(100 * means, [2.5, 97.5])
    return float(low), float(high)
