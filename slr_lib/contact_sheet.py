"""Which clips a contact sheet shows, and their pictures: the data set's index, videos and store brought together."""

from __future__ import annotations

import numpy as np
import pandas as pd

from slr_lib.charts import draw_landmarks, draw_skeletons
from slr_lib.data_sets import DataSet
from slr_lib.landmark_store import LandmarkStore
from slr_lib.skeleton import Skeleton
from slr_lib.video import read_video


def choose_clips(index: pd.DataFrame, store: LandmarkStore, count: int, seed: int = 0) -> pd.DataFrame:
    """Rows of the index: clips whose landmarks are in the store, of as many signers and signs as possible."""
    shuffled = index.sample(frac=1, random_state=seed)
    shuffled = shuffled[[clip in store for clip in shuffled["clip"]]]
    # the first clip of every signer and of every sign comes before the second ones
    rank = shuffled.groupby("signer").cumcount() + shuffled.groupby("gloss").cumcount()
    return shuffled.loc[rank.sort_values(kind="stable").index[:count]]


def picture_clips(
    clips: pd.DataFrame, store: LandmarkStore, skeleton: Skeleton, data_set: DataSet, pictures: int = 4
) -> list[tuple[str, list[np.ndarray]]]:
    """Caption and pictures of clips for charts.contact_sheet: video frames, or drawn skeletons where there is no video.

    Args:
        clips: rows of the index (index.read_index); the pictures are spread over the middle of each clip.
    """
    sheet = []
    for row in clips.itertuples():
        points = store.read(row.clip).points
        moments = np.arange(len(points))
        if data_set.kind == "landmarks":  # a moment without landmarks would be an empty picture
            moments = moments[np.isfinite(points).any(axis=(1, 2))] if np.isfinite(points).any() else moments
        wanted = np.unique(moments[(np.linspace(0.15, 0.85, pictures) * (len(moments) - 1)).round().astype(int)])
        if data_set.kind == "videos":
            frames = _frames(row, set(wanted.tolist()))
            drawn = [draw_landmarks(frames[place], points[place], skeleton) for place in wanted if place in frames]
        else:
            everything = draw_skeletons(points, skeleton, data_set.aspect)
            drawn = [everything[place] for place in wanted]
        words = [row.gloss, f"signer {str(row.signer)[:8]}" if row.signer else "signer unknown", row.split or ""]
        sheet.append((" · ".join(word for word in words if word), drawn))
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


def _frames(row, wanted: set[int]) -> dict[int, np.ndarray]:
    kept = {}
    with read_video(row.path, *(None if value == "" else int(value) for value in (row.begin, row.end))) as video:
        for place, (_, picture) in enumerate(video):
            if place in wanted:
                kept[place] = picture
    return kept
