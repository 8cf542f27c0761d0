"""How landmarks of the drawn corpus differ from the truth: the noise that slr_lib/augment.py adds in training.

    python benchmarks/noise.py --demo data/demo

Extracted minus true, both prepared as clips (so in units of the body, by the clip's own origin and unit), for frames in
which a part was found where it is. An error is split into the part's offset, the mean over its points, and each point's
own. Of each: `spread`, in x and y, of one clip at times far apart (half a second and more: the standard deviation of
differences / sqrt 2, so what is always wrong with a clip does not count), and `seconds`, in which its correlation over
time, told by the same differences, falls to 1 / e. All by medians, so that the few hands that were found on something
else do not decide. Beside them, for information: `shared_z`, `own_z`, the spreads in z; `always`, the root mean square
of the mean over all clips (extractor and figure mean other places by a point); and `clip`, how far the means of single
clips lie from it. Prints a Markdown table; the last line is one JSON object. The stages corpus and extract_landmarks
must have run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from slr_lib.clips import ClipSettings, prepare_clip
from slr_lib.data_sets import load_data_set
from slr_lib.errors import InputError
from slr_lib.landmark_store import ClipLandmarks, LandmarkStore
from slr_lib.skeleton import HOLISTIC, Part

SKELETON, _ = HOLISTIC.select()
WHOLE = ClipSettings(keep_handless=True)  # so that both clips keep the same frames
FAR = 0.5      # seconds: by then the errors of two frames have little to do with each other
ASTRAY = 0.25  # units of the body, half a hand's length: a part farther off (median of its points) is another thing
FEWEST = 8     # frames with a part, for a clip's mean to be told
IN_PICTURE, DEPTH = slice(0, 2), slice(2, 3)
_NORMAL = 1.4826  # standard deviation / median of absolute values, of a normal distribution


class Errors(NamedTuple):
    """points float [T, P, 3], extracted minus true, in units of the body; seen bool [T, P], or [T] of a
    part; times [T] seconds."""

    points: np.ndarray
    seen: np.ndarray
    times: np.ndarray


def main(arguments: list[str] | None = None) -> None:
    """Run the measurement; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, default=load_data_set("demo").data,
                        help="folder of the demo data set, with corpus and landmarks")
    options = parser.parse_args(arguments)
    clips = list(errors(options.demo))
    figures = {kind: measure([[track(clip, part) for clip in clips] for part in SKELETON.parts if part.kind == kind])
               for kind in ("hand", "face", "body")}
    names = list(figures["hand"])
    print(f"\n| kind | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}")
    for kind, row in figures.items():
        print(f"| {kind} | {' | '.join(str(row[name]) for name in names)} |")
    print(json.dumps({"clips": len(clips), **figures}))


def errors(demo: Path) -> Iterator[Errors]:
    """Of every clip in which somebody was found in every frame.

    Raises:
        InputError: there are no truths, or a clip is not extracted.
    """
    store = LandmarkStore(demo / "landmarks")
    paths = sorted((demo / "corpus" / "truth").glob("*.npz"))
    if not paths:
        raise InputError(f"{demo}: no truth of a drawn corpus; run the stages corpus and extract_landmarks first.")
    for path in tqdm(paths, unit="clip"):
        if path.stem not in store:
            raise InputError(f"{path.stem} is not in {store.folder}; run the stage extract_landmarks first.")
        found = store.read(path.stem)
        with np.load(path) as truth:
            width, height = truth["size"].tolist()
            true = ClipLandmarks(truth["points"], found.times, {"width": width, "height": height})
        here, there = (prepare_clip(each, HOLISTIC, WHOLE) for each in (found, true))
        if not isinstance(here, str) and not isinstance(there, str) and len(here.times) == len(there.times):
            yield Errors(here.points - there.points, here.mask & there.mask, here.times)


def track(clip: Errors, part: Part) -> Errors:
    """A part's errors [T, points, 3], and the frames [T] in which it was found where it is."""
    points = clip.points[:, list(part.points)]
    distance = np.median(np.linalg.norm(points[..., :2], axis=-1), 1)
    return Errors(points, clip.seen[:, list(part.points)].all(1) & (distance < ASTRAY), clip.times)


def measure(parts: list[list[Errors]]) -> dict[str, float]:
    """The figures of one kind, from the errors of its parts in all clips; see the module's text."""
    tracks = [track for part in parts for track in part]
    shared = [track._replace(points=track.points.mean(1, keepdims=True)) for track in tracks]
    own = [track._replace(points=track.points - track.points.mean(1, keepdims=True)) for track in tracks]
    figures = {"frames": sum(int(track.seen.sum()) for track in tracks)}
    for name, chosen in (("shared", shared), ("own", own)):
        figures[name] = spread = change(chosen, IN_PICTURE)
        correlations = [1.0]
        while correlations[-1] > np.exp(-1):
            correlations.append(1 - (change(chosen, IN_PICTURE, lag=len(correlations)) / spread) ** 2)
        frames = np.interp(-np.exp(-1), -np.array(correlations), np.arange(len(correlations)))
        figures[f"{name}_seconds"] = frames * np.median(np.concatenate([np.diff(track.times) for track in chosen]))
        figures[f"{name}_z"] = change(chosen, DEPTH)
    means = [np.stack([track.points[track.seen].mean(0)[:, :2] for track in part if track.seen.sum() >= FEWEST])
             for part in parts]
    always = np.concatenate([mean.mean(0).ravel() for mean in means])
    figures["always"] = np.sqrt(np.square(always).mean())
    figures["clip"] = _NORMAL * np.median(np.concatenate([np.abs(mean - mean.mean(0)).ravel() for mean in means]))
    return {name: value if name == "frames" else round(float(value), 4) for name, value in figures.items()}


def change(tracks: list[Errors], coordinates: slice, lag: int | None = None) -> float:
    """Standard deviation, by the median, of differences / sqrt 2 between a clip's frames: such as are `lag` frames
    apart, or FAR and more."""
    found = []
    for points, seen, times in tracks:
        before, after = np.nonzero(np.eye(len(times), k=lag) if lag else times - times[:, None] >= FAR)
        both = seen[before] & seen[after]
        found.append((points[after[both]] - points[before[both]])[..., coordinates].ravel())
    return _NORMAL * np.median(np.abs(np.concatenate(found))) / np.sqrt(2)


if __name__ == "__main__":
    main()
