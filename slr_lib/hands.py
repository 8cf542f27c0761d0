"""Which of the hands that a model proposes are believed, and where to look again for one that was missed.

Points are MediaPipe's: x and y as shares of the picture's width and height. A side is 0 for left and 1 for right, as
the pose names its wrists; a hand belongs to the side at whose wrist it sits, whatever the hand model calls it.
"""

from __future__ import annotations

import numpy as np

HAND_SLICES, POSE = (slice(468, 489), slice(522, 543)), slice(489, 522)  # of the skeleton `holistic`
SURE = 0.5  # score from which a hand is believed as it is, Holistic's own threshold; below, if all is in the picture

# pose points of the left side; the right side's follow by one
_SHOULDER, _ELBOW, _WRIST, _LITTLE, _INDEX = 11, 13, 15, 17, 19
_HAND_WRIST, _HAND_KNUCKLE = 0, 9
# all in body scales, which are about a shoulder's width: twice a hand's length
_FOREARM = 1 / 1.2  # a forearm, by which to measure where the shoulders are seen from the side
_CROP = 1.8  # side of the square to look at again
_REACH = 0.5  # farthest from the pose's wrist that a hand's own wrist may lie
_SAME = 0.12  # median distance of joints below which two hands are one
_PALM = (0.08, 0.45)  # shortest and longest distance from wrist to the middle finger's knuckle
_LEAST_CROP = 16  # pixels


def in_picture(hand: np.ndarray) -> bool:
    """Whether all of a hand's joints [21, 3] lie in the picture."""
    return bool(((hand[:, :2] >= 0) & (hand[:, :2] <= 1)).all())


def crop_at_wrist(points: np.ndarray, side: int, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Where to look for the hand of a side: left, top, right, bottom in pixels, ends excluded.

    points: one frame's [543, 3]. None where there is no pose, or where it puts the hand outside the picture.
    """
    pose = points[POSE, :2] * (width, height)
    middle = pose[[_WRIST + side, _LITTLE + side, _INDEX + side]].mean(axis=0)
    if not ((middle >= 0) & (middle < (width, height))).all():  # also where they are NaN
        return None
    half = _CROP / 2 * _body_scale(pose, side)
    left, top = np.maximum(np.floor(middle - half), 0).astype(int)
    right, bottom = np.minimum(np.ceil(middle + half), (width, height)).astype(int)
    if min(right - left, bottom - top) < _LEAST_CROP:
        return None
    return int(left), int(top), int(right), int(bottom)


def choose_hand(hands: np.ndarray, points: np.ndarray, side: int, width: int, height: int) -> int | None:
    """Which of the hands found in a crop is the one of this side; None where none is.

    It must sit at this side's wrist of the pose and nearer to it than to the other wrist, have a hand's size, lie all
    in the picture, and not be the hand that was found on the other side already. Of several, the nearest to the wrist.

    hands: [N, 21, 3]; points: the frame's [543, 3], NaN where undetected.
    """
    size = np.array((width, height))
    pose = points[POSE, :2] * size
    scale = _body_scale(pose, side)
    other = points[HAND_SLICES[1 - side], :2] * size
    best, nearest = None, _REACH
    for number, hand in enumerate(hands):
        joints = hand[:, :2] * size
        gap, other_gap = (np.linalg.norm(joints[_HAND_WRIST] - pose[_WRIST + at]) / scale for at in (side, 1 - side))
        palm = np.linalg.norm(joints[_HAND_KNUCKLE] - joints[_HAND_WRIST]) / scale
        same = np.median(np.linalg.norm(joints - other, axis=1)) < _SAME * scale  # false where there is no other
        if gap < min(nearest, other_gap) and _PALM[0] < palm < _PALM[1] and not same and in_picture(hand):
            best, nearest = number, gap
    return best


def _body_scale(pose: np.ndarray, side: int) -> float:
    """About a shoulder's width in pixels. pose: [33, 2] in pixels."""
    shoulders = np.linalg.norm(pose[_SHOULDER] - pose[_SHOULDER + 1])
    return max(shoulders, np.linalg.norm(pose[_ELBOW + side] - pose[_WRIST + side]) / _FOREARM)
