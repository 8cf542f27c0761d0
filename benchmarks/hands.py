"""How well hands are found, before and after: bare Holistic beside settings of slr_lib/landmarks.py that look harder.

Groups: `demo`, the drawn corpus, whose truth is known (synthetic); `small`, the twelve 320x240 clips of real signs in
$SLR_SHARED/data/real_clips/rsl, every fifth frame labelled by eye (tests/data/rsl_hands.csv); and the single pictures
with true points in $SLR_SHARED/data/real_clips/keypoints_gt, by Holistic and by the hand model alone. A group whose
data are not there is left out, and said so. What was extracted is kept under build/hands, so a run goes on where it
was stopped. Prints a Markdown table; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from slr_lib.data_sets import load_data_set
from slr_lib.demo import draw_corpus
from slr_lib.hands import HAND_SLICES
from slr_lib.landmarks import HolisticSettings, extract_landmarks, find_hands, fingerprint
from slr_lib.video import read_video

PROJECT = Path(__file__).resolve().parents[1]
REAL = PROJECT / os.environ.get("SLR_SHARED", "../shared") / "data" / "real_clips"
LABELS = PROJECT / "tests" / "data" / "rsl_hands.csv"
KEPT = PROJECT / "build" / "hands"
VARIANTS = {
    "bare Holistic": HolisticSettings(min_hand_confidence=0.5, second_look=False),
    "hand confidence 0.2": HolisticSettings(min_hand_confidence=0.2, second_look=False),
    "hand confidence 0.1": HolisticSettings(min_hand_confidence=0.1, second_look=False),
    "second look": HolisticSettings(min_hand_confidence=0.5, second_look=True),
    "0.1 and second look": HolisticSettings(min_hand_confidence=0.1, second_look=True),
}
NEAR = 1.0  # hand lengths: a detection whose joints lie farther off (median) is not of this hand
_TIP, _WRIST, _KNUCKLE = 12, 0, 9
COLUMNS = ("group", "setting", "visible", "found", "hidden", "false", "partly_found", "error", "error_90", "error_same",
           "jitter_same", "cpu_ms")


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, default=load_data_set("demo").root, help="folder of the drawn corpus")
    parser.add_argument("--every", type=int, default=1, help="take every n-th clip of the drawn corpus")
    parser.add_argument("--settings", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--groups", nargs="+", default=["demo", "small", "pictures"])
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    options = parser.parse_args(arguments)
    rows = []
    if "demo" in options.groups:
        rows += demo_rows(options)
    if "small" in options.groups:
        rows += small_rows(options)
    if "pictures" in options.groups:
        rows += picture_rows(options)
    table = pd.DataFrame(rows, columns=COLUMNS)
    print(as_markdown(table))
    print(json.dumps({"hands": json.loads(table.to_json(orient="records", double_precision=4))}))


def demo_rows(options: argparse.Namespace) -> list[dict]:
    """The drawn corpus; hidden: fewer than 0.6 of a hand's joints lie in the picture."""
    folder = options.demo
    if not (folder / "annotations.csv").is_file():
        draw_corpus(folder, **load_data_set("demo").demo.model_dump())
    clips = sorted((path.stem, path) for path in folder.glob("t*/*.mp4"))[::options.every]
    truths = {}
    for clip, _ in clips:
        with np.load(folder / "truth" / f"{clip}.npz") as truth:
            truths[clip] = {name: truth[name] for name in ("points", "hand_visible", "size", "hand_length")}

    def judged(clip: str, points: np.ndarray) -> dict[str, np.ndarray]:
        truth = truths[clip]
        visible = truth["hand_visible"]
        real, ours = (joints(of, truth["size"]) / float(truth["hand_length"]) for of in (truth["points"], points))
        gap = np.linalg.norm(ours - real, axis=-1)  # [T, 2, 21]
        seen = ~np.isnan(ours[..., 0, 0])
        return {"seen": seen, "found": seen & visible & (np.nan_to_num(np.median(gap, -1), nan=np.inf) < NEAR),
                "visible": visible, "hidden": ~visible, "partly": np.zeros_like(visible),
                "error": np.median(gap, -1), "jitter": jitter(ours - real)}

    return video_rows("demo", clips, judged, options)


