"""What others published, and which of our figures may stand beside it.

`published.csv` holds every published row with its source and how sure it is (column `mark`):
V read in primary code, README or write-up; A abstract only; S secondary source; D derived from another figure.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from slr_lib.data_sets import DataSet
from slr_lib.errors import InputError

SLOVO = "slovo"
MARKS = {"V": "read in the source", "A": "abstract only", "S": "secondary source", "D": "derived"}
BYTES_A_PARAMETER = 4  # float32
MODELS = ("base", "round_1", "round_2")
BY_FOLD = "by_fold"  # the headline where the folds of a data set picked different models
FIGURES = (
    "n_test", "mean_accuracy", "mean_accuracy_low", "mean_accuracy_high", "top1", "top5",
    "macro_precision", "macro_recall", "macro_f1",
)

_WHOLE = ("signs", "frames", "interval")
_FRACTIONS = (
    "mean_accuracy", "top1", "top5", "macro_precision", "macro_recall", "macro_f1", "size_mb", "params_millions",
)


def published() -> pd.DataFrame:
    """Every published row: accuracies in per cent, `size_mb` in megabytes, `params_millions`; absent figures are NA.

    `origin` is `published`, `predecessor` or `predecessor's chart` (its values by skip between frames, which partly
    repeat published rows under another frame count). `data_set` says where a row was measured: rows of different
    data sets share no axis.
    """
    table = pd.read_csv(Path(__file__).with_name("published.csv"), dtype=str, keep_default_na=False)
    for column in (*_WHOLE, *_FRACTIONS):
        numbers = pd.to_numeric(table[column].where(table[column] != "", None))
        table[column] = numbers.astype("Int64" if column in _WHOLE else "Float64")
    return table


def published_on(data_set: str, signs: int) -> pd.DataFrame:
    """Rows measured on one data set at one class count, the predecessor's chart left out, best first."""
    table = published()
    table = table[table["origin"] != "predecessor's chart"]
    table = table[(table["data_set"] == data_set) & (table["signs"] == signs)]
    best = table["mean_accuracy"].fillna(table["top1"])
    return table.loc[best.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)


def frames_text(table: pd.DataFrame) -> pd.Series:
    """`frames-interval` as the authors of Slovo write it: "32-2", or "x32" where the interval is not published."""
    frames, steps = (table[column].astype("string") for column in ("frames", "interval"))
    return (frames + "-" + steps).fillna("x" + frames).fillna("")


def measured(metrics: dict, data_set: DataSet) -> pd.DataFrame:
    """The evaluate stage's metrics as a table: a row for every class count and model (MODELS, or BY_FOLD).

    Args:
        metrics: reports/<data set>/evaluate/metrics.json, `{"<N>_signs": {"headline": …, "base": …, …}}`.

    Returns:
        data_set, title, synthetic, signs, classes (signs and no_event), model, headline (the model reported), picked_by
        (why), FIGURES (per cent), interval_over, and `unseen_<figure>` for signers that training never saw (NA where
        not measured).

    Raises:
        InputError: the metrics hold no class count, or an entry has no headline or no mean accuracy.
    """
    rows = []
    for key in sorted((key for key in metrics if key.endswith("_signs")), key=lambda key: int(key.split("_")[0])):
        entry, signs = metrics[key], int(key.split("_")[0])
        models = [model for model in MODELS if isinstance(entry.get(model), dict)]
        needed = [entry.get("headline", {}), *(entry[model] for model in models)]
        if not models or any("mean_accuracy" not in figures for figures in needed):
            raise InputError(
                f"metrics of the stage evaluate for {data_set.name}: `{key}` lacks `headline`, a model or its "
                f"`mean_accuracy`; run the stage evaluate again."
            )
        headline = entry["headline"]
        picked = headline.get("model") if headline.get("model") in models else BY_FOLD
        for model in (*models, *({picked} - set(models))):
            figures = headline if model == picked else entry[model]
            unseen = figures.get("unseen_signers") or {}
            rows.append({
                "data_set": data_set.name, "title": data_set.title, "synthetic": data_set.synthetic, "signs": signs,
                "classes": signs + (data_set.no_event is not None), "model": model,
                "headline": model == picked, "picked_by": headline.get("picked_by", "") if model == picked else "",
                "interval_over": figures.get("interval_over", ""),
                **{name: figures.get(name) for name in FIGURES},
                **{f"unseen_{name}": unseen.get(name) for name in (*FIGURES, "signs")},
            })
    if not rows:
        raise InputError(f"metrics of the stage evaluate for {data_set.name} hold no `<N>_signs`; run evaluate again.")
    table = pd.DataFrame(rows)
    for column in (*FIGURES, *(f"unseen_{name}" for name in (*FIGURES, "signs"))):
        table[column] = pd.to_numeric(table[column]).astype("Float64")
    return table


def slovo_table(signs: int, measured_here: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows that may stand on Slovo's axis at one class count, best first; the one place where this is decided.

    Published rows of Slovo at this class count, and of `measured_here` only what was measured on the data set `slovo`
    itself, on real clips, at the same class count: figures of the demo or of another data set are dropped.

    Args:
        measured_here: rows of `measured`; may have `size_mb` and `frames` too.

    Returns:
        published's columns, and `label`, `kind` (published, derived, predecessor, measured), `mean_accuracy_low`,
        `mean_accuracy_high`, `headline` (of this project's rows), `size_reckoned` (the size comes from
        the parameters, at 4 bytes each).
    """
    table = published_on(SLOVO, signs)
    table["kind"] = table["origin"].where(table["mark"] != "D", "derived")
    table["label"] = table["model"] + (" " + frames_text(table)).where(table["origin"] == "published", "")
    table["headline"] = False
    table["size_reckoned"] = table["size_mb"].isna() & table["params_millions"].notna()
    table["size_mb"] = table["size_mb"].fillna(table["params_millions"] * BYTES_A_PARAMETER)
    table["mean_accuracy_low"] = table["mean_accuracy_high"] = pd.Series(pd.NA, index=table.index, dtype="Float64")
    if measured_here is not None:
        own = measured_here[
            (measured_here["data_set"] == SLOVO) & ~measured_here["synthetic"].astype(bool)
            & (measured_here["signs"] == signs)
        ]
        if len(own):
            picked = own["headline"].map({True: " (headline)", False: ""})
            own = own.assign(
                label="This project, " + own["model"].str.replace("_", " ") + picked, family="This project",
                kind="measured", origin="measured", input="landmarks", size_reckoned=False,
                mark="", source="", note="",
            )
            own = own.reindex(columns=table.columns).astype(table.dtypes.to_dict())
            table = pd.concat([table, own], ignore_index=True) if len(table) else own
    return table.sort_values("mean_accuracy", ascending=False, kind="stable").reset_index(drop=True)
