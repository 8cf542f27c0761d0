"""Tables and landmarks -> charts. Every function draws one chart and returns its axes; `save` writes PNG and SVG.

Colours after Okabe and Ito (jfly.uni-koeln.de/color), which the colour-blind tell apart; wherever colour carries
meaning, a hatch, marker or word carries it too. Charts of trainings and tests are in
result_charts.py, published beside measured figures in comparison.py.
"""

from __future__ import annotations

import contextlib
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

if TYPE_CHECKING:
    from slr_lib.skeleton import Skeleton

STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#888888", "axes.axisbelow": True, "axes.grid": False, "grid.color": "#E4E4E4",
    "legend.frameon": False, "legend.fontsize": 8.5, "figure.dpi": 100, "savefig.dpi": 150, "hatch.linewidth": 0.8,
    "figure.facecolor": "white", "figure.max_open_warning": 0, "svg.hashsalt": "slr_lib", "svg.fonttype": "path",
}
BLUE, ORANGE, GREEN, GREY, RED = "#0072B2", "#E69F00", "#009E73", "#888888", "#D55E00"
# bars of figures measured here: on real clips, and on synthetic ones
MEASURED = {"facecolor": BLUE, "edgecolor": BLUE}
SYNTHETIC = {"facecolor": "#F6C667", "edgecolor": "#B26A00", "hatch": "////"}
SPLITS = {"train": "#A9B1BA", "val": "#F0E442", "test": BLUE, "": "#DDDDDD"}
SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test", "": "no split"}
TILE = 220  # pixels: height of one picture of a contact sheet

_PART_COLOURS = {("hand", "left"): (0, 158, 115), ("hand", "right"): (213, 94, 0), ("hand", None): (213, 94, 0),
                 ("face", None): (86, 180, 233), ("body", None): (240, 228, 66)}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The project's look, for a `with` block or as a decorator of a function that draws.

    Not matplotlib's rc_context: at its end it would also switch interactive mode back, which a notebook's backend turns
    on when the first chart loads it, and the notebook would show no further chart.
    """
    before = {name: plt.rcParams[name] for name in STYLE}
    plt.rcParams.update(STYLE)
    try:
        yield
    finally:
        plt.rcParams.update(before)


def save(axes: Axes | np.ndarray, path: str | os.PathLike, svg: bool = True) -> list[Path]:
    """Write the figure of `axes` as `<path>.png` and `<path>.svg`; the same chart gives the same bytes.

    Args:
        svg: False for pictures of clips, which are pixels anyhow.
    """
    figure = np.ravel(axes)[0].figure
    written = []
    for kind in ("png", "svg") if svg else ("png",):
        target = Path(f"{path}.{kind}")
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}")
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        with style():
            figure.savefig(draft, format=kind, metadata=metadata)
        draft.replace(target)
        written.append(target)
    return written


def save_all(charts: dict[str, Axes | np.ndarray], folder: Path) -> list[Path]:
    """Save charts by name into a folder that holds nothing else: pictures left over from an earlier run go.

    Charts that show pictures of clips (names that begin with contact_sheet) are written as PNG alone.
    """
    written = []
    for name, axes in charts.items():
        written += save(axes, folder / name, svg=not name.startswith("contact_sheet"))
    for path in sorted(folder.glob("*.png")) + sorted(folder.glob("*.svg")):
        if path not in written:
            path.unlink()
    return written


def new_axes(width: float, height: float) -> Axes:
    """One pair of axes on a figure of its own, inches."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def write_heading(axes: Axes | np.ndarray, title: str, note: str = "") -> None:
    """Title at the figure's top left, note (what to know in order to read it) at its bottom left."""
    figure = np.ravel(axes)[0].figure
    letters = int(figure.get_figwidth() * 12)
    figure.suptitle(textwrap.fill(title, int(letters * 0.85)), x=0.01, ha="left", fontsize=11, fontweight="bold")
    if note:
        figure.supxlabel(textwrap.fill(note, int(letters * 1.25)), x=0.01, ha="left", fontsize=8, color="#555555")


def per_cent(axes: Axes, side: str, label: str) -> None:
    """An axis (`x` or `y`) from 0 to 100 with light grid lines."""
    axes.set(**{f"{side}lim": (0, 100), f"{side}label": label})
    axes.grid(axis=side)


def legend_beside(axes: Axes, handles: list | None = None) -> None:
    """The legend to the right of the axes, where it covers nothing."""
    handles = axes.get_legend_handles_labels()[0] if handles is None else handles
    if handles:
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1))


def short(name: str, longest: int = 18) -> str:
    """A name cut to what fits beside an axis; in the middle, for names are often told apart by their ends."""
    end = longest // 3
    return name if len(name) <= longest else f"{name[: longest - 1 - end]}…{name[-end:]}"


