"""How well an extraction of a whole demo corpus agrees with what was drawn: metrics of the stage extract_landmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from slr_lib.demo.truth import extraction_truth
from slr_lib.errors import InputError


def truth_metrics(clips: Iterable[str], read: Callable, folder: Path) -> dict[str, float]:
    """`extraction_truth` pooled over clips, shares in per cent.

    Args:
        clips: ids; read: id -> the clip's landmarks, with points [T, 543, 3]; folder: of the corpus.

    Raises:
        InputError: a clip has no truth file.
    """
    rows = []
    for clip in clips:
        path = folder / "truth" / f"{clip}.npz"
        if not path.is_file():
            raise InputError(f"{path} is missing; delete {folder} and run the stage corpus again.")
        with np.load(path) as truth:
            rows.append(extraction_truth(read(clip).points, truth))
    table = pd.DataFrame(rows)

    def pooled(share: str, count: str) -> float:
        weights = table[count]
        return float((table[share].fillna(0) * weights).sum() / max(weights.sum(), 1))

    return {
        "signing_hand_found": round(100 * pooled("signing_hand_found", "signing_hands"), 2),
        "other_hands_found": round(100 * pooled("other_hands_found", "other_hands"), 2),
        "hands_in_the_other_slot": round(100 * pooled("swapped", "found_hands"), 2),
        "hand_error_in_hand_lengths": round(float(table["hand_error"].median()), 4),
        "frames_with_a_signing_hand": int(table["signing_hands"].sum()),
    }
