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
from types import SimpleNamespace

import numpy as np

from slr_lib.errors import InputError

POINTS = 543
PARTS = {"face": slice(0, 468), "left_hand": slice(468, 489), "pose": slice(489, 522), "right_hand": slice(522, 543)}
IRIS_POINTS = 10  # 468-477 of a face by newer models
# What decides the landmarks of a clip, besides its bytes and the settings
_PACKAGES = ("mediapipe", "av")
_MODULES = ("video.py", "landmarks.py")


@dataclass(frozen=True)
class HolisticSettings:
    """MediaPipe Holistic's own settings; the wheel holds the model of complexity 1, the others it downloads.

    task_file: path of a holistic_landmarker.task, by which mediapipe >= 1.0 is used instead of 0.10.21's Holistic. The
    file decides complexity and smoothing. docs/mediapipe.md says what differs and what is not tested.
    Raises InputError for a complexity other than 0, 1, 2, a confidence outside 0-1, or what a task file cannot do.
    """

    model_complexity: int = 1
    smooth_landmarks: bool = True
    min_detection_confidence: float = 0.5
    min_tracking_confidence: float = 0.5
    task_file: str = ""

    def __post_init__(self):
        if self.model_complexity not in (0, 1, 2):
            raise InputError(f"model_complexity is {self.model_complexity}; it must be 0, 1 or 2")
        for name in ("min_detection_confidence", "min_tracking_confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
        if self.task_file:
            if self.model_complexity != 1 or not self.smooth_landmarks:
                raise InputError("a task_file decides the model's complexity and smoothing itself; leave "
                                 "model_complexity at 1 and smooth_landmarks at true")
            object.__setattr__(self, "task_file", str(Path(self.task_file).absolute()))


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

    That is: versions of MediaPipe and PyAV, the settings, the content of a task file (not its place), and the code of
    the two modules between a file and its landmarks; comments, docstrings and layout do not count.
    Raises InputError where the task file cannot be read.
    """
    folder = Path(__file__).parent
    given = asdict(settings or HolisticSettings())
    if given["task_file"]:
        given["task_file"] = hashlib.sha256(_read_task(given["task_file"])).hexdigest()
    parts = {
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "settings": given,
        "code": {name: _code((folder / name).read_text(encoding="utf-8")) for name in _MODULES},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _holistic(settings: HolisticSettings):
    """A fresh MediaPipe Holistic."""
    if settings.task_file:
        return _TaskHolistic(settings)
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import mediapipe
        solution = mediapipe.solutions.holistic.Holistic
    except (ImportError, AttributeError):
        raise InputError("MediaPipe's Holistic solution is missing (mediapipe 1.x dropped it): install the versions of "
                         "requirements.lock, mediapipe 0.10.21 among them, or name a task_file (docs/mediapipe.md)"
                         ) from None
    given = asdict(settings)
    del given["task_file"]
    return solution(static_image_mode=False, **given)


class _TaskHolistic:
    """MediaPipe 1.x's HolisticLandmarker, with the face of 0.10's Holistic: `process` a frame, `close`.

    Frames count as 1/30 s apart whatever the clip's rate, as 0.10's Holistic takes them too. Of a face of 478 points
    the last ten, the irises, are left out, for the skeleton has none; a part that is not found is an empty list there.
    """

    def __init__(self, settings: HolisticSettings):
        _read_task(settings.task_file)  # MediaPipe's own words for a missing file name no remedy
        try:
            release = importlib.metadata.version("mediapipe")
        except importlib.metadata.PackageNotFoundError:
            release = "none"
        if not release.partition(".")[0].isdecimal() or int(release.partition(".")[0]) < 1:
            # 0.10.21 has a reader of such files as well, which ends the whole process where a hand is out of view
            raise InputError(f"a task_file needs mediapipe 1.0 or newer, and {release} is installed: see "
                             "docs/mediapipe.md, or leave task_file empty")
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.HolisticLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=settings.task_file),
            running_mode=vision.RunningMode.VIDEO,
            min_face_detection_confidence=settings.min_detection_confidence,
            min_pose_detection_confidence=settings.min_detection_confidence,
            min_face_landmarks_confidence=settings.min_tracking_confidence,
            min_pose_landmarks_confidence=settings.min_tracking_confidence,
        )
        try:
            self._landmarker = vision.HolisticLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{settings.task_file}: MediaPipe {release} cannot use it ({reason}); download "
                             "holistic_landmarker.task again (docs/mediapipe.md)") from None
        self._image = lambda frame: mediapipe.Image(
            image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
        self._frames = 0

    def process(self, frame: np.ndarray) -> SimpleNamespace:
        """The parts of a frame as 0.10 gives them: `<part>_landmarks` with a list `landmark`, None where not found."""
        result = self._landmarker.detect_for_video(self._image(frame), round(self._frames * 1000 / 30))
        self._frames += 1
        return _as_solution(result)

    def close(self) -> None:
        self._landmarker.close()


def _as_solution(result) -> SimpleNamespace:
    """A HolisticLandmarkerResult in the form of the solution's; RuntimeError where it has other numbers of points."""
    parts = {}
    for part, where in PARTS.items():
        found, count = getattr(result, f"{part}_landmarks"), where.stop - where.start
        if len(found) not in (0, count) and not (part == "face" and len(found) == count + IRIS_POINTS):
            raise RuntimeError(f"MediaPipe gave {len(found)} points of {part}, where {count} were expected")
        parts[f"{part}_landmarks"] = SimpleNamespace(landmark=found[:count]) if found else None
    return SimpleNamespace(**parts)


def _read_task(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: the task_file cannot be read ({error.strerror}); download holistic_landmarker.task "
                         "and name its path (docs/mediapipe.md), or leave task_file empty for mediapipe 0.10.21"
                         ) from None


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
