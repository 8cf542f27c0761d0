"""Landmarks -> clips: points chosen, hands sorted, frames without hands dropped, coordinates relative to the body.

NaN means "not detected" on the way in; a Clip holds zeros and a mask instead. One code prepares clips for training and
for recognition. T frames, P points of the skeleton's selection.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from slr_lib.errors import InputError
from slr_lib.skeleton import Skeleton
from slr_lib.slots import swapped_slots

if TYPE_CHECKING:
    from slr_lib.landmark_store import ClipLandmarks

_ABSURD = 1e6
FARTHEST = 50.0  # units; whatever lies further from the body is a fault of detection
_SHOULDERS_PER_HAND = 7.0  # shoulders' distance / root-mean-square radius of an open hand (about 38 cm / 5.5 cm)
_OPEN_HAND = 0.8  # quantile over frames of a hand's radius: hands look smaller than they are when they point at you
_SMALLEST_UNIT = 1e-4


@dataclass(frozen=True)
class Clip:
    """points float32 [T, P, 3], zero where missing; times float32 [T], seconds from the first frame; mask bool [T, P].

    x and y count in units of the body (the shoulders' distance) from its origin (the shoulders' middle).
    """

    points: np.ndarray
    times: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class ClipSettings:
    """How landmarks become clips. Plain values: a checkpoint carries them.

    aspect: width / height of the picture where a clip does not tell; minimum_frames: shorter clips are rejected;
    keep_handless: keep frames in which no hand was found; without it, only a clip with fewer frames with a hand than
    minimum_frames keeps them.
    """

    aspect: float = 1.0
    minimum_frames: int = 2
    keep_handless: bool = False

    def as_plain(self) -> dict:
        """A dictionary for JSON; `ClipSettings(**plain)` reads it."""
        return asdict(self)


def prepare_clip(landmarks: ClipLandmarks, skeleton: Skeleton, settings: ClipSettings | None = None) -> Clip | str:
    """A clip of the skeleton's selection, or the reason why there is none.

    Args:
        landmarks: points [T, P', 3] for all P' points of `skeleton`; `info` may hold width and height in pixels.

    Raises:
        InputError: the landmarks have another number of points than the skeleton.
    """
    settings = settings or ClipSettings()
    if landmarks.points.shape[1] != len(skeleton.points):
        raise InputError(f"the landmarks have {landmarks.points.shape[1]} points, the skeleton {skeleton.name} "
                         f"{len(skeleton.points)}; set `skeleton` of the data set to the one that they were made with.")
    selected, indices = _selection(skeleton)
    points = np.take(landmarks.points, indices, axis=1)
    times = np.asarray(landmarks.times, np.float64)
    mask = (np.abs(points[..., 0]) < _ABSURD) & (np.abs(points[..., 1]) < _ABSURD)  # False for NaN and infinity too
    points[~mask] = 0
    if not np.abs(points).max(initial=0) < _ABSURD:
        points[~(np.abs(points) < _ABSURD)] = 0  # depth alone may be missing
    if selected.slots_by_detection:
        _sort_hands(points, mask, times, selected)
    _stretch(points, landmarks.info, selected, settings)
    hands = [list(part.points) for part in selected.hands]
    kept = mask.any(1)
    if not kept.any():
        return f"no point in any of its {len(kept)} frames"
    if hands and not settings.keep_handless:
        with_hand = np.logical_or.reduce([mask[:, hand].any(1) for hand in hands])
        # a clip in which hands were hardly ever found is kept whole: in a test part it must be judged like any other,
        # and a clip of no event may well look like that
        if with_hand.sum() >= settings.minimum_frames:
            kept = with_hand
    if not kept.all():
        points, mask, times = points[kept], mask[kept], times[kept]
    if len(times) < settings.minimum_frames:
        return f"only {len(times)} of its {len(kept)} frames can be used, {settings.minimum_frames} are needed"
    origin, unit = _body(points, mask, selected, hands)
    points -= origin
    points *= np.float32(1 / unit)
    np.clip(points, -FARTHEST, FARTHEST, out=points)
    points[~mask] = 0
    return Clip(points, (times - times[0]).astype(np.float32), mask)


@lru_cache(maxsize=8)
def _selection(skeleton: Skeleton) -> tuple[Skeleton, np.ndarray]:
    return skeleton.select()


def _stretch(points: np.ndarray, info: dict, skeleton: Skeleton, settings: ClipSettings) -> None:
    """Make x count in heights of the picture as y does; depth that MediaPipe gives is on x's scale."""
    width, height = info.get("width"), info.get("height")
    aspect = width / height if width and height else settings.aspect
    if aspect != 1:
        points[..., 0] *= aspect
        if skeleton.depth_by_part:
            points[..., 2] *= aspect


def _sort_hands(points: np.ndarray, mask: np.ndarray, times: np.ndarray, skeleton: Skeleton) -> None:
    """Sort hands that came in the order of detection into the left and the right part, in place."""
    slots = sorted(skeleton.hands, key=lambda part: part.side != "left")
    columns = np.array([part.points for part in slots])  # 2, points of a hand
    seen = mask[:, columns].any(2)
    if not seen.any():
        return
    counts = mask[:, columns].sum(2, keepdims=True)
    centres = points[:, columns, :2].sum(2) / np.maximum(counts, 1)
    origin = list(skeleton.origin)
    body = mask[:, origin].all(1) if origin else np.zeros(len(mask), bool)
    middle = float(np.median(points[body][:, origin, 0].mean(1))) if body.any() else 0.5
    swap = np.flatnonzero(swapped_slots(centres, seen, times, middle))
    there = np.concatenate([columns[1], columns[0]])
    here = np.concatenate([columns[0], columns[1]])
    points[np.ix_(swap, here)] = points[np.ix_(swap, there)]
    mask[np.ix_(swap, here)] = mask[np.ix_(swap, there)]


def _body(points: np.ndarray, mask: np.ndarray, skeleton: Skeleton, hands: list[list[int]]) -> tuple[np.ndarray, float]:
    """Origin [3] and unit of length of a clip: medians over frames, of the body where it was seen, else of hands."""
    origin = list(skeleton.origin)
    seen = mask[:, origin].all(1) if origin else np.zeros(len(mask), bool)
    if seen.any():
        centres = points[seen][:, origin].mean(1)
    else:
        chosen = sorted(point for hand in hands for point in hand) or list(range(mask.shape[1]))
        counts = mask[:, chosen].sum(1)
        centres = (points[:, chosen].sum(1) / np.maximum(counts, 1)[:, None])[counts > 0]
        if not len(centres):  # hands may be missing throughout where frames without them are kept
            centres = points[mask][None].mean(1)
    middle = np.median(centres, axis=0).astype(np.float32)
    if skeleton.depth_by_part:
        middle[2] = 0
    if skeleton.unit:
        a, b = skeleton.unit
        both = mask[:, a] & mask[:, b]
        if both.any():
            way = points[both, a] - points[both, b]
            if skeleton.depth_by_part:
                way = way[:, :2]  # such depth is guessed, and too noisy for a unit
            unit = float(np.median(np.linalg.norm(way, axis=-1)))
            if unit > _SMALLEST_UNIT:
                return middle, unit
    radii = [radius for hand in hands if (radius := _radius(points, mask, hand)) > _SMALLEST_UNIT]
    if radii:
        return middle, max(radii) * _SHOULDERS_PER_HAND
    return middle, max(_radius(points, mask, list(range(mask.shape[1]))), 1e-2)


def _radius(points: np.ndarray, mask: np.ndarray, chosen: list[int]) -> float:
    """Root-mean-square distance of a part's points from their centre in x and y, of an open hand; 0 if never seen."""
    seen = mask[:, chosen]
    whole = seen.all(1)
    if not whole.any():
        return 0.0
    squares = points[np.ix_(whole, chosen)][..., :2].var(axis=1).sum(-1)
    return float(np.sqrt(np.quantile(squares, _OPEN_HAND)))
