"""Every kind of clip, good and broken: makes each, reads it with our reader, compares with the truth.

Prints four Markdown tables: formats, people (landmarks of drawn figures: SYNTHETIC), the project's odd files where they
are at hand, and broken files with the seconds and the peak memory that each costs in a process of its own. Ends with
one JSON object; its exit status is 1 where a clip was read wrongly or a broken one cost more than 10 s or 2 GB.
`python benchmarks/formats.py`, about a minute and a half.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import pandas as pd
from tqdm import tqdm

import broken_clips
from made_clips import FORMATS, Format, colour_error, read_number
from made_people import PEOPLE, Scene
from reading import measure
from slr_lib.errors import InputError
from slr_lib.landmarks import detected, extract_landmarks
from slr_lib.video import read_video

PROJECT = Path(__file__).resolve().parents[1]
ODD = PROJECT / os.environ.get("SLR_SHARED", "../shared") / "data/real_clips/odd_files"
SECONDS, MEGABYTES = 10, 2000  # that a broken file may cost
COLOUR_LIMIT = 10  # of 255: coarse codecs stay below, a wrong turn, matrix or range does not
TIME_LIMIT = 0.001
WRONG = 4.0  # mean difference of a picture from the undamaged one, of 255, above which it is no good frame
_NOSE = 489
_NOTE = "synthetic clips and people: how files are read, not how well signs are recognised"


def check_format(case: Format, path: Path) -> dict:
    """What our reader makes of a clip beside its truth; `wrong` names what does not agree."""
    times, numbers, colour = [], [], 0.0
    with read_video(path) as video:
        for moment, picture in video:
            times.append(moment)
            numbers.append(read_number(picture))
            colour = max(colour, colour_error(picture, case.grey))
    same_count = len(times) == len(case.times)
    late = float(np.abs(np.array(times) - case.times).max()) if same_count else np.inf
    agrees = {
        "frames": same_count, "size": (video.width, video.height) == case.size, "times": late <= TIME_LIMIT,
        "order": numbers == list(range(case.hidden, case.hidden + len(case.times))), "colours": colour <= COLOUR_LIMIT,
        "damage": video.damage is None, "promise": video.promised_frames in (None, len(times)),
    }
    return {"clip": case.name, "frames": f"{len(times)} of {len(case.times)}", "size": f"{video.width}x{video.height}",
            "seconds": round(times[-1], 3), "off by, ms": round(1000 * late, 2), "colours off by": round(colour, 1),
            "promised": video.promised_frames or "–",
            "wrong": ", ".join(key for key, good in agrees.items() if not good) or "–"}


def check_people(name: str, scene: Scene, path: Path) -> dict:
    """Share of frames in which each part is found, beside what is there, and whom of several the pose follows."""
    with read_video(path) as video:
        points = extract_landmarks(picture for _, picture in video)
    found = {part: float(frames.mean()) for part, frames in detected(points).items()}
    nose = points[:, _NOSE, 0]
    followed = ""
    if scene.noses and found["pose"]:
        nearest = np.abs(nose[:, None] - np.array(scene.noses)).argmin(1)[~np.isnan(nose)]
        followed = ["left", "right"][nearest[0]] if len(scene.noses) > 1 else "–"
        if len(set(nearest)) > 1:
            followed = "now one, now the other"
    left, right = (round(float(share), 2) for share in scene.visible.mean(0))
    return {"clip": name, "left hand there": left, "right hand there": right,
            **{part.replace("_", " ") + " found": round(share, 2) for part, share in found.items()},
            "nose": round(float(np.nanmean(nose)), 3) if found["pose"] else "–", "followed": followed or "–"}


def check_broken(paths: list[Path], good: list[np.ndarray]) -> dict:
    """Of broken copies of one clip, counts of files: refused, marked (as damaged), unmarked, and unnoticed (unmarked,
    with bad frames); and of frames: kept, a number a file, and bad, which are not what the good clip shows."""
    counts = {"refused": 0, "marked": 0, "unmarked": 0, "unnoticed": 0, "kept": [], "bad": 0}
    for path in paths:
        try:
            with read_video(path) as video:
                pictures = [picture for _, picture in video]
        except InputError:
            counts["refused"] += 1
            counts["kept"].append(0)
            continue
        bad = sum(not _same(picture, good) for picture in pictures)
        counts["marked" if video.damage else "unmarked"] += 1
        counts["unnoticed"] += video.damage is None and bad > 0
        counts["bad"] += bad
        counts["kept"].append(len(pictures))
    return counts


def _same(picture: np.ndarray, good: list[np.ndarray]) -> bool:
    """Whether a picture is the one of its number: where frames are lost, those behind them move up."""
    number = read_number(picture)
    if number >= len(good) or picture.shape != good[number].shape:
        return False
    return bool(np.abs(picture.astype(int) - good[number]).mean() <= WRONG)


def format_rows(folder: Path) -> list[dict]:
    """Make, read and compare every clip of FORMATS; with what reading costs in a process of its own."""
    rows = []
    for case in tqdm(FORMATS, desc="formats", unit="clip"):
        path = case.write(folder)
        [cost] = measure([path])
        rows.append({**check_format(case, path), "s": cost.seconds, "peak MB": cost.peak_mb})
    return rows


def people_rows(folder: Path) -> list[dict]:
    """Draw, write and extract every clip of PEOPLE."""
    rows = []
    for name, (file, draw, write) in tqdm(PEOPLE.items(), desc="people", unit="clip"):
        scene = draw()
        write(scene, folder / file)
        rows.append(check_people(name, scene, folder / file))
    return rows


def odd_rows() -> list[dict]:
    """The odd files, whose true number of frames is known, where they are at hand."""
    rows = []
    table = pd.read_csv(ODD / "index.csv") if ODD.is_dir() else pd.DataFrame()
    for row in tqdm(table.itertuples(), total=len(table), desc="odd files", unit="file"):
        [reading] = measure([ODD / row.file])
        known = 0 if pd.isna(row.decoded_frames) else int(row.decoded_frames)
        rows.append({"file": row.file, "frames": f"{reading.frames} of {known}", "size": "{}x{}".format(*reading.size),
                     "outcome": reading.refused or reading.damage or "whole", "s": reading.seconds,
                     "peak MB": reading.peak_mb, "wrong": "–" if reading.frames == known else "frames"})
    return rows


def broken_rows(folder: Path) -> list[dict]:
    """What becomes of every broken file, and its cost; a row for all places at which a source is cut or changed."""
    broken_clips.write_sources(folder)
    rows = []
    for case in tqdm(broken_clips.BROKEN, desc="broken", unit="file"):
        [reading] = measure([broken_clips.write_broken(folder, case)])
        outcome = reading.refused or f"{reading.frames} frames; {reading.damage or 'unmarked'}"
        rows.append({"file": case.name, "outcome": outcome, "s": reading.seconds, "peak MB": reading.peak_mb,
                     "wrong": "–" if reading.refused or reading.damage else "unmarked"})
    for source in tqdm(broken_clips.SOURCES, desc="cut and flipped", unit="clip"):
        good = [picture for _, picture in read_video(folder / source)]
        for words, make in (("cut off at", broken_clips.cut_off), ("flipped bytes, copies:", broken_clips.flipped)):
            paths = list(make(folder, source))
            cost, counts = measure(paths), check_broken(paths, good)
            outcome = (f"{counts['refused']} refused, {counts['marked']} kept and marked, {counts['unmarked']} kept "
                       f"unmarked ({counts['unnoticed']} of them with bad frames); {sum(counts['kept'])} frames kept, "
                       f"{counts['bad']} of them bad")
            wrong = counts["unnoticed"] > broken_clips.MOST_UNNOTICED and source not in broken_clips.UNCHECKED
            rows.append({"file": f"{source}, {words} {len(paths)}", "outcome": outcome,
                         "s": max(reading.seconds for reading in cost), "peak MB": cost[-1].peak_mb,
                         "wrong": "unnoticed" if wrong else "–"})
    for row in rows:
        if row["s"] > SECONDS or row["peak MB"] > MEGABYTES:
            row["wrong"] = "cost"
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Make, read, print; returns 1 where something is wrong."""
    parser = argparse.ArgumentParser(description="Every kind of clip, good and broken, beside its truth.")
    parser.add_argument("--folder", type=Path, help="where to leave the clips made; else they are removed")
    options = parser.parse_args(arguments)
    av.logging.set_level(None)  # a broken file makes FFmpeg say much
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"Formats": format_rows(folder), "People (drawn, not real)": people_rows(folder),
                  "Odd files": odd_rows(), "Broken files": broken_rows(folder)}
    for title, rows in tables.items():
        print(f"\n## {title}\n\n{as_markdown(rows)}")
    wrong = [row.get("clip", row.get("file")) for rows in tables.values() for row in rows
             if row.get("wrong", "–") != "–"]
    print(json.dumps({"wrong": wrong, "slowest_s": max(row["s"] for row in tables["Broken files"]),
                      "peak_mb": max(row["peak MB"] for row in tables["Broken files"]), "note": _NOTE}))
    return 1 if wrong else 0


def as_markdown(rows: list[dict]) -> str:
    """Rows with the same keys as a Markdown table."""
    if not rows:
        return "not at hand"
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
