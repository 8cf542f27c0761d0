"""Slovo's own landmarks, `slovo_mediapipe.json` (1.2 GB): the hands in every frame of the trimmed videos, as a stream.

The layout is that which the data set's authors read in their notebook visualize_landmarks.ipynb (GitHub hukenovs/slovo,
commit 6c197c0): an object whose keys are attachment_id; each value a list with an object for every frame; in it an
entry for each hand that was found, a list of 21 points with x and y, fractions of the picture (the notebook multiplies
them by width and height). The entries' names, "hand 1" and "hand 2", and the coordinate z are in no text of the
authors; five independent public loaders of the file read them, all alike. None of these sources says which of the two
is the left hand, so they are taken in the order of detection. The file itself was not at hand when this was written:
what departs from the layout is refused with the place, never guessed at.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import BinaryIO

import numpy as np

HANDS, JOINTS = ("hand 1", "hand 2"), 21
LAYOUT = 'Slovo\'s landmarks are ({attachment_id: [{"hand 1": [{"x": ..., "y": ..., "z": ...}, 20 more]}, ...]})'


class Malformed(ValueError):
    """The file as a whole cannot be read on: no JSON, cut short, or no object of clips."""


def read_hands(file: BinaryIO, wanted: Container[str]) -> Iterator[tuple[str, np.ndarray | str]]:
    """Yield the clips of the file that are wanted, in its order: the id and the hands, or why they cannot be used.

    Holds one clip in memory at a time. hands: float64 [T, 42, 3], first "hand 1" and then "hand 2", NaN where a frame
    has no such entry. Raises Malformed where the file is no JSON object, or breaks off.
    """
    import ijson

    if not file.read(64).lstrip().startswith(b"{"):
        raise Malformed("it does not begin with an object")  # kvitems would go through a list without a word
    file.seek(0)
    try:
        for clip, frames in ijson.kvitems(file, "", use_float=True):
            if clip in wanted:
                try:
                    yield clip, _points(frames)
                except ValueError as error:
                    yield clip, str(error)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise Malformed(" ".join(str(error).split())) from error


def _points(frames: object) -> np.ndarray:
    """One clip. Raises ValueError with the first frame that is not as described."""
    if not isinstance(frames, list):
        raise ValueError(f"a list of frames was expected, not {type(frames).__name__}")
    points = np.full((len(frames), len(HANDS), JOINTS, 3), np.nan)
    for number, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise ValueError(f"frame {number} is no object of hands")
        for name, hand in frame.items():
            if name not in HANDS:
                raise ValueError(f"frame {number} has the entry `{name[:40]}`, not {' or '.join(HANDS)}")
            try:
                joints = np.array([[joint["x"], joint["y"], joint["z"]] for joint in hand])
            except (TypeError, KeyError, ValueError):
                joints = np.empty(0)
            if joints.shape != (JOINTS, 3) or joints.dtype.kind not in "fi":
                raise ValueError(f"{name} of frame {number} is not {JOINTS} points with numbers x, y and z")
            points[number, HANDS.index(name)] = joints
    return points.reshape(len(frames), len(HANDS) * JOINTS, 3)
