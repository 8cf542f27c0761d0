"""One clip as somebody else extracted it, before it enters the store: its landmarks, or why they cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


class Unusable(ValueError):
    """A clip's landmarks cannot be used; the text is the reason for the table of rejects."""


@dataclass(frozen=True)
class Recording:
    """points float32 [T, P, 3], NaN where missing; times float64 [T] in seconds, None where they are not recorded.

    size: width and height in pixels of the pictures whose fractions x and y are; None where they are not known.
    """

    points: np.ndarray
    times: np.ndarray | None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Source:
    """One clip's landmarks, not loaded yet. `fingerprint` changes with their bytes; `load` may raise Unusable."""

    fingerprint: str
    load: Callable[[], Recording]


def to_points(array: np.ndarray, count: int, missing: float | None = None, y_up: bool = False) -> np.ndarray:
    """Bring an array of landmarks into the project's form.

    Args:
        array: [T, P, C], with any axes in place of P (hands x joints), or [T, P * C]; C is 2 or 3.
        count: P.
        missing: number that all coordinates of an undetected point have, beside NaN.
        y_up: y grows upwards in the source; here it grows downwards, as in a picture.

    Returns:
        float32 [T, P, 3]; NaN in all three coordinates where x or y is missing; z is 0 where it is not recorded.

    Raises:
        Unusable: not numbers, no frame, another number of points, infinite values, or no point at all.
    """
    if array.dtype.kind not in "fiu":
        raise Unusable(f"it holds {array.dtype} instead of numbers")
    shape = array.shape
    if array.ndim == 2 and shape[1] in (2 * count, 3 * count):
        array = array.reshape(shape[0], count, -1)
    if array.ndim < 3 or array.shape[-1] not in (2, 3):
        raise Unusable(f"its array has the shape {list(shape)}, not [frames, {count}, 2 or 3]")
    if array.shape[0] == 0:
        raise Unusable("it has no frame")
    array = array.reshape(array.shape[0], -1, array.shape[-1])
    if array.shape[1] != count:
        raise Unusable(f"it has {array.shape[1]} points a frame (shape {list(shape)}), but the skeleton has {count}")
    points = np.zeros((*array.shape[:2], 3), np.float32)
    points[..., : array.shape[-1]] = array
    if missing is not None:
        points[(array == missing).all(-1)] = np.nan
    if np.isinf(points).any():
        raise Unusable("it has infinite coordinates")
    points[np.isnan(points[..., :2]).any(-1)] = np.nan
    if np.isnan(points).all():
        raise Unusable("no point is detected in any of its frames")
    points[..., 2] = np.where(np.isnan(points[..., 0]), np.nan, np.nan_to_num(points[..., 2]))
    if y_up:
        points[..., 1] *= -1
    return points


def shorten(error: Exception) -> str:
    """An error's text on one line, for a reason or a sentence."""
    return " ".join(str(error).split())[:200] or type(error).__name__
