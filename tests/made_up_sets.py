"""Tiny data sets of landmarks as prepare_clips leaves them, for tests; a sign is a shape and place of the hands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from slr_lib.data_sets import DataSet, load_data_set
from slr_lib.index import write_index
from slr_lib.landmark_store import ClipLandmarks, LandmarkStore
from slr_lib.packed_clips import PackedClips, pack_clips
from slr_lib.parts import write_parts
from slr_lib.skeleton import load_skeleton

PARTS = ("train", "train", "train", "val", "test")


def make_set(project: Path, name: str, skeleton: str = "hands", signs: int = 3, clips: int = 30, seed: int = 0,
             split: str = "official", **columns: dict[int, str]) -> DataSet:
    """A data set of `clips` clips, named `<name> 000` and so on, with its table.

    columns: values of the table's columns clip, split and duplicates for single clips, by their number.
    """
    source = project / "sources" / name
    source.mkdir(parents=True, exist_ok=True)
    (project / "data_sets" / f"{name}.yaml").write_text(f"""
title: Tiny
kind: landmarks
path: sources/{name}
skeleton: {skeleton}
class_counts: [{signs}]
split: {split}
import: {{format: npy, columns: {{duplicates: duplicates}}}}
""")
    data_set = load_data_set(name)
    rows = []
    for number in range(clips):
        row = {"clip": f"{name} {number:03}", "gloss": f"{name} sign {number % signs}", "signer": "",
               "split": PARTS[number // signs % 5], "duplicates": ""}
        rows.append(row | {column: given[number] for column, given in columns.items() if number in given})
    index = pd.DataFrame(rows)
    index.to_csv(source / "index.csv", index=False)
    store = LandmarkStore(data_set.landmarks)
    store.prepare()
    for number, clip in enumerate(index["clip"]):
        store.write(clip, hands_in(skeleton, number % signs, number, seed))
    write_index(index.assign(path="", begin="", end="", frames=""), data_set)
    (data_set.data / "signs.csv").write_text("sign\n" + "".join(f"{name} sign {sign}\n" for sign in range(signs)))
    pack_clips(index, store, load_skeleton(skeleton), data_set.clips, progress=False)
    write_parts(data_set, PackedClips(data_set.clips), 0.15, 0)
    return data_set


def hands_in(skeleton: str, sign: int, number: int, seed: int) -> ClipLandmarks:
    """A clip of the sign; hands lie at the same places in every skeleton that has them, other points anywhere."""
    named = load_skeleton(skeleton)
    random = np.random.default_rng((seed, number))
    frames = 9 + number % 4
    shape = np.random.default_rng((seed, sign)).normal(0.5, 0.05, (42, 3))
    shape[:21, 0] += 0.4 * sign
    hands = random.normal(shape, 0.01, (frames, 42, 3)).astype(np.float32)
    hands[2, 21:] = np.nan
    points = random.normal(0.5, 0.2, (frames, len(named.points), 3)).astype(np.float32)
    places = [place for place, point in enumerate(named.points) if "_hand_" in point]
    points[:, places] = hands[:, : len(places)]
    return ClipLandmarks(points, np.arange(frames) / 30)
