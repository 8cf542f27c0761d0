"""What is really in a drawn picture, as MediaPipe Holistic would say it; how near an extraction comes; and landmarks
as an extraction would give them, without a picture drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from slr_lib.demo.camera import Camera, frame_signer
from slr_lib.demo.face import face_mesh
from slr_lib.demo.figure import Body, body_joints, head_centre
from slr_lib.demo.motion import no_event_pose, plan_timing, sign_pose
from slr_lib.demo.signers import Signer, vary
from slr_lib.demo.signs import Sign

POINTS = 543
FACE, LEFT_HAND, POSE, RIGHT_HAND = slice(0, 468), slice(468, 489), slice(489, 522), slice(522, 543)
HAND_SLICES = (LEFT_HAND, RIGHT_HAND)
_FACE_IN_POSE = {0: 1, 1: 362, 2: 386, 3: 263, 4: 133, 5: 159, 6: 33, 9: 291, 10: 61}  # pose point -> face point
_HAND_IN_POSE = {15: 0, 17: 17, 19: 5, 21: 3}  # left-hand pose point -> hand joint; the right hand's follow by one
_NEAR = 1.0      # hand lengths: a detection whose joints lie farther off (median) is not of this hand
_IN_PICTURE = 0.6  # of a hand's joints, for it to count as visible
# noise of an extraction, standard deviation: hands in hand lengths, the others in head heights
_HAND_NOISE, _FACE_NOISE, _POSE_NOISE = 0.03, 0.006, 0.02


def holistic_points(body: Body, signer: Signer, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The 543 points of MediaPipe Holistic for every frame, whether inside the picture or not.

    Returns:
        points float32 [T, 543, 3]: x and y as shares of the picture's width and height; z in units of its width,
        relative to the wrist (hands), the middle of the hips (pose) and the head's middle (face).
        hand_visible bool [T, 2]: left and right, whether most of the hand is inside the picture.
    """
    frames = len(body.face)
    points = np.empty((frames, POINTS, 3), np.float32)
    points[:, FACE] = body.face
    points[:, LEFT_HAND], points[:, RIGHT_HAND] = body.hands[:, 0], body.hands[:, 1]
    points[:, POSE] = _pose_points(body, signer)
    projected = camera.project(points)
    for part, origin in ((FACE, head_centre(signer)[2] - 0.2), (LEFT_HAND, body.wrists[:, 0, 2, None]),
                         (RIGHT_HAND, body.wrists[:, 1, 2, None]), (POSE, 0.0)):
        projected[:, part, 2] -= camera.scale * origin
    projected /= np.float32([camera.width, camera.height, camera.width])
    visible = np.stack([_inside(projected[:, part]).mean(1) >= _IN_PICTURE for part in HAND_SLICES], -1)
    return projected, visible


def hide_outside(points: np.ndarray, hand_visible: np.ndarray) -> np.ndarray:
    """A copy with NaN for pose points outside the picture and for hands that are not visible in it."""
    hidden = np.zeros(points.shape[:2], bool)
    hidden[:, POSE] = ~_inside(points[:, POSE])
    for hand, part in enumerate(HAND_SLICES):
        hidden[:, part] = ~hand_visible[:, hand, None]
    return np.where(hidden[..., None], np.float32(np.nan), points)