@style()
def clips_by(index: pd.DataFrame, column: str, subject: str, top: int = 25) -> Axes:
    """Clips of every sign (`column="gloss"`) or signer, most first, split by split. index: gloss, signer, split."""
    words = {"gloss": "signs", "signer": "signers"}[column]
    known = index[index[column].fillna("") != ""]
    counts = known.assign(split=known["split"].fillna("")).groupby([column, "split"]).size().unstack(fill_value=0)
    order = counts.sum(axis=1).rename("n").reset_index().sort_values(["n", column], ascending=[False, True])[column]
    rows = counts.loc[order[:top]]
    axes = new_axes(7.5, 1.3 + 0.22 * max(len(rows), 3))
    left = np.zeros(len(rows))
    for split in (split for split in SPLITS if split in rows):
        look = {"color": SPLITS[split], "edgecolor": "white", "label": SPLIT_WORDS[split]}
        axes.barh(range(len(rows)), rows[split], left=left, **look)
        left += rows[split].to_numpy()
    axes.set_yticks(range(len(rows)), [short(name, 18 if column == "signer" else 40) for name in rows.index])
    axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    axes.set_xlabel("clips")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="x")
    legend_beside(axes)
    shown = f"The {len(rows)} of {len(counts)} with most clips." if len(rows) < len(counts) else ""
    unknown = f" {len(index) - len(known)} clips of unknown {words} are left out." if len(known) < len(index) else ""
    write_heading(axes, f"{subject}: {len(counts)} {words}, {len(known)} clips", shown + unknown)
    return axes


@style()
def clip_lengths(frames: pd.Series, subject: str) -> Axes:
    """Histogram of the clips' lengths in frames, with the median."""
    frames = pd.to_numeric(frames, errors="coerce").dropna()
    axes = new_axes(7.5, 3.2)
    if len(frames):
        longest = max(float(frames.quantile(0.99)), float(frames.min()) + 1)
        step = int(np.ceil((longest - frames.min()) / 40)) or 1  # whole frames: else some bars hold one length more
        edges = np.arange(frames.min() - 0.5, longest + step + 0.5, step)
        sns.histplot(frames.clip(upper=longest), bins=edges, color=BLUE, alpha=1, edgecolor="white", ax=axes)
        median = frames.median()
        axes.axvline(median, color=RED, linestyle="--", label=f"median: {median:g} frames")
        legend_beside(axes)
    axes.set(xlabel="frames", ylabel="clips")
    axes.grid(axis="y")
    longer = int((frames > longest).sum()) if len(frames) else 0
    note = f"The last bar holds what is longer than {longest:.0f} frames ({longer} of {len(frames)})." if longer else ""
    write_heading(axes, f"{subject}: length of {len(frames)} clips", note)
    return axes


@style()
def parts_over_time(points: np.ndarray, times: np.ndarray, skeleton: Skeleton, subject: str) -> Axes:
    """When in a clip each part of the body was found. points: [T, P, C], NaN = missing; times: [T] seconds."""
    rank = {"hand": 0, "body": 1, "face": 2}
    parts = sorted(skeleton.parts, key=lambda part: rank[part.kind])[:8]
    axes = new_axes(7.5, 1.3 + 0.35 * len(parts))
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1 / 30
    labels = []
    for y, part in enumerate(parts):
        found = np.isfinite(points[:, list(part.points), :2]).all(axis=2).any(axis=1)
        colour = np.array(_part_colour(part)) / 255 * 0.92
        axes.broken_barh([(float(time), step) for time in times[found]], (y - 0.35, 0.7), color=colour, linewidth=0)
        labels.append(f"{part.name.replace('_', ' ')}: {found.mean():.0%}" if len(found) else part.name)
    axes.set_yticks(range(len(parts)), labels)
    axes.set_ylim(len(parts) - 0.4, -0.6)
    axes.set(xlabel="seconds", xlim=(0, float(times[-1]) + step if len(times) else 1))
    write_heading(axes, subject, "When each part was found; per cent of the frames.")
    return axes


@style()
def detection_shares(detection: pd.DataFrame, subject: str = "Extraction") -> Axes:
    """How often each part was found, over the clips: a dot a clip, a line at the median.

    Args:
        detection: a row a clip; every column of numbers but `frames` is a share of frames, 0 to 1.
    """
    shares = detection.select_dtypes("number").drop(columns=["frames"], errors="ignore")
    axes = new_axes(7.5, 1.3 + 0.45 * max(shares.shape[1], 2))
    spread = np.random.default_rng(0).uniform(-0.25, 0.25, len(shares))
    for y, name in enumerate(shares):
        values = 100 * shares[name].to_numpy(float)
        alpha = max(0.05, min(0.5, 60 / max(len(values), 1)))
        axes.plot(values, y + spread, ".", color=BLUE, alpha=alpha, markersize=5)
        if np.isfinite(values).any():
            middle = [np.nanmedian(values)] * 2
            axes.plot(middle, [y - 0.38, y + 0.38], color=RED, linewidth=2, label="" if y else "median")
    axes.set_yticks(range(shares.shape[1]), [name.replace("_", " ") for name in shares])
    axes.set_ylim(shares.shape[1] - 0.4, -0.6)
    per_cent(axes, "x", "share of a clip's frames in which it was found, per cent")
    axes.set_xlim(-2, 102)
    legend_beside(axes)
    write_heading(axes, f"{subject}: what was found in {len(detection)} clips", "A dot is a clip.")
    return axes


