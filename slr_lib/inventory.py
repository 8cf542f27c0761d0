"""What the first stage of a data set found: its index, its list of signs, its rejects and the counts of all these."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd

from slr_lib.data_sets import DataSet
from slr_lib.index import COLUMNS, known_signers, write_index, write_table
from slr_lib.signs import count_clips, write_signs


def record(
    stage: str, data_set: DataSet, listed: pd.DataFrame, index: pd.DataFrame, rejects: pd.DataFrame, signs: list[str],
    further: dict | None = None,
) -> str:
    """Write data/<name>/index.csv and signs.csv and reports/<name>/<stage>/rejects.csv and metrics.json.

    Args:
        listed: the table's clips, usable or not; index: the usable ones; signs: the list that choose_signs made.
        further: numbers that the stage adds to the metrics.

    Returns:
        One line that sums it up.
    """
    counts = count_clips(listed, signs, data_set)
    lost = counts["sign"][(counts["training_listed"] > 0) & (counts["training_usable"] == 0)]
    metrics = {
        "clips": len(index),
        "signs": int(index["gloss"].nunique()),
        "signers": len(known_signers(index)),
        "clips_of_unknown_signers": int((index["signer"] == "").sum()),
        "parts": {part: int((index["split"] == part).sum()) for part in ("train", "val", "test")},
        "duplicates": int((index["duplicates"] != "").sum()),
        "rejects": len(rejects),
        "signs_that_lost_their_training_clips": len(lost),
        "lost_signs": list(lost),
        "extra_columns": [name for name in index if name not in (*COLUMNS, "height", "width")],
        **(further or {}),
    }
    write_index(index, data_set)
    write_signs(counts, data_set)
    write_table(rejects, data_set.reports(stage) / "rejects.csv")
    write_json(metrics, data_set.reports(stage) / "metrics.json")
    signers = f"{metrics['signers']} signers" if metrics["signers"] else "signers unknown"
    line = f"{stage}: {len(index)} clips of {metrics['signs']} signs by {signers}, {len(rejects)} rejects"
    if len(rejects):
        line += f" (reasons in {data_set.reports(stage) / 'rejects.csv'})"
    if len(lost):
        line += f"; all training clips are rejects of {', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}"
    return line


def write_json(content: dict, path: Path) -> None:
    """Write a JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
