"""Clips as pictures with their landmarks: which ones a contact sheet shows, and a clip as a film."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from slr_lib.charts import TILE, draw_landmarks, draw_skeletons, short
from slr_lib.data_sets import DataSet
from slr_lib.landmark_store import LandmarkStore
from slr_lib.skeleton import Skeleton
from slr_lib.video import read_video


def choose_clips(index: pd.DataFrame, count: int, store: LandmarkStore | None = None, seed: int = 0) -> pd.DataFrame:
    """Rows of the index: clips of as many signers and signs as possible; of those in the store, where one is given."""
    shuffled = index.sample(frac=1, random_state=seed)
    if store is not None:
        shuffled = shuffled[[clip in store for clip in shuffled["clip"]]]
    # the first clip of every signer and of every sign comes before the second ones
    rank = shuffled.groupby("signer").cumcount() + shuffled.groupby("gloss").cumcount()
    return shuffled.loc[rank.sort_values(kind="stable").index[:count]]


def caption(row) -> str:
    """Gloss, signer and split of a row of the index (a named tuple)."""
    words = [short(row.gloss, 48), f"signer {short(row.signer, 16)}" if row.signer else "signer unknown", row.split]
    return " · ".join(word for word in words if word)


def clip_pictures(
    row, points: np.ndarray, skeleton: Skeleton, data_set: DataSet, wanted: set[int] | None = None, height: int = TILE
) -> Iterator[np.ndarray]:
    """Frames of a clip with its landmarks drawn over them; drawn skeletons where the data set has no videos.

    Args:
        row: a row of the index (index.read_index) as a named tuple; points: its landmarks [T, P, 3].
        wanted: places of the frames in the clip; None for all. height: of the pictures, pixels.

    Raises:
        InputError: the video cannot be read.
    """
    if data_set.kind == "landmarks":
        for place, picture in enumerate(draw_skeletons(points, skeleton, data_set.aspect)):
            if wanted is None or place in wanted:
                yield picture
        return
    span = (None if value == "" else int(value) for value in (row.begin, row.end))
    with read_video(row.path, *span) as video:
        for place, (_, picture) in enumerate(video):
            if place < len(points) and (wanted is None or place in wanted):
                yield draw_landmarks(picture, points[place], skeleton, height)


def picture_clips(
    clips: pd.DataFrame, store: LandmarkStore, skeleton: Skeleton, data_set: DataSet, pictures: int = 4
) -> list[tuple[str, list[np.ndarray]]]:
    """Caption and pictures of clips for charts.contact_sheet.

    Args:
        clips: rows of the index; the pictures are spread over the middle of each clip.

    Raises:
        InputError: a clip is not in the store, or its video cannot be read.
    """
    sheet = []
    for row in clips.itertuples():
        points = store.read(row.clip).points
        moments = np.arange(len(points))
        if data_set.kind == "landmarks" and np.isfinite(points).any():  # a moment without landmarks would be empty
            moments = moments[np.isfinite(points).any(axis=(1, 2))]
        wanted = moments[(np.linspace(0.15, 0.85, pictures) * (len(moments) - 1)).round().astype(int)]
        sheet.append((caption(row), list(clip_pictures(row, points, skeleton, data_set, set(wanted.tolist())))))
    return sheet


def colour_note(skeleton: Skeleton) -> str:
    """What the colours of drawn landmarks mean, for the foot of a contact sheet."""
    sides = "green and red: hands in the order of detection"
    words = {
        "hand": sides if skeleton.slots_by_detection else "green: the signer's left hand; red: right hand",
        "body": "yellow: body", "face": "blue: face",
    }
    kinds = {part.kind for part in skeleton.parts}
    return f"{'; '.join(text for kind, text in words.items() if kind in kinds).capitalize()}."
