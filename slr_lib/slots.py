"""Which hand is which: sorts hands that a detector listed in the order of detection into a left and a right track.

MediaPipe Hands fills slot 0 with whichever hand it finds first, so that a hand may change its slot in the middle of a
clip. Here each clip gets two continuous tracks, named by where they lie in the picture: a signer who faces an
unmirrored camera has the right hand on the picture's left.
"""

from __future__ import annotations

import numpy as np

# Chosen on WLASL100 by how often the track named right holds a hand whose fingers bend as a right hand's do.
LONG_GAP = 0.1  # seconds without two hands, after which continuity says little
_SAME_HAND = 0.02  # of the picture: slots nearer than this hold one hand twice
_FAR_JUMP = 0.15  # of the picture: further than a hand moves between two frames
_WEIGHT_OF_SIDE = 0.5  # of lying right or left of the middle, against passing near a track


def swapped_slots(centres: np.ndarray, seen: np.ndarray, times: np.ndarray, middle: float = 0.5) -> np.ndarray:
    """Frames in which the two slots must change places, so that slot 0 holds the left hand and slot 1 the right one.

    Frames with both hands are chained by the smaller total way from one to the next (exact for a chain of two states,
    whose costs depend on the relative swap alone); each chain without a long gap is then oriented by its mean x order.
    Runs of frames with one hand join a track by which of the two passes nearer (the less, the longer ago it was seen)
    and by the side of `middle` on which they lie; a clip that never shows two hands is one run.

    Args:
        centres: [T, 2 slots, 2] x and y of a point of each hand (whatever where unseen).
        seen: bool [T, 2]. times: [T] seconds, rising. middle: the x that parts left from right.

    Returns:
        bool [T].
    """
    swap = np.zeros(len(times), bool)
    apart = np.linalg.norm(centres[:, 0] - centres[:, 1], axis=-1) > _SAME_HAND
    pairs = np.flatnonzero(seen.all(1) & apart)
    singles = np.flatnonzero(seen.any(1) & ~(seen.all(1) & apart))
    if len(pairs):
        swap[pairs] = _chain(centres[pairs], times[pairs])
    if not len(singles):
        return swap
    slot = (~seen[singles, 0]).astype(np.intp)
    place = centres[singles, slot]
    run = _runs(place, times[singles])
    rightness = _WEIGHT_OF_SIDE * (middle - place[:, 0])
    if len(pairs):
        order = np.where(swap[pairs, None], (1, 0), (0, 1))
        tracks = np.take_along_axis(centres[pairs], order[..., None], 1).reshape(len(pairs), 4)
        here, gap = _interpolate(times[singles], times[pairs], tracks)
        way = np.linalg.norm(here.reshape(-1, 2, 2) - place[:, None], axis=-1)
        rightness += np.exp(-gap / LONG_GAP) * (way[:, 0] - way[:, 1])
    else:
        run = np.zeros_like(run)
    swap[singles] = (np.bincount(run, rightness) > 0)[run] != (slot == 1)
    return swap


def _chain(centres: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Swaps [N] of frames with two hands, centres [N, 2, 2]."""
    step = centres[1:] - centres[:-1]
    cross = centres[1:] - centres[:-1, ::-1]
    turned = np.linalg.norm(cross, axis=-1).sum(1) < np.linalg.norm(step, axis=-1).sum(1)
    swap = np.concatenate([[False], np.cumsum(turned) % 2 == 1])
    chain = np.concatenate([[0], np.cumsum(np.diff(times) > LONG_GAP)])
    ahead = (centres[:, 0, 0] - centres[:, 1, 0]) * np.where(swap, -1, 1)  # how far slot 0 lies right of slot 1
    return swap ^ (np.bincount(chain, ahead) < 0)[chain]


def _runs(place: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Number the runs [N] of a hand's places [N, 2] that hang together in time and space."""
    breaks = (np.diff(times) > LONG_GAP) | (np.linalg.norm(np.diff(place, axis=0), axis=-1) > _FAR_JUMP)
    return np.concatenate([[0], np.cumsum(breaks)])


def _interpolate(at: np.ndarray, times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Linear interpolation of values [N, C] at other times [M], constant beyond the ends: [M, C].

    The second result is how far off [M] the nearest of `times` is.
    """
    after = np.searchsorted(times, at).clip(1, max(len(times) - 1, 1))
    before, after = after - 1, np.minimum(after, len(times) - 1)
    span = times[after] - times[before]
    part = ((at - times[before]) / np.where(span > 0, span, 1)).clip(0, 1)[:, None]
    gap = np.minimum(abs(at - times[before]), abs(at - times[after]))
    return values[before] * (1 - part) + values[after] * part, gap
