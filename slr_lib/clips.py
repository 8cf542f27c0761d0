"""Landmarks -> clips: points chosen, hands sorted, frames without hands dropped, coordinates relative to the body.

NaN means "not detected" on the way in; a Clip holds zeros and a mask instead. One code prepares clips for training and
for recognition. T frames, P points of the skeleton's selection.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from slr_lib import loops
from slr_lib.errors import InputError
from slr_lib.skeleton import Skeleton
from slr_lib.slots import swapped_slots

if TYPE_CHECKING:
    from slr_lib.landmark_store import ClipLandmarks

_ABSURD = np.float32(1e6)
FARTHEST = np.float32(50)  # units; whatever lies further from the body is a fault of detection
_SHOULDERS_PER_HAND = 7.0  # shoulders' distance / root-mean-square radius of an open hand (about 38 cm / 5.5 cm)
_OPEN_HAND = 0.8  # quantile over frames of a hand's radius: hands look smaller than they are when they point at you
_SMALLEST_UNIT = 1e-4
_PICTURE_UNIT = 0.3  # of the picture's height: about the shoulders' distance of somebody shown down to the hips


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


class FoundClip(NamedTuple):
    """What of some landmarks becomes a clip, and how: frames int64 [F] of points float32 [T, P, 3] and of mask bool
    [T, P]; origin float32 [3] and scale as `slr_lib.loops.place` takes them; times float32 [F]."""

    points: np.ndarray
    mask: np.ndarray
    frames: np.ndarray
    origin: np.ndarray
    scale: np.float32
    times: np.ndarray


def prepare_clip(landmarks: ClipLandmarks, skeleton: Skeleton, settings: ClipSettings | None = None,
                 max_frames: int | None = None) -> Clip | str:
    """A clip of the skeleton's selection, or the reason why there is none.

    Args:
        landmarks: points [T, P', 3] for all P' points of `skeleton`; `info` may hold width and height in pixels.
        max_frames: a longer clip is thinned out evenly to as many frames.

    Raises:
        InputError: the landmarks have another number of points than the skeleton.
    """
    found = find_clip(landmarks, skeleton, settings, max_frames)
    if isinstance(found, str):
        return found
    seen = np.empty((len(found.frames), found.mask.shape[1]), bool)
    placed = np.empty((*seen.shape, 3), np.float32)
    loops.place(flat(found.points), found.mask, found.frames, found.origin, found.scale, FARTHEST, flat(placed), seen)
    return Clip(placed, found.times, seen)


def find_clip(landmarks: ClipLandmarks, skeleton: Skeleton, settings: ClipSettings | None = None,
              max_frames: int | None = None) -> FoundClip | str:
    """`prepare_clip` up to its last step, for a caller that places the points where it wants them."""
    settings = settings or ClipSettings()
    _require_points(landmarks, skeleton)
    choice, times = _choice(skeleton), landmarks.times
    mask, shows = np.empty((len(times), len(choice.of_hand)), bool), np.empty((2, len(times)), bool)
    points = np.empty((*mask.shape, 3), np.float32)
    loops.gather(flat(landmarks.points), choice.numbers, choice.touched, choice.of_hand, _ABSURD, flat(points), mask,
                 shows)
    if skeleton.slots_by_detection:
        _sort_hands(points, mask, times, choice.skeleton)
    aspect = _aspect(landmarks.info, settings)
    if aspect != 1:
        np.multiply(flat(points), _stretch(skeleton, aspect), out=flat(points))
    kept, count = _kept(shows, settings)
    if not count:
        return f"no point in any of its {len(kept)} frames"
    if count < settings.minimum_frames:
        return f"only {count} of its {len(kept)} frames can be used, {settings.minimum_frames} are needed"
    if count < len(kept):
        points, mask, times = points[kept], mask[kept], times[kept]
    origin, unit = _body(points, mask, choice, aspect)
    frames = _evenly(count, min(count, max_frames or count))
    return FoundClip(points, mask, frames, origin, np.float32(1 / unit), (times[frames] - times[0]).astype(np.float32))


def make_usual(landmarks: ClipLandmarks, skeleton: Skeleton, settings: ClipSettings | None, mean: np.ndarray,
               std: np.ndarray, made: np.ndarray, seen: np.ndarray) -> np.ndarray | None:
    """Make a clip by `slr_lib.loops.usual_clip` of landmarks that show body and hands, which is twice as fast.

    Args:
        mean, std: float32 [3 P] of the data set; made: float32 [M, 3 P], of which the first F frames are filled; seen:
        bool [M, P], their mask; a longer clip is thinned out evenly to M frames.

    Returns:
        times float32 [F], or None where `find_clip` is needed.

    Raises:
        InputError: the landmarks have another number of points than the skeleton.
    """
    settings = settings or ClipSettings()
    _require_points(landmarks, skeleton)
    choice = _choice(skeleton)
    if choice.usual is None or settings.keep_handless:
        return None
    frames = loops.usual_clip(
        flat(landmarks.points), choice.numbers, choice.touched, _stretch(skeleton, _aspect(landmarks.info, settings)),
        _ABSURD, *choice.usual, skeleton.depth_by_part, max(1, settings.minimum_frames), len(made), _SMALLEST_UNIT,
        FARTHEST, mean, std, made, seen)
    return (landmarks.times[frames] - landmarks.times[frames[0]]).astype(np.float32) if len(frames) else None


def _require_points(landmarks: ClipLandmarks, skeleton: Skeleton) -> None:
    """Raise InputError where the landmarks have another number of points than the skeleton."""
    if landmarks.points.shape[1] != len(skeleton.points):
        raise InputError(f"the landmarks have {landmarks.points.shape[1]} points, the skeleton {skeleton.name} "
                         f"{len(skeleton.points)}; set `skeleton` of the data set to the one that they were made with.")


def evenly(frames: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Evenly spaced frames [B, longest] for clips of `frames` [B] frames to have `lengths` [B]; beyond that, any."""
    step = np.arange(lengths.max())
    ratio = (frames - 1) / np.maximum(lengths - 1, 1)
    return np.minimum(np.rint(step * ratio[:, None]).astype(np.int64), frames[:, None] - 1)


def flat(points: np.ndarray) -> np.ndarray:
    """Points [T, P, 3] as [T, 3 P]."""
    return points.reshape(len(points), -1)


@lru_cache(maxsize=4096)
def _evenly(frames: int, length: int) -> np.ndarray:
    """`evenly` of one clip, kept: int64 [length], not to be written to."""
    chosen = evenly(np.array([frames]), np.array([length]))[0]
    chosen.flags.writeable = False
    return chosen


class _Choice(NamedTuple):
    """A skeleton's selection as every clip needs it: the selected skeleton, where its points' x, y, z are among all
    points' (numbers [3 P]), those of them that tell the cache lines to read (touched), which points are of a hand
    (of_hand bool [P]), each hand's points, and the origin's."""

    skeleton: Skeleton
    numbers: np.ndarray
    touched: np.ndarray
    of_hand: np.ndarray
    hands: tuple[list[int], ...]
    origin: np.ndarray
    usual: tuple[np.ndarray, np.ndarray, np.ndarray] | None


@lru_cache(maxsize=8)
def _choice(skeleton: Skeleton) -> _Choice:
    selected, indices = skeleton.select()
    hands = tuple(list(part.points) for part in selected.hands)
    of_hand = np.isin(np.arange(len(indices)), [point for hand in hands for point in hand])
    numbers = (3 * indices[:, None] + np.arange(3)).reshape(-1)
    usual = None
    if selected.hands and selected.origin and selected.unit and not selected.slots_by_detection:
        usual = tuple(numbers[::3][list(points)]
                      for points in (np.flatnonzero(of_hand), selected.origin, selected.unit))
    origin = np.array(selected.origin, np.int64)
    return _Choice(selected, numbers, _every_line(numbers), of_hand, hands, origin, usual)


def _every_line(numbers: np.ndarray) -> np.ndarray:
    """Of numbers of a frame as few as lie in all the cache lines that the others lie in, wherever a line begins: those
    between two neighbours of the outcome, which are a line apart at most, are in the line of one of them.
    """
    ordered = np.unique(numbers)
    kept = [ordered[0]]
    for number, following in pairwise(ordered[1:]):
        if following - kept[-1] > loops.CACHE_LINE:
            kept.append(number)
    return np.unique([*kept, ordered[-1]])


def _aspect(info: dict, settings: ClipSettings) -> float:
    """The picture's width in heights of it."""
    width, height = info.get("width"), info.get("height")
    return width / height if width and height else settings.aspect


@lru_cache(maxsize=64)
def _stretch(skeleton: Skeleton, aspect: float) -> np.ndarray:
    """What makes x count in heights of the picture as y does, float32 [3 P]; MediaPipe's depth is on x's scale."""
    factors = np.array([aspect, 1, aspect if skeleton.depth_by_part else 1], np.float32)
    return np.tile(factors, len(skeleton.select()[1]))


def _kept(shows: np.ndarray, settings: ClipSettings) -> tuple[np.ndarray, int]:
    """Which frames [T] to keep, those with a hand or those with anything, and how many they are.

    shows: bool [2, T], which frames show anything, and a hand.
    """
    anything, hand = shows
    if not settings.keep_handless:
        # a clip in which hands were hardly ever found is kept whole: in a test part it must be judged like any other,
        # and a clip of no event may well look like that
        count = np.count_nonzero(hand)
        if count >= max(1, settings.minimum_frames):
            return hand, count
    return anything, np.count_nonzero(anything)


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


def _body(points: np.ndarray, mask: np.ndarray, choice: _Choice, aspect: float) -> tuple[np.ndarray, float]:
    """Origin [3] and unit of length of a clip: medians over frames, of the body where it was seen, else of hands; the
    picture's where the skeleton has no such points and its coordinates are the picture's.
    """
    skeleton, hands = choice.skeleton, choice.hands
    if skeleton.in_picture and not len(choice.origin):
        middle = np.array([aspect / 2, 0.5, 0], np.float32)
    else:
        middle = _middle(points, mask, choice)
    if skeleton.unit:
        axes = 2 if skeleton.depth_by_part else 3  # such depth is guessed, and too noisy for a unit
        lengths = loops.distances(points, mask, *skeleton.unit, axes)
        if len(lengths):
            unit = float(loops.medians(lengths[:, None])[0])
            if unit > _SMALLEST_UNIT:
                return middle, unit
    elif skeleton.in_picture:
        return middle, _PICTURE_UNIT
    radii = [radius for hand in hands if (radius := _radius(points, mask, hand)) > _SMALLEST_UNIT]
    if radii:
        return middle, max(radii) * _SHOULDERS_PER_HAND
    return middle, max(_radius(points, mask, list(range(mask.shape[1]))), 1e-2)


def _middle(points: np.ndarray, mask: np.ndarray, choice: _Choice) -> np.ndarray:
    """Origin [3] of a clip: the median over frames of the body's where it was seen, else of the hands' middle."""
    skeleton, hands = choice.skeleton, choice.hands
    centres = loops.middles(points, mask, choice.origin) if len(choice.origin) else ()
    if not len(centres):
        chosen = sorted(point for hand in hands for point in hand) or list(range(mask.shape[1]))
        counts = mask[:, chosen].sum(1)
        centres = (points[:, chosen].sum(1) / np.maximum(counts, 1)[:, None])[counts > 0]
        if not len(centres):  # hands may be missing throughout where frames without them are kept
            centres = points[mask][None].mean(1)
    middle = loops.medians(centres).astype(np.float32)
    if skeleton.depth_by_part:
        middle[2] = 0
    return middle


def _radius(points: np.ndarray, mask: np.ndarray, chosen: list[int]) -> float:
    """Root-mean-square distance of a part's points from their centre in x and y, of an open hand; 0 if never seen."""
    seen = mask[:, chosen]
    whole = seen.all(1)
    if not whole.any():
        return 0.0
    squares = points[np.ix_(whole, chosen)][..., :2].var(axis=1).sum(-1)
    return float(np.sqrt(np.quantile(squares, _OPEN_HAND)))