def extraction_truth(points: np.ndarray, truth: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How well an extraction agrees with what was drawn.

    MediaPipe may take a right hand for a left one: a hand counts as found in whichever slot it lies, if the median of
    its 21 distances is below one hand length.

    Args:
        points: float [T, 543, 3], as extracted, NaN where undetected.
        truth: a clip's truth/<id>.npz: points, hand_visible, signing, signing_hand, size (width, height) and
            hand_length, both in pixels.

    Returns:
        signing_hand_found: share of the stroke's frames in which the signing hand, being visible, was found;
        other_hands_found: share found of all other visible hands; swapped: share of the found hands that lay in the
        other side's slot; hand_error: median distance of found joints from the truth, in hand lengths (wrist to tip of
        the middle finger). NaN where there is nothing to measure. And the counts that the shares are of, to pool
        clips: signing_hands, other_hands, found_hands.

    Raises:
        ValueError: the extraction has another number of frames than the truth.
    """
    if len(points) != len(truth["points"]):
        raise ValueError(f"{len(points)} frames extracted, {len(truth['points'])} drawn")
    size = np.asarray(truth["size"], np.float64)
    pixels = points[..., :2] * size
    real = truth["points"][..., :2] * size
    length = float(truth["hand_length"])
    frames = np.arange(len(points))
    distance = np.full((len(points), 2, 2, 21), np.inf)  # frame, real hand, slot, joint
    for hand, part in enumerate(HAND_SLICES):
        for slot, other in enumerate(HAND_SLICES):
            gap = np.linalg.norm(pixels[:, other] - real[:, part], axis=-1) / length
            distance[:, hand, slot] = np.where(np.isnan(gap), np.inf, gap)
    middle = np.median(distance, -1)
    nearest = middle.argmin(-1)                          # frame, real hand
    visible = np.asarray(truth["hand_visible"], bool)
    found = visible & (middle.min(-1) < _NEAR)
    # one detection cannot be both hands
    both = found.all(-1) & (nearest[:, 0] == nearest[:, 1])
    worse = middle.min(-1).argmax(-1)
    found[frames[both], worse[both]] = False
    asked = np.zeros_like(visible)
    asked[:, int(truth["signing_hand"])] = np.asarray(truth["signing"], bool)
    asked &= visible
    others = visible & ~asked
    errors = np.take_along_axis(distance, nearest[:, :, None, None], 2)[:, :, 0][found]
    swapped = (nearest != np.arange(2))[found]
    return {
        "signing_hand_found": _share(found, asked), "other_hands_found": _share(found, others),
        "swapped": float(swapped.mean()) if swapped.size else float("nan"),
        "hand_error": float(np.median(errors)) if errors.size else float("nan"),
        "signing_hands": int(asked.sum()), "other_hands": int(others.sum()), "found_hands": int(found.sum()),
    }


def synthetic_landmarks(frames: int, seed: int | np.random.Generator, sign: Sign | None, signer: Signer) -> np.ndarray:
    """Landmarks as an extraction of a drawn clip would give them, without drawing: for load tests.

    Args:
        frames: length of the clip, at least 8.
        seed: an integer or a generator; the same integer gives the same landmarks.
        sign: None for no_event.

    Returns:
        float32 [frames, 543, 3], in MediaPipe's coordinates, NaN where a hand is "not detected": mostly at rest or
        outside the picture, and here and there for some frames of a stroke.
    """
    rng = np.random.default_rng(seed)
    take = vary(signer, rng)
    timing = plan_timing(take, rng, fps=15 * frames / 30, frames=frames)
    pose = no_event_pose(take, timing, rng) if sign is None else sign_pose(sign, take, timing, rng)
    camera = frame_signer(take, 256)
    points, visible = holistic_points(body_joints(pose, take), take, camera)
    unit = np.float32([camera.scale / camera.width, camera.scale / camera.height, camera.scale / camera.width])
    noise = rng.standard_normal(points.shape, np.float32)
    for part, size in ((FACE, _FACE_NOISE), (LEFT_HAND, _HAND_NOISE * take.hand), (POSE, _POSE_NOISE),
                       (RIGHT_HAND, _HAND_NOISE * take.hand)):
        points[:, part] += noise[:, part] * (size * unit)
    lost = ~visible
    # a hand is lost for some frames at a time, more often when it rests or moves fast
    speed = np.abs(np.diff(pose.palm, axis=0, prepend=pose.palm[:1])).sum(-1)
    resting = pose.palm[..., 1] > 1.6
    chance = np.where(resting, 0.35, 0.01) + 0.12 * np.clip(speed - 0.15, 0, 1)
    starts = rng.random(lost.shape) < chance
    lasting = rng.integers(1, 5, lost.shape)
    for delay in range(4):
        lost[delay:] |= (starts & (lasting > delay))[:len(starts) - delay]
    for hand, part in enumerate(HAND_SLICES):
        points[lost[:, hand], part] = np.nan
    return points


def _pose_points(body: Body, signer: Signer) -> np.ndarray:
    pose = np.empty((len(body.face), 33, 3), np.float32)
    for point, source in _FACE_IN_POSE.items():
        pose[:, point] = body.face[:, source]
    _, mirror = face_mesh()
    ear = 234
    pose[:, 7], pose[:, 8] = body.face[:, mirror[ear]], body.face[:, ear]
    for side in (0, 1):
        pose[:, 11 + side], pose[:, 13 + side] = body.shoulders[:, side], body.elbows[:, side]
        for point, joint in _HAND_IN_POSE.items():
            pose[:, point + side] = body.hands[:, side, joint]
        outward = 1 if side == 0 else -1
        for point, x, y, z in ((23, 0.5, 0.0, 0.0), (25, 0.5, 1.8, 0.0), (27, 0.5, 3.5, 0.1), (29, 0.5, 3.65, 0.2),
                               (31, 0.55, 3.75, -0.3)):
            pose[:, point + side] = (outward * x * signer.girth, signer.torso + y, z)
    return pose


def _inside(points: np.ndarray) -> np.ndarray:
    return ((points[..., :2] >= 0) & (points[..., :2] <= 1)).all(-1)


def _share(found: np.ndarray, asked: np.ndarray) -> float:
    return float(found[asked].mean()) if asked.any() else float("nan")
