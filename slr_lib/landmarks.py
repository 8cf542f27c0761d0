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
from slr_lib.hands import HAND_SLICES, POSE, SURE, choose_hand, crop_at_wrist, in_picture

POINTS = 543
PARTS = {"face": slice(0, 468), "left_hand": HAND_SLICES[0], "pose": POSE, "right_hand": HAND_SLICES[1]}
IRIS_POINTS = 10  # 468-477 of a face by newer models
# What decides the landmarks of a clip, besides its bytes and the settings
_PACKAGES = ("mediapipe", "av")
_MODULES = ("video.py", "landmarks.py", "hands.py")
# Inside Holistic's graph, for the left and the right hand: what judges a hand, and the score that it judges by
_JUDGES = tuple(f"handlandmarksleftandrightcpu__handlandmarksfromposecpu_{side}__handlandmarkcpu__" for side in (1, 2))
_SCORES = tuple(f"{judge}hand_presence_score" for judge in _JUDGES)
# The hand model that looks again is asked to be generous: `choose_hand` has the pose to judge by, the model has not
_PALM_CONFIDENCE, _HAND_CONFIDENCE = 0.2, 0.1
_BLANK, _BLANKS = np.zeros((64, 64, 3), np.uint8), 3  # shown between two videos, so often at most


