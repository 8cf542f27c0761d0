"""A slice of real landmarks (WLASL, MediaPipe Hands) for tests; they skip where the data are absent."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest


def wlasl_clips(shared: Path, count: int) -> list[np.ndarray]:
    """The first clips of WLASL100: float32 [T, 42, 3] each, slots in the order of detection, NaN where missing."""
    path = shared / "wlasl_hands" / "wlasl_hands_tier100.npz"
    if not path.is_file():
        pytest.skip(f"{path} is absent; set SLR_SHARED to the folder of real data")
    with np.load(path) as packed:
        valid, offsets, shape = packed["hand_valid"], packed["frame_offset"][: count + 1], packed["xyz_shape"]
        hands = np.ascontiguousarray(packed["xyz_bytes"].T).view("<f4").reshape(shape).transpose(2, 1, 0)
    points = np.full((len(valid), 2, 21, 3), np.nan, np.float32)
    points[valid] = hands
    return [points[a:b].reshape(-1, 42, 3) for a, b in pairwise(offsets)]