def draw_landmarks(
    frame: np.ndarray, points: np.ndarray, skeleton: Skeleton, height: int | None = None
) -> np.ndarray:
    """A copy of a picture with a frame's landmarks drawn over it: left hand green, right red, face blue, body yellow.

    Of the points that no edge joins, only those of the skeleton's selection are drawn: 468 dots would hide the face.

    Args:
        frame: uint8 [height, width, 3], RGB.
        points: [P, 2 or more], x and y as shares of the picture's width and height, NaN = missing.
        height: pixels to which the picture is scaled first (its width to an even number, as films want).
    """
    picture = np.array(frame, dtype=np.uint8, order="C")
    if height is not None:
        picture = _scale(picture, height, max(2, 2 * round(picture.shape[1] * height / picture.shape[0] / 2)))
    height, width = picture.shape[:2]
    thick = max(1, round(min(height, width) / 200))
    found = np.isfinite(points[:, :2]).all(axis=1) & (np.abs(np.nan_to_num(points[:, :2])) < 4).all(axis=1)
    places = np.rint(np.nan_to_num(points[:, :2]) * (width - 1, height - 1)).astype(int)
    colours = {point: _part_colour(part) for part in skeleton.parts for point in part.points}
    joined = {point for edge in skeleton.edges for point in edge}
    for start, end in skeleton.edges:
        if found[start] and found[end]:
            colour = colours.get(end, (200, 200, 200))
            cv2.line(picture, tuple(map(int, places[start])), tuple(map(int, places[end])), colour, thick, cv2.LINE_AA)
    hands = {point for part in skeleton.parts if part.kind == "hand" for point in part.points}
    lone = (set(skeleton.selection) or set(range(len(points)))) - joined
    for point in sorted(hands | lone):
        if found[point]:
            colour = colours.get(point, (200, 200, 200))
            cv2.circle(picture, tuple(map(int, places[point])), thick, colour, -1, cv2.LINE_AA)
    return picture


def draw_skeletons(points: np.ndarray, skeleton: Skeleton, aspect: float = 1.0) -> list[np.ndarray]:
    """Pictures of landmarks alone, where there is no video: a clip [T, P, C] fitted into a dark square, TILE high.

    Args:
        aspect: width of a unit of x by that of y (a picture's width / height where x and y are shares of it).
    """
    plane = points[..., :2].astype(np.float64) * (aspect, 1)
    dark = np.full((TILE, TILE, 3), 34, np.uint8)
    if not np.isfinite(plane).all(axis=-1).any():
        return [dark.copy() for _ in plane]
    low, high = np.nanmin(plane, axis=(0, 1)), np.nanmax(plane, axis=(0, 1))
    plane = 0.5 + (plane - (low + high) / 2) / max((high - low).max(), 1e-6) * 0.9
    return [draw_landmarks(dark, frame, skeleton) for frame in plane]


@style()
def contact_sheet(
    clips: Sequence[tuple[str, Sequence[np.ndarray]]], title: str, note: str = "", columns: int = 2
) -> np.ndarray:
    """Clips as strips of pictures, `columns` strips a row.

    Args:
        clips: (caption, pictures uint8 [height, width, 3] RGB) for every clip.

    Returns:
        axes [rows, columns]
    """
    shapes = [picture.shape for _, pictures in clips for picture in pictures]
    width = int(TILE * np.clip(np.median([shape[1] / shape[0] for shape in shapes] or [1]), 0.5, 1.8))
    long = max((len(pictures) for _, pictures in clips), default=1)
    rows = max(1, -(-len(clips) // columns))
    size = (columns * (long * (width + 4) + 20) / 150, rows * (TILE + 44) / 150 + 0.8)
    axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")[1]
    for panel in axes.flat:
        panel.set_axis_off()
    for panel, (caption, pictures) in zip(axes.flat, clips):
        strip = np.full((TILE, long * (width + 4), 3), 255, np.uint8)
        for place, picture in enumerate(pictures):
            tile = _fit(picture, TILE, width)
            strip[:, place * (width + 4) : place * (width + 4) + width] = tile
        panel.imshow(strip, interpolation="antialiased")
        panel.set_title(caption, fontsize=8, loc="left", pad=3)
    write_heading(axes, title, note)
    return axes


def _fit(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    scale = min(height / picture.shape[0], width / picture.shape[1])
    high, wide = max(1, round(picture.shape[0] * scale)), max(1, round(picture.shape[1] * scale))
    tile = np.full((height, width, 3), 235, np.uint8)
    top, left = (height - high) // 2, (width - wide) // 2
    tile[top : top + high, left : left + wide] = _scale(picture, high, wide)
    return tile


def _scale(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    method = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(picture, (width, height), interpolation=method)


def _part_colour(part) -> tuple[int, int, int]:
    return _PART_COLOURS.get((part.kind, part.side)) or _PART_COLOURS.get((part.kind, None), (200, 200, 200))