def small_rows(options: argparse.Namespace) -> list[dict]:
    """Real clips of 320x240 pixels; only labelled frames count, but for jitter."""
    if not (REAL / "rsl").is_dir():
        print(f"left out: small, for {REAL / 'rsl'} is missing", file=sys.stderr)
        return []
    labels = pd.read_csv(LABELS, comment="#")
    paths = pd.read_csv(REAL / "rsl" / "index.csv").set_index("attachment_id")["path"]
    clips = [(clip, REAL / "rsl" / paths[clip]) for clip in labels["clip"].unique()]

    def judged(clip: str, points: np.ndarray) -> dict[str, np.ndarray]:
        said = np.full((len(points), 2), "", object)
        rows = labels[labels["clip"] == clip]
        said[rows["frame"]] = rows[["left", "right"]]
        ours = joints(points, (320, 240))
        seen = ~np.isnan(ours[..., 0, 0])
        length = 2 * np.nanmedian(np.linalg.norm(ours[:, :, _KNUCKLE] - ours[:, :, _WRIST], axis=-1))
        return {"seen": seen, "found": seen & (said == "yes"), "visible": said == "yes", "hidden": said == "no",
                "partly": said == "part", "error": np.full(seen.shape, np.nan), "jitter": jitter(ours / length)}

    return video_rows("small", clips, judged, options)


def video_rows(group: str, clips: list[tuple[str, Path]], judged, options: argparse.Namespace) -> list[dict]:
    """A row a setting. `same` figures are over the hands that the first setting found too."""
    rows, first = [], None
    for name in options.settings:
        kept = extracted(clips, VARIANTS[name], options.workers, f"{group}, {name}")
        parts = [judged(clip, points) for clip, (points, _) in kept.items()]
        pool = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        first = first or pool
        same = pool["found"] & first["found"]
        steady = np.isfinite(pool["jitter"]) & np.isfinite(first["jitter"])
        rows.append({
            "group": group, "setting": name, "visible": int(pool["visible"].sum()),
            "found": share(pool["found"], pool["visible"]), "hidden": int(pool["hidden"].sum()),
            "false": share(pool["seen"], pool["hidden"]), "partly_found": share(pool["seen"], pool["partly"]),
            "error": middle(pool["error"][pool["found"]]), "error_90": middle(pool["error"][pool["found"]], 90),
            "error_same": middle(pool["error"][same]), "jitter_same": middle(pool["jitter"][steady]),
            "cpu_ms": 1000 * sum(cpu for _, cpu in kept.values()) / len(pool["seen"]),
        })
    return rows


def picture_rows(options: argparse.Namespace) -> list[dict]:
    """Single pictures; every hand in them whose points are given is visible."""
    folder = REAL / "keypoints_gt"
    if not folder.is_dir():
        print(f"left out: pictures, for {folder} is missing", file=sys.stderr)
        return []
    given = pd.read_csv(folder / "keypoints.csv", dtype={"instance": str})
    given = given[(given["part"] == "hand") & given["set"].isin(["freihand", "onehand10k", "panoptic", "rhd"])]
    rows = []
    for group, hands in given.groupby("set"):
        models = {"hand model, 0.5": lambda picture: find_hands(picture, 0.5, 0.5),
                  "hand model, as the second look has it": find_hands}
        if group in ("panoptic", "rhd"):
            models |= {name: lambda picture, name=name: holistic_hands(picture, VARIANTS[name])
                       for name in options.settings}
        for name, model in models.items():
            errors = [picture_error(folder / "images" / image, hand, model)
                      for (image, _), hand in hands.groupby(["image", "instance"])]
            near = np.array([error for error in errors if error < NEAR])
            rows.append({"group": group, "setting": name, "visible": len(errors), "error": middle(near),
                         "found": 100 * len(near) / len(errors), "error_90": middle(near, 90)})
    return rows


