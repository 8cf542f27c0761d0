"""RGB frames -> landmarks by MediaPipe Holistic; the only module that imports mediapipe, and only when it is needed.

The points are those of the skeleton `holistic`: face 0-467, left hand 468-488, pose 489-521, right hand 522-542. x and
y are fractions of the picture's width and height, z is depth on x's scale with a zero of each part's own.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from slr_lib.errors import InputError

POINTS = 543
PARTS = {"face": slice(0, 468), "left_hand": slice(468, 489), "pose": slice(489, 522), "right_hand": slice(522, 543)}
# What decides the landmarks of a clip, besides its bytes and the settings
_PACKAGES = ("mediapipe", "av")
_MODULES = ("video.py", "landmarks.py")


@dataclass(frozen=True)
class HolisticSettings:
    """MediaPipe Holistic's own settings; the wheel holds the model of complexity 1, the others it downloads.

    Raises InputError for a complexity other than 0, 1, 2 or a confidence outside 0-1.
    """

    model_complexity: int = 1
    smooth_landmarks: bool = True
    min_detection_confidence: float = 0.5
    min_tracking_confidence: float = 0.5

    def __post_init__(self):
        if self.model_complexity not in (0, 1, 2):
            raise InputError(f"model_complexity is {self.model_complexity}; it must be 0, 1 or 2")
        for name in ("min_detection_confidence", "min_tracking_confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")


def extract_landmarks(frames: Iterable[np.ndarray], settings: HolisticSettings | None = None) -> np.ndarray:
    """Landmarks of one video: float32 [T, 543, 3], NaN where a part was not detected in a frame.

    frames: uint8 RGB [H, W, 3], in order. Holistic tracks from frame to frame, so a video gets an instance of its own:
    one that had seen another video would give other landmarks. Equal frames give equal bytes.
    Raises InputError where MediaPipe is not the one that the project needs, RuntimeError where MediaPipe itself fails.
    """
    settings = settings or HolisticSettings()
    rows: list[np.ndarray] = []
    holistic, met = None, False
    try:
        for frame in frames:
            # up to the first person, each model says something when it is made or first run, whatever the log level
            with contextlib.nullcontext() if met else _quiet():
                holistic = holistic or _holistic(settings)
                rows.append(_points(holistic.process(frame)))
            met = met or not np.isnan(rows[-1][PARTS["pose"].start, 0])
    finally:
        if holistic is not None:
            holistic.close()
    return np.stack(rows) if rows else np.empty((0, POINTS, 3), np.float32)


def detected(points: np.ndarray) -> dict[str, np.ndarray]:
    """For each part, bool [T]: whether it was detected. points: [T, 543, 3], NaN where not."""
    return {part: ~np.isnan(points[:, where, 0]).all(axis=1) for part, where in PARTS.items()}


def fingerprint(settings: HolisticSettings | None = None) -> str:
    """16 hexadecimal digits that change with whatever decides a clip's landmarks, and so tell whether to extract again.

    That is: versions of MediaPipe and PyAV, the settings, and the code of the two modules between a file and its
    landmarks; comments, docstrings and layout do not count.
    """
    folder = Path(__file__).parent
    parts = {
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "settings": asdict(settings or HolisticSettings()),
        "code": {name: _code((folder / name).read_text(encoding="utf-8")) for name in _MODULES},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _holistic(settings: HolisticSettings):
    """A fresh MediaPipe Holistic."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import mediapipe
        solution = mediapipe.solutions.holistic.Holistic
    except (ImportError, AttributeError):
        raise InputError("MediaPipe's Holistic solution is missing (mediapipe 1.x dropped it): install the versions of "
                         "requirements.lock, mediapipe 0.10.21 among them") from None
    return solution(static_image_mode=False, **asdict(settings))


def _points(result) -> np.ndarray:
    """One frame's result as float32 [543, 3]; parts that were not detected are NaN and shift nothing."""
    points = np.full((POINTS, 3), np.nan, np.float32)
    for part, where in PARTS.items():
        found = getattr(result, f"{part}_landmarks")
        if found is not None:
            points[where] = [(point.x, point.y, point.z) for point in found.landmark]
    return points


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send what native code writes to standard error nowhere for a moment."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _code(source: str) -> str:
    """The syntax tree of a module without its docstrings, as text."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(value=ast.Constant(value=str())), *rest]:
                    node.body = rest
    return ast.dump(tree)
