"""Charts of what a training did and of where its model errs; functions return their axes, charts.save writes them."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from slr_lib.charts import (
    BLUE,
    GREY,
    MEASURED,
    ORANGE,
    SYNTHETIC,
    legend_beside,
    new_axes,
    per_cent,
    short,
    style,
    write_heading,
)

# by_fold: each fold's own choice, where they differ
RUNS = {"base": "base training", "round_1": "fine-tuning, round 1", "round_2": "fine-tuning, round 2",
        "by_fold": "picked fold by fold"}

_CURVES = (  # column, colour, line, words, row of panels
    ("train_loss", GREY, "--", "training", 0), ("val_loss", BLUE, "-", "validation", 0),
    ("val_top1", ORANGE, "--", "top-1", 1), ("val_mean_accuracy", BLUE, "-", "mean accuracy", 1),
)


@style()
def training_curves(curves: pd.DataFrame, subject: str) -> np.ndarray:
    """Loss (upper row) and validation accuracy (lower row) by epoch, a column for every run.

    Args:
        curves: epoch, train_loss, val_loss, val_top1, val_mean_accuracy (per cent), run (base, round_1, round_2), fold.

    Returns:
        axes [2, number of runs]
    """
    runs = [run for run in RUNS if run in set(curves["run"])]
    size = (1.9 + 2.7 * len(runs), 5.0)
    axes = plt.subplots(2, len(runs), figsize=size, sharex="col", sharey="row", squeeze=False, layout="constrained")[1]
    folds = curves["fold"].nunique()
    for run, panels in zip(runs, axes.T):
        part = curves[curves["run"] == run]
        for name, colour, line, words, row in _CURVES:
            if part[name].notna().any():
                for _, fold in part.groupby("fold") if folds > 1 else ():
                    panels[row].plot(fold["epoch"], fold[name], line, color=colour, linewidth=0.7, alpha=0.35)
                mean = part.groupby("epoch")[name].mean()
                panels[row].plot(mean.index, mean, line, color=colour, label=words, marker="o" if len(mean) < 2 else "")
        if not part["val_mean_accuracy"].notna().any():
            panels[1].text(0.5, 0.5, "no validation clips:\nfixed number of epochs", transform=panels[1].transAxes,
                           ha="center", va="center", color="#555555")
        panels[0].set_title(RUNS[run], fontsize=9)
        panels[1].set_xlabel("epoch")
    axes[0, 0].set(ylabel="loss", ylim=(0, None))
    axes[1, 0].set(ylabel="on validation clips, per cent", ylim=(0, 100))
    for panel in axes.flat:
        panel.grid(axis="y")
        panel.xaxis.get_major_locator().set_params(integer=True)
    for row in axes:
        drawn = [panel.get_legend_handles_labels()[0] for panel in row]
        legend_beside(row[-1], max(drawn, key=len))
    write_heading(axes, f"{subject}: training", f"Thin: {folds} folds; bold: their mean." if folds > 1 else "")
    return axes


@style()
def confused_pairs(confusions: pd.DataFrame, subject: str, top: int = 15, synthetic: bool = False) -> Axes:
    """The most frequent confusions. confusions: gloss, taken_for, count, share (of the gloss's clips, 0 to 1)."""
    rows = confusions.sort_values(["count", "share", "gloss", "taken_for"], ascending=[False, False, True, True])
    rows = rows.head(top)
    axes = new_axes(7.5, 1.3 + 0.27 * max(len(rows), 2))
    if rows.empty:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "No clip of the test split was taken for another sign.", ha="center")
        write_heading(axes, f"{subject}: most confused pairs")
        return axes
    bars = axes.barh(range(len(rows)), rows["count"], **(SYNTHETIC if synthetic else MEASURED))
    _bar_texts(axes, bars, [f"{share:.0%} of its clips" for share in rows["share"]])
    pairs = zip(rows["gloss"], rows["taken_for"])
    axes.set_yticks(range(len(rows)), [f"{short(gloss, 34)}  →  {short(taken, 34)}" for gloss, taken in pairs])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, float(rows["count"].max()) * 1.3)
    axes.set_xlabel("test clips")
    axes.xaxis.get_major_locator().set_params(integer=True)
    which = f"The {len(rows)} most frequent of {len(confusions)} pairs" if len(rows) < len(confusions) else "All pairs"
    write_heading(axes, f"{subject}: most confused pairs", f"{which}: sign  →  what it was taken for.")
    return axes