def picture_error(path: Path, hand: pd.DataFrame, model) -> float:
    """Median distance of the nearest hand found from a given one, in hand lengths; infinite where none is found."""
    with Image.open(path) as file:
        picture = np.asarray(file.convert("RGB"))
    hand = hand.sort_values("point_index")
    known = hand["visible"].to_numpy() > 0
    real = np.where(known[:, None], hand[["x", "y"]].to_numpy(float), np.nan)
    length = np.linalg.norm(real[_TIP] - real[_WRIST])
    if np.isnan(length):  # one of the two is not given: the hand's longest extent
        length = np.nanmax(np.linalg.norm(real[:, None] - real[None], axis=-1))
    found = model(picture)[..., :2] * (picture.shape[1], picture.shape[0])
    gaps = np.nanmedian(np.linalg.norm(found - real, axis=-1), axis=-1) / length
    return float(gaps.min(initial=np.inf))


def holistic_hands(picture: np.ndarray, settings: HolisticSettings) -> np.ndarray:
    """Hands [N, 21, 3] that Holistic finds in a single picture."""
    points = extract_landmarks([picture], settings)[0]
    hands = np.stack([points[where] for where in HAND_SLICES])
    return hands[~np.isnan(hands[:, 0, 0])]


def extracted(clips: list[tuple[str, Path]], settings: HolisticSettings, workers: int,
              what: str) -> dict[str, tuple[np.ndarray, float]]:
    """For each clip its points [T, 543, 3] and the CPU seconds that they took, decoding left out."""
    folder = KEPT / fingerprint(settings)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [(path, folder / f"{clip}.npz", settings) for clip, path in clips
               if not (folder / f"{clip}.npz").is_file()]
    if missing:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            list(tqdm(pool.map(extract_one, *zip(*missing)), desc=what, total=len(missing), unit="clip"))
    kept = {}
    for clip, _ in clips:
        with np.load(folder / f"{clip}.npz") as file:
            kept[clip] = file["points"], float(file["cpu"])
    return kept


def extract_one(path: Path, result: Path, settings: HolisticSettings) -> None:
    """Extract one clip into a file."""
    frames = [picture for _, picture in read_video(path)]
    begun = time.process_time()
    points = extract_landmarks(frames, settings)
    cpu = time.process_time() - begun
    part = result.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, points=points, cpu=cpu)
    part.replace(result)


def joints(points: np.ndarray, size) -> np.ndarray:
    """The hands' joints in pixels, [T, 2, 21, 2]; left first."""
    return np.stack([points[:, where, :2] for where in HAND_SLICES], axis=1) * np.asarray(size, float)


def jitter(track: np.ndarray) -> np.ndarray:
    """Median over joints of the second difference's length, [T, 2]; NaN where a hand lacks a frame of the three.

    track: [T, 2, 21, 2] in hand lengths. Where the truth was subtracted it is jitter alone, elsewhere movement too.
    """
    result = np.full(track.shape[:2], np.nan)
    if len(track) > 2:
        result[1:-1] = np.median(np.linalg.norm(np.diff(track, n=2, axis=0), axis=-1), axis=-1)
    return result


def share(of: np.ndarray, among: np.ndarray) -> float:
    """Per cent, NaN of nothing."""
    return 100 * float(of[among].mean()) if among.any() else float("nan")


def middle(values: np.ndarray, percentile: float = 50) -> float:
    """A percentile of the values that are there, NaN of none."""
    values = values[np.isfinite(values)]
    return float(np.percentile(values, percentile)) if len(values) else float("nan")


def as_markdown(table: pd.DataFrame) -> str:
    """The table for people; a dash where nothing is known."""
    form = {"found": "{:.1f}", "false": "{:.2f}", "partly_found": "{:.1f}", "cpu_ms": "{:.1f}", "visible": "{:.0f}",
            "hidden": "{:.0f}"} | dict.fromkeys(("error", "error_90", "error_same", "jitter_same"), "{:.4f}")
    lines = ["| " + " | ".join(table) + " |", "|" + "---|" * table.shape[1]]
    for row in table.to_dict("records"):
        cells = ["–" if pd.isna(value) else form[name].format(value) if name in form else str(value)
                 for name, value in row.items()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
