"""Charts of published and measured figures side by side; what may share an axis is decided in baselines.slovo_table.

What a figure is can be told from its look, and the legend says it: published by others (grey), by the predecessor
(light, dotted), measured here on real clips (blue), measured on synthetic ones (orange, hatched).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from slr_lib.baselines import SLOVO, frames_text
from slr_lib.charts import BLUE, GREY, MEASURED, RED, SYNTHETIC, legend_beside, new_axes, per_cent, style, write_heading
from slr_lib.errors import InputError
from slr_lib.result_charts import RUNS

# kind of figure -> how its bar looks, and the words for it in the legend
KINDS = {
    "published": ({"facecolor": "#A9B1BA"}, "published by others"),
    "derived": ({"facecolor": "white", "edgecolor": GREY, "linestyle": "--"}, "derived from a published difference"),
    "predecessor": ({"facecolor": "#EDEDED", "edgecolor": GREY, "hatch": "...."}, "published by the predecessor"),
    "measured": (MEASURED, "measured here"),
    "synthetic": (SYNTHETIC, "measured here, synthetic clips"),
}
# model family -> colour, marker
FAMILIES = {
    "MViTv2": ("#56B4E9", "o"), "Swin": ("#009E73", "s"), "ResNet-I3D": ("#CC79A7", "^"), "S3D": ("#A65628", "D"),
    "Predecessor": ("#777777", "X"), "This project": (BLUE, "*"),
}
_SMALL = {"textcoords": "offset points", "va": "center", "fontsize": 8}
ACCURACY = "mean accuracy over signs, per cent"


@style()
def accuracy_on_slovo(rows: pd.DataFrame, signs: int) -> Axes:
    """Bars of mean accuracy on Slovo, best on top; `rows` comes from baselines.slovo_table.

    Raises:
        InputError: a row was not measured on Slovo's own clips at this class count: it has no place on this axis.
    """
    _only_slovo(rows, signs)
    axes = new_axes(8.5, 1.4 + 0.27 * max(len(rows), 3))
    _bars(axes, rows)
    own = "measured" in set(rows["kind"])
    note = "Whiskers: 95 % interval." if own else "Published figures only: nothing on this axis was measured here."
    write_heading(axes, f"Slovo, {signs} signs: mean accuracy", note)
    per_cent(axes, "x", ACCURACY)
    legend_beside(axes, _kind_handles(rows["kind"]))
    return axes


@style()
def accuracy_by_size(rows: pd.DataFrame, signs: int) -> Axes:
    """Mean accuracy on Slovo against the size of the model in megabytes (logarithmic); rows of baselines.slovo_table.

    Raises:
        InputError: a row was not measured on Slovo's own clips at this class count.
    """
    _only_slovo(rows, signs)
    rows = rows[rows["size_mb"].notna()]
    axes = new_axes(8.5, 4.4)
    for family, part in _families(rows):
        colour, marker = FAMILIES[family]
        reckoned = part["size_reckoned"].any()
        axes.plot(
            part["size_mb"].astype(float), part["mean_accuracy"].astype(float), marker, color=colour, markersize=8,
            fillstyle="none" if reckoned else "full",
            label=f"{family}\n(size: 4 bytes a parameter)" if reckoned else family,
        )
    _point_texts(axes, rows, "size_mb", {family: (-8, 0) for family in ("Predecessor", "This project")})
    axes.set_xscale("log")
    axes.set_xticks([1, 3, 10, 30, 100, 300, 1000], ["1", "3", "10", "30", "100", "300", "1000"])
    axes.minorticks_off()
    axes.set_xlim(min([20.0, *rows["size_mb"].astype(float) / 3]), 1600)
    axes.set_xlabel("size of the model, MB (logarithmic)")
    note = "Beside the points: frames-interval of the video models, stages of the predecessor."
    write_heading(axes, f"Slovo, {signs} signs: accuracy against size", f"{note} {_what_is_what(rows)}")
    per_cent(axes, "y", ACCURACY)
    legend_beside(axes)
    return axes


@style()
def accuracy_by_frames(rows: pd.DataFrame, signs: int) -> Axes:
    """Mean accuracy on Slovo against the frames that a model sees; rows of baselines.slovo_table.

    The headline model of this project, which states no number of frames, is a level line with its interval.

    Raises:
        InputError: a row was not measured on Slovo's own clips at this class count.
    """
    _only_slovo(rows, signs)
    axes = new_axes(8.5, 4.4)
    placed = rows[rows["frames"].notna() & (rows["kind"] != "derived")]
    for family, part in _families(placed):
        colour, marker = FAMILIES[family]
        part = part.sort_values("frames", kind="stable")
        line = "-" if part["frames"].nunique() > 1 else ""
        x, y = part["frames"].astype(float), part["mean_accuracy"].astype(float)
        axes.plot(x, y, marker + line, color=colour, markersize=8, label=family)
    above, below = (0, 10), (0, -11)
    _point_texts(axes, placed, "frames", {"MViTv2": above, "Swin": above, "S3D": (9, -8), "ResNet-I3D": below})
    for row in rows[rows["frames"].isna() & rows["headline"]].itertuples():
        line = axes.axhline(float(row.mean_accuracy), color=BLUE, linewidth=1.2)
        line.set_label(textwrap.fill(f"{row.label}: all frames of a clip", 26))
        if pd.notna(row.mean_accuracy_low):
            low, high = float(row.mean_accuracy_low), float(row.mean_accuracy_high)
            axes.axhspan(low, high, color=BLUE, alpha=0.12, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks([16, 32, 48, 64, 128], ["16", "32", "48", "64", "128"])
    axes.set_xlim(13, 220)
    axes.set_xlabel("frames that the model sees (logarithmic)")
    note = "Beside the points: frames-interval; x48: the interval is not published."
    write_heading(axes, f"Slovo, {signs} signs: accuracy against frames", f"{note} {_what_is_what(rows)}")
    per_cent(axes, "y", ACCURACY)
    legend_beside(axes)
    return axes


@style()
def accuracy_by_skip(table: pd.DataFrame) -> Axes:
    """The predecessor's chart of video models at 64 frames by skip between frames; `table`: baselines.published()."""
    rows = table[(table["origin"] == "predecessor's chart") & (table["data_set"] == SLOVO)]
    axes = new_axes(8.5, 4.4)
    best = rows.groupby("interval")["mean_accuracy"].max()
    for family, part in _families(rows):
        colour, marker = FAMILIES[family]
        x, y = part["interval"].astype(int), part["mean_accuracy"].astype(float)
        axes.plot(x, y, marker + "-", color=colour, markersize=8, label=part["model"].iloc[0])
        for place, value in zip(x, y):
            shift = 8 if value == best[place] else -15
            axes.annotate(f"{value:.2f}", (place, value), (0, shift), **_SMALL, ha="center")
    axes.set_xticks([1, 2, 3, 4])
    axes.set_xlim(0.7, 4.3)
    axes.set_xlabel("skip between frames")
    note = (
        "All published, none measured here: as the predecessor's chart shows them, \"at 64 frames\". ResNet3D at skip "
        "1 and Swin at skip 2 repeat the authors' figures for 48 and 32 frames. The axis starts at 25."
    )
    write_heading(axes, "Slovo, 1000 signs: video models by skip between frames", note)
    per_cent(axes, "y", "accuracy, per cent")
    axes.set_ylim(25, 65)
    legend_beside(axes)
    return axes