@dataclass(frozen=True)
class HolisticSettings:
    """MediaPipe Holistic's own settings, and two for the hands; the wheel holds the model of complexity 1 alone, the
    others it downloads.

    min_hand_confidence: score from which a hand counts as found and is tracked on. MediaPipe has 0.5 and no setting
    for it. A hand of a lower score than that is kept only where all its joints lie in the picture.
    second_look: where the pose puts a hand into the picture and Holistic finds none, search there with the hand model.
    docs/hands.md gives the reasons for both defaults; 0.5 and False are bare Holistic.
    task_file: path of a holistic_landmarker.task, by which mediapipe >= 1.0 is used instead of 0.10.21's Holistic. The
    file decides complexity and smoothing. docs/mediapipe.md says what differs and what is not tested.
    Raises InputError for a complexity other than 0, 1, 2, a confidence outside 0-1, or what a task file cannot do.
    """

    model_complexity: int = 1
    smooth_landmarks: bool = True
    min_detection_confidence: float = 0.5
    min_tracking_confidence: float = 0.5
    min_hand_confidence: float = 0.1
    second_look: bool = True
    task_file: str = ""

    def __post_init__(self):
        if self.model_complexity not in (0, 1, 2):
            raise InputError(f"model_complexity is {self.model_complexity}; it must be 0, 1 or 2")
        for name in ("min_detection_confidence", "min_tracking_confidence", "min_hand_confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
        if self.task_file:
            if self.model_complexity != 1 or not self.smooth_landmarks:
                raise InputError("a task_file decides the model's complexity and smoothing itself; leave "
                                 "model_complexity at 1 and smooth_landmarks at true")
            if self.second_look or self.min_hand_confidence < SURE:
                raise InputError("mediapipe >= 1.0 tells no scores of hands and has no model for a second look; with a "
                                 f"task_file set second_look to false and min_hand_confidence to {SURE} or more")
            object.__setattr__(self, "task_file", str(Path(self.task_file).absolute()))


class LandmarkExtractor:
    """Landmarks of one video after another, by models that are loaded once; a context manager, for one thread.

    A fresh Holistic takes 20 ms to make and another 100 to load its models at the first frame. What it carries from one
    frame to the next is where each part was, and filters over the pose; a frame in which nothing is found empties both.
    So between two videos it is shown blank frames until it finds nothing, and then gives the bytes that a fresh one
    gives. Where blank frames do not do (with confidences near 0), after a failure, and always with a task_file, whose
    graph is another, the next video gets a fresh one.
    """

    def __init__(self, settings: HolisticSettings | None = None):
        self.settings = settings or HolisticSettings()
        self._holistic = None  # made at a video's first frame
        self._met = False  # whether it has seen a person
        self._look_again = _SecondLook() if self.settings.second_look else None

    def __enter__(self) -> LandmarkExtractor:
        return self

    def __exit__(self, *_error) -> None:
        self.close()

    def close(self) -> None:
        """Release the models; those that a later video needs are loaded anew."""
        self._drop()
        if self._look_again:
            self._look_again.close()

    def extract(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """Landmarks of one video: float32 [T, 543, 3], NaN where a part was not detected in a frame.

        frames: uint8 RGB [H, W, 3], in order. Equal frames give equal bytes, whatever came before.
        Raises InputError where MediaPipe is not the one that the project needs, RuntimeError where MediaPipe itself
        fails.
        """
        if self._holistic is not None and (self.settings.task_file or not self._forget()):
            self._drop()
        rows: list[np.ndarray] = []
        for frame in frames:
            rows.append(_points(self._process(frame)))
            self._met = self._met or not np.isnan(rows[-1][PARTS["pose"].start, 0])
            if self._look_again:
                self._look_again(frame, rows[-1])
        return np.stack(rows) if rows else np.empty((0, POINTS, 3), np.float32)

    def _process(self, frame: np.ndarray):
        # up to the first person, each model says something when it is made or first run, whatever the log level
        with contextlib.nullcontext() if self._met else _quiet():
            if self._holistic is None:
                self._holistic = _holistic(self.settings)
            try:
                return self._holistic.process(frame)
            except BaseException:  # it may be between two frames: the next video gets a fresh one
                self._drop()
                raise

    def _forget(self) -> bool:
        """Show Holistic blank frames until it finds nothing; whether it came to that."""
        for _ in range(_BLANKS):
            result = self._process(_BLANK)
            if all(getattr(result, f"{part}_landmarks") is None for part in PARTS):
                return True
        return False

    def _drop(self) -> None:
        holistic, self._holistic, self._met = self._holistic, None, False
        if holistic is not None:
            holistic.close()


def extract_landmarks(frames: Iterable[np.ndarray], settings: HolisticSettings | None = None) -> np.ndarray:
    """Landmarks of a single video, by models of its own; see `LandmarkExtractor.extract`."""
    with LandmarkExtractor(settings) as extractor:
        return extractor.extract(frames)


def find_hands(picture: np.ndarray, palm_confidence: float = _PALM_CONFIDENCE,
               hand_confidence: float = _HAND_CONFIDENCE) -> np.ndarray:
    """Hands in a single picture by the hand model alone, which needs no person: float32 [N, 21, 3], N up to 2.

    picture: uint8 RGB [H, W, 3]. Raises InputError where MediaPipe is not the one that the project needs.
    """
    with _quiet(), contextlib.closing(_hand_model(palm_confidence, hand_confidence)) as model:
        return _found(model.process(picture))


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


class _SecondLook:
    """Searches a frame for the hands that Holistic missed. The model is made when it is first needed."""

    def __init__(self):
        self._model = None

    def close(self) -> None:
        if self._model is not None:
            self._model.close()
            self._model = None

    def __call__(self, frame: np.ndarray, points: np.ndarray) -> None:
        """Add to a frame's points [543, 3] the hands that are found around the pose's wrists."""
        height, width = frame.shape[:2]
        for side, where in enumerate(HAND_SLICES):
            crop = crop_at_wrist(points, side, width, height) if np.isnan(points[where.start, 0]) else None
            if crop is None:
                continue
            left, top, right, bottom = crop
            hands = self._search(np.ascontiguousarray(frame[top:bottom, left:right]))
            # depth is on the scale of x
            hands = hands * np.float32([right - left, bottom - top, right - left]) + np.float32([left, top, 0])
            hands /= np.float32([width, height, width])
            chosen = choose_hand(hands, points, side, width, height)
            if chosen is not None:
                points[where] = hands[chosen]

    def _search(self, picture: np.ndarray) -> np.ndarray:
        if self._model is not None:
            return _found(self._model.process(picture))
        with _quiet():
            self._model = _hand_model(_PALM_CONFIDENCE, _HAND_CONFIDENCE)
            return _found(self._model.process(picture))


def _hand_model(palm_confidence: float, hand_confidence: float):
    """A fresh hand model for single pictures: finds palms, then judges the hand at each by its own score."""
    return _solutions().hands.Hands(static_image_mode=True, max_num_hands=2, min_detection_confidence=palm_confidence,
                                    min_tracking_confidence=hand_confidence)


def _found(result) -> np.ndarray:
    """The hand model's result as float32 [N, 21, 3]."""
    hands = [[(point.x, point.y, point.z) for point in hand.landmark] for hand in result.multi_hand_landmarks or []]
    return np.array(hands, np.float32).reshape(-1, 21, 3)


def _solutions():
    """MediaPipe's solutions; each instance of one is fresh."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import mediapipe
        return mediapipe.solutions
    except (ImportError, AttributeError):
        raise InputError("MediaPipe's Holistic solution is missing (mediapipe 1.x dropped it): install the versions of "
                         "requirements.lock, mediapipe 0.10.21 among them, or name a task_file (docs/mediapipe.md)"
                         ) from None


def _holistic(settings: HolisticSettings):
    """A fresh Holistic: a task file's, or MediaPipe's own graph with its own values, opened where it judges hands."""
    if settings.task_file:
        return _TaskHolistic(settings)
    holistic = _solutions().holistic
    from mediapipe.python.solution_base import SolutionBase

    if settings.model_complexity != 1:
        holistic._download_oss_pose_landmark_model(settings.model_complexity)
    pose = "poselandmarkcpu__"
    return SolutionBase(
        binary_graph_path="mediapipe/modules/holistic_landmark/holistic_landmark_cpu.binarypb",
        side_inputs={
            "model_complexity": settings.model_complexity, "smooth_landmarks": settings.smooth_landmarks,
            "enable_segmentation": False, "smooth_segmentation": True, "refine_face_landmarks": False,
            "use_prev_landmarks": True,
        },
        calculator_params={
            f"{pose}posedetectioncpu__TensorsToDetectionsCalculator.min_score_thresh":
                settings.min_detection_confidence,
            f"{pose}poselandmarkbyroicpu__tensorstoposelandmarksandsegmentation__ThresholdingCalculator.threshold":
                settings.min_tracking_confidence,
            **{f"{judge}ThresholdingCalculator.threshold": settings.min_hand_confidence for judge in _JUDGES},
        },
        outputs=[*(f"{part}_landmarks" for part in PARTS), *_SCORES],
    )


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
            min_hand_landmarks_confidence=settings.min_hand_confidence,
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
    for where, name in zip(HAND_SLICES, _SCORES):
        score = getattr(result, name, None)
        if score is not None and score < SURE and not in_picture(points[where]):
            points[where] = np.nan
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