@style()
def accuracy_by_signer(per_signer: pd.DataFrame, subject: str, top: int = 25) -> Axes:
    """Accuracy for every signer of the test split. per_signer: signer, n, accuracy (per cent), seen (in training)."""
    rows = per_signer.sort_values(["n", "signer"], ascending=[False, True]).head(top)
    rows = rows.sort_values(["accuracy", "n"], ascending=False, kind="stable")
    axes = new_axes(7.5, 1.5 + 0.25 * max(len(rows), 3))
    low, high = _wilson(rows["accuracy"] / 100, rows["n"])
    looks = ((False, BLUE, "o", "not seen in training"), (True, ORANGE, "s", "seen in training"))
    for seen, colour, marker, words in looks:
        part = (rows["seen"].astype(bool) == seen).to_numpy()
        if part.any():
            y = np.flatnonzero(part)
            axes.hlines(y, low[part], high[part], color=colour, linewidth=1.2)
            axes.plot(rows["accuracy"][part], y, marker, color=colour, markersize=6, label=words)
    names = [short(name) if name else "unknown signers" for name in rows["signer"]]
    axes.set_yticks(range(len(rows)), [f"{name} (n = {n})" for name, n in zip(names, rows["n"])])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    per_cent(axes, "x", "top-1, per cent")
    legend_beside(axes)
    note = "n: test clips. Lines: 95 % interval over clips (Wilson)."
    if len(rows) < len(per_signer):
        note = f"The {len(rows)} of {len(per_signer)} signers with most test clips. {note}"
    write_heading(axes, f"{subject}: accuracy by signer", note)
    return axes


@style()
def accuracy_by_sign(per_sign: pd.DataFrame, subject: str, worst: int = 20, synthetic: bool = False) -> np.ndarray:
    """How accuracy spreads over the signs, and the worst ones by name. per_sign: gloss, n, accuracy (per cent).

    Returns:
        axes [2]: histogram, bars
    """
    rows = per_sign.sort_values(["accuracy", "n", "gloss"], ascending=[True, False, True]).head(worst)
    size = (8.5, 1.5 + 0.23 * max(len(rows), 8))
    axes = plt.subplots(1, 2, figsize=size, width_ratios=(1, 1.2), layout="constrained")[1]
    # bars around 0, 10, … 100: shares of few clips are round numbers, and would fall on the edges between bars
    accuracy = per_sign["accuracy"].astype(float)
    look = SYNTHETIC if synthetic else MEASURED
    axes[0].hist(accuracy, bins=np.arange(-5, 106, 10), rwidth=0.9, **look)
    axes[0].set(xlabel="accuracy of a sign, per cent", ylabel="signs", xlim=(-6, 106))
    axes[0].yaxis.get_major_locator().set_params(integer=True)
    axes[0].grid(axis="y")
    bars = axes[1].barh(range(len(rows)), rows["accuracy"], **look)
    _bar_texts(axes[1], bars, [f"{value:.0f}" for value in rows["accuracy"]])
    names = [f"{short(gloss, 34)} (n = {n})" for gloss, n in zip(rows["gloss"], rows["n"])]
    axes[1].set_yticks(range(len(rows)), names)
    axes[1].set_ylim(len(rows) - 0.4, -0.6)
    per_cent(axes[1], "x", "accuracy, per cent")
    note = f"Right: {f'the {len(rows)} worst' if len(rows) < len(per_sign) else 'all'} of {len(per_sign)} signs."
    note += f" n: test clips. Never recognised: {int((accuracy == 0).sum())} signs."
    write_heading(axes, f"{subject}: accuracy by sign", note)
    return axes


def _bar_texts(axes: Axes, bars, texts: list[str]) -> None:
    axes.bar_label(bars, texts, padding=4, fontsize=8, color="#444444")


def _wilson(share: pd.Series, n: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share by Wilson (1927), per cent."""
    share, n, z = share.to_numpy(float), n.to_numpy(float), 1.959964
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return 100 * (centre - half), 100 * (centre + half)