@style()
def own_results(measured: pd.DataFrame, published: pd.DataFrame | None = None) -> Axes:
    """Mean accuracy (bars), top-1 and top-5 (markers) at one class count, on an axis of the data set's own.

    Args:
        measured: rows of baselines.measured of one data set and one class count.
        published: rows of baselines.published_on of the same data set and class count, where there are any.
    """
    first = measured.iloc[0]
    rows = _own_rows(measured)
    if published is not None and len(published):
        names = [textwrap.fill(f"{model} (published)", 28) for model in published["model"]]
        rows = pd.concat([rows, published.assign(label=names, kind="published")], ignore_index=True)
    axes = new_axes(8.5, 1.5 + 0.46 * len(rows))
    _bars(axes, rows, values=False)
    ours = (rows["kind"] != "published").to_numpy()
    for name, words, marker in (("top1", "top-1", "d"), ("top5", "top-5", ">")):
        for which, colour, by in ((ours, "black", ""), (~ours, GREY, ", published")):
            x, y = rows.loc[which, name].dropna().astype(float), np.flatnonzero(which & rows[name].notna().to_numpy())
            if len(x):
                face = colour if marker == "d" else "white"
                axes.plot(x, y, marker, color=face, markeredgecolor=colour, markersize=6, label=words + by, zorder=4,
                          clip_on=False)  # whole at 100 % too
    chance = 100 / int(first["classes"])
    axes.axvline(chance, color=RED, linewidth=1.2, linestyle=":", label=f"chance: {chance:.3g} %")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    note = f"{int(first['n_test'])} test clips." if pd.notna(first["n_test"]) else ""
    if pd.notna(first["mean_accuracy_low"]):
        note += f" Whiskers: 95 % interval, resampled over {first['interval_over'] or 'clips'}."
    if first["synthetic"]:
        note += " Synthetic clips: these figures say nothing about real signing, and compare with none on Slovo."
    write_heading(axes, f"{first['title']}: accuracy at {int(first['signs'])} signs", note.strip())
    per_cent(axes, "x", "per cent (bars: mean accuracy over signs)")
    barred = rows.loc[rows["mean_accuracy"].notna(), "kind"]
    legend_beside(axes, [*_kind_handles(barred), *axes.get_legend_handles_labels()[0]])
    return axes


def _own_rows(measured: pd.DataFrame) -> pd.DataFrame:
    """A row for every model, and one for the headline model on signers that training never saw."""
    picked = measured["headline"].map({True: "\n(headline)", False: ""})
    rows = measured.assign(
        label=measured["model"].map(RUNS) + picked,
        kind=measured["synthetic"].map({True: "synthetic", False: "measured"}),
    )
    unseen = rows[rows["headline"] & rows["unseen_mean_accuracy"].notna()]
    figures = ("mean_accuracy", "mean_accuracy_low", "mean_accuracy_high", "top1", "top5")
    unseen = unseen.assign(**{name: unseen[f"unseen_{name}"] for name in figures})
    unseen["label"] = "headline, on the test clips\nof unseen signers alone"
    return pd.concat([rows, unseen], ignore_index=True)


def _only_slovo(rows: pd.DataFrame, signs: int) -> None:
    known = rows["kind"].isin(set(KINDS) - {"synthetic"})
    strangers = rows[(rows["data_set"] != SLOVO) | (rows["signs"] != signs) | ~known]
    for row in strangers.itertuples():
        raise InputError(
            f"`{row.label}` ({row.data_set}, {row.signs} signs, {row.kind}) has no place on the axis of Slovo at "
            f"{signs} signs; take the rows from baselines.slovo_table."
        )


def _bars(axes: Axes, rows: pd.DataFrame, values: bool = True) -> None:
    """A level bar for every row, the first on top; with whiskers where an interval is known."""
    for y, row in enumerate(rows.itertuples()):
        if pd.isna(row.mean_accuracy):
            continue
        value = float(row.mean_accuracy)
        axes.barh(y, value, height=0.72, linewidth=0.8, **KINDS[row.kind][0])
        end = value
        if pd.notna(row.mean_accuracy_low):
            low, high = float(row.mean_accuracy_low), float(row.mean_accuracy_high)
            reach = [[max(0, value - low)], [max(0, high - value)]]
            axes.errorbar(value, y, xerr=reach, color="#333333", capsize=3, linewidth=1)
            end = high
        if values:
            text = f"{value:.1f}" if row.kind == "derived" else f"{value:.2f}"
            axes.annotate(text, (end, y), (4, 0), **_SMALL)
    axes.set_yticks(range(len(rows)), rows["label"])
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _kind_handles(kinds: Iterable[str]) -> list[Patch]:
    present = set(kinds)
    return [Patch(**look, linewidth=0.8, label=words) for kind, (look, words) in KINDS.items() if kind in present]


def _families(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    return ((family, rows[rows["family"] == family]) for family in FAMILIES if (rows["family"] == family).any())


def _point_texts(axes: Axes, rows: pd.DataFrame, column: str, shifts: dict[str, tuple[int, int]]) -> None:
    """Name the points; `shifts`: family -> where its texts stand from the point, in points (default: to the right)."""
    texts = frames_text(rows).where(rows["kind"] == "published", rows["label"].str.split(", ").str[-1])
    texts = texts.str.replace(" (headline)", ", headline")
    used: list[tuple[float, float, int]] = []
    for row, text in sorted(zip(rows.itertuples(), texts), key=lambda pair: -pair[0].mean_accuracy):
        x, y = float(getattr(row, column)), float(row.mean_accuracy)
        right, up = shifts.get(row.family, (8, 0))
        # a text that would stand on its neighbour's moves down to just below it
        near = [low for other, low, side in used if abs(other / x - 1) < 0.1 and side == right]
        level = y if up else min([y, *(low - 3.4 for low in near)])
        used.append((x, level, right))
        align = "center" if right == 0 else ("left" if right > 0 else "right")
        axes.annotate(text, (x, level), (right, up), **_SMALL, ha=align, color="#444444")


def _what_is_what(rows: pd.DataFrame) -> str:
    if "measured" in set(rows["kind"]):
        return "This project's figures are measured here, all others published."
    return "All published, none measured here."
