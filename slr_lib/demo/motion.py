"""From a sign, or no sign at all, and a signer to what the figure does in every frame: rest, raise, stroke, lower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slr_lib.demo.figure import HAND_ANGLES, Pose, head_centre
from slr_lib.demo.signers import Signer
from slr_lib.demo.signs import Sign

# The signing side's frame: head heights from the middle of the shoulders; x outward on the hand's own side, y down,
# z away from the camera. Directions of the fingers and of the palm's normal:
_ORIENTATIONS = {
    "forward": ((-0.12, -1.0, -0.1), (0.0, -0.1, -1.0)),
    "inward": ((-0.40, -0.9, -0.05), (0.15, 0.0, 1.0)),
    "medial": ((-0.10, -0.9, -0.35), (-0.85, 0.0, -0.45)),
    "down": ((-0.85, 0.22, -0.35), (-0.1, 0.62, 0.75)),
    "up": ((-0.80, -0.30, -0.35), (0.1, -0.62, -0.75)),
}
_REST_HANDS = {  # palm, fingers, normal
    "hips": ((0.95, 2.2, -0.15), (0.05, 1.0, -0.05), (-0.5, 0.0, 0.85)),
    "lap": ((0.46, 1.95, -0.55), (-0.35, 0.85, -0.4), (0.1, 0.45, 0.9)),
    "belly": ((0.30, 1.42, -0.55), (-0.9, 0.42, -0.15), (0.1, 0.3, 0.95)),
    "out": ((0.85, 2.7, -0.1), (0.0, 1.0, 0.0), (-0.8, 0.0, 0.45)),
}
_BASE_HAND = ((0.12, 1.12, -0.75), (-0.95, 0.0, -0.2), (0.0, -0.6, -0.8))
_ABOVE_BASE = (0.30, 0.50, -0.95)
REST, STROKE, MOVE = 3, 13, 5  # typical lengths of the phases in frames at the demo's rate of 15/s
_TALKS = ("scratch", "fold", "talk", "reach", "touch", "idle")


@dataclass(frozen=True)
class Action:
    """What one hand does in a stroke, in its own side's frame.

    palm, fingers, normal: float [3]; opening and closing: float [5, 4] finger angles at the stroke's start and end;
    path: progress [T] from 0 to 1 -> offsets [T, 3] of the palm; twist: progress [T] -> turn [T] of the palm about
    the fingers' direction, radians.
    """

    palm: np.ndarray
    fingers: np.ndarray
    normal: np.ndarray
    opening: np.ndarray
    closing: np.ndarray
    path: Callable[[np.ndarray], np.ndarray]
    twist: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Timing:
    """Weight of the stroke against rest [T], progress of the stroke [T], and the stroke's own frames [T] bool."""

    weight: np.ndarray
    progress: np.ndarray
    stroke: np.ndarray


def plan_timing(signer: Signer, rng: np.random.Generator, fps: float = 15.0, frames: int | None = None) -> Timing:
    """A clip's phases with ease-in and ease-out; lengths by tempo and chance, or stretched to `frames` frames."""
    scale = fps / 15 / signer.tempo
    lengths = np.array([REST, MOVE, STROKE, MOVE, REST], float) * rng.uniform(0.8, 1.2, 5)
    lengths *= [1, scale, scale, scale, 1]
    total = int(np.clip(round(lengths.sum()), 24 * fps / 15, 34 * fps / 15)) if frames is None else frames
    edges = np.cumsum(lengths * total / lengths.sum())
    time = np.arange(total) + 0.5
    raised = _ease((time - edges[0]) / (edges[1] - edges[0]))
    lowered = _ease((time - edges[2]) / (edges[3] - edges[2]))
    progress = np.clip((time - edges[1]) / (edges[2] - edges[1]), 0, 1)
    return Timing(raised * (1 - lowered), 0.35 * progress + 0.65 * _ease(progress),
                  (time >= edges[1]) & (time < edges[2]))


def sign_pose(sign: Sign, signer: Signer, timing: Timing, rng: np.random.Generator) -> Pose:
    """A signer signing; the left-handed sign with the left hand."""
    main = _sign_action(sign, signer)
    actions = {"one": (main, None), "mirror": (main, main), "base": (main, _base_action())}[sign.hands]
    return _perform(actions, _mouth_of(sign.mouthing), signer, timing, rng)


def no_event_pose(signer: Signer, timing: Timing, rng: np.random.Generator) -> Pose:
    """A signer who does not sign: scratches, folds the arms, talks, reaches for something, touches the face, idles."""
    kind = str(rng.choice(_TALKS))
    head = head_centre(signer)[1]
    slack, fist, index = HAND_ANGLES["slack"], HAND_ANGLES["half"], HAND_ANGLES["index"]
    phase, speed = rng.uniform(0, 6), rng.uniform(3, 6)

    def wobble(x, y, z):
        return lambda p: np.stack(
            [x * np.sin(speed * 2 * p + phase), y * np.sin(speed * 3 * p), z * np.sin(speed * p)], -1)

    def action(palm, fingers, normal, angles, path=None):
        palm = np.array(palm) + rng.normal(0, 0.06, 3)
        fingers, normal = _unit(np.array(fingers, float)), _unit(np.array(normal, float))
        return Action(palm, fingers, normal, angles, angles, path or wobble(0.02, 0.02, 0.02), _still)

    if kind == "scratch":
        spot = [(0.42, head - 0.25), (0.30, head + 0.70), (-0.35, 0.9)][int(rng.integers(3))]
        actions = (action((*spot, -0.5), (-0.6, -0.75, 0.1), (-0.3, 0.2, 0.9), fist, wobble(0.03, 0.06, 0.0)), None)
    elif kind == "fold":
        actions = (action((-0.42, 0.98, -0.45), (-1, -0.15, 0.1), (0, 0.1, 1), slack),
                   action((-0.42, 1.20, -0.65), (-1, -0.1, 0.1), (0, 0.1, 1), slack))
    elif kind == "talk":
        actions = tuple(action((0.5, 1.2 + rng.normal(0, 0.1), -0.8), (-0.5, -0.4, -0.6), (-0.5, -0.6, -0.3), slack,
                               wobble(0.06, 0.12, 0.1)) for _ in range(2))
    elif kind == "reach":
        aside = rng.random() < 0.5
        palm = (1.15, 0.9, -0.9) if aside else (0.35, 1.1, -1.6)
        actions = (action(palm, (0.3 if aside else -0.2, -0.3, -0.7), (-0.5, 0.6, -0.3), slack,
                          lambda p: np.stack([0.15 * p, -0.1 * p, -0.25 * p], -1)), None)
    elif kind == "touch":
        actions = (action((0.16, head + 0.25, -0.6), (-0.35, -0.9, 0.05), (0.0, 0.1, 1), index), None)
    else:
        actions = (None, None)
    mouth = _mouth_talking(rng) if kind in ("talk", "idle") else _mouth_of("none")
    return _perform(actions, mouth, signer, timing, rng)


def _sign_action(sign: Sign, signer: Signer) -> Action:
    fingers, normal = (_unit(np.array(vector)) for vector in _ORIENTATIONS[sign.orientation])
    shape = HAND_ANGLES[sign.handshape]
    folded = HAND_ANGLES["half" if sign.handshape == "fist" else "fist"]
    opening, closing = {"open": (folded, shape), "close": (shape, folded)}.get(sign.movement, (shape, shape))
    palm = np.array(_ABOVE_BASE if sign.hands == "base" else _places(signer)[sign.place])
    if sign.hands == "mirror":
        palm[0] = max(palm[0], 0.36)  # the hands shall not run through one another
    path, twist = _movement(sign.movement, 0.42 * signer.reach)
    return Action(palm, fingers, normal, opening, closing, path, twist)


def _places(signer: Signer) -> dict[str, tuple[float, float, float]]:
    head = head_centre(signer)[1]
    return {
        "space": (0.48, 0.72, -0.95), "forehead": (0.36, head - 0.22, -0.62), "cheek": (0.52, head + 0.16, -0.5),
        "chin": (0.20, head + 0.66, -0.7), "chest": (0.10, 0.55, -0.62), "shoulder": (-0.42, 0.22, -0.6),
        "belly": (0.16, 1.30, -0.65), "side": (1.12, 0.05, -0.6),
    }


def _movement(name: str, size: float):
    """Path and twist of a movement; `size` is its length in head heights."""

    def path(p: np.ndarray) -> np.ndarray:
        zero, turn = np.zeros_like(p), 2 * np.pi * p
        x, y, z = {
            "down": lambda: (zero, size * (1.3 * p - 0.55), zero), "out": lambda: (size * 1.3 * p, zero, zero),
            "forward": lambda: (zero, 0.35 * size * p, -1.6 * size * p),
            "arc": lambda: (size * (1.4 * p - 0.4), -0.75 * size * np.sin(np.pi * p), zero),
            "circle": lambda: (0.5 * size * np.sin(1.5 * turn), 0.5 * size * (1 - np.cos(1.5 * turn)), zero),
            "zigzag": lambda: (0.45 * size * np.sin(2 * turn), size * (1.3 * p - 0.55), zero),
            "tap": lambda: (0.35 * size * _knock(p), 0.55 * size * _knock(p), -0.5 * size * _knock(p)),
            "shake": lambda: (0.3 * size * np.sin(2.5 * turn), zero, zero),
        }.get(name, lambda: (zero, zero, zero))()
        return np.stack([x, y, z], -1)

    twists = {"twist": lambda p: 0.95 * np.sin(4 * np.pi * p), "shake": lambda p: 0.25 * np.sin(5 * np.pi * p)}
    return path, twists.get(name, _still)


def _knock(p: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * p) ** 2


def _still(p: np.ndarray) -> np.ndarray:
    return np.zeros_like(p)




def _base_action() -> Action:
    palm, fingers, normal = (np.array(vector) for vector in _BASE_HAND)
    flat = HAND_ANGLES["flat"]
    return Action(palm, _unit(fingers), _unit(normal), flat, flat, lambda p: np.zeros((len(p), 3)), _still)


def _mouth_of(mouthing: str):
    """Progress [T] and stroke weight [T] -> opening and rounding, [T] each."""

    def mouth(p: np.ndarray, weight: np.ndarray):
        hump = weight * np.sin(np.pi * np.clip(0.1 + 0.8 * p, 0, 1))
        return {"none": (0 * p, 0 * p), "a": (0.95 * hump, -0.1 * hump), "o": (0.5 * hump, 1.0 * hump),
                "pa": (0.95 * weight * np.sin(2 * np.pi * p) ** 2, 0 * p), "i": (0.22 * hump, -1.0 * hump)}[mouthing]

    return mouth


def _mouth_talking(rng: np.random.Generator):
    a, b, c = rng.uniform(9, 16), rng.uniform(5, 9), rng.uniform(0, 6)
    return lambda p, weight: (weight * np.abs(np.sin(a * p + c)) * 0.6, weight * 0.5 * np.sin(b * p))


def _perform(actions, mouth, signer: Signer, timing: Timing, rng: np.random.Generator) -> Pose:
    """Blend each hand's rest and stroke, and add what no one can keep still."""
    frames = len(timing.weight)
    palm, fingers, normal = (np.empty((frames, 2, 3)) for _ in range(3))
    angles = np.empty((frames, 2, 5, 4))
    main = 0 if signer.left_handed else 1
    for role, action in enumerate(actions):
        hand = main if role == 0 else 1 - main
        parts = _blend_hand(action, signer, timing, rng)
        outward = np.array([-1.0 if hand == 1 else 1.0, 1, 1])  # the right hand's side is the picture's left
        for target, part in zip((palm, fingers, normal), parts[:3], strict=True):
            target[:, hand] = part * outward
        angles[:, hand] = parts[3]
    palm += 0.014 * signer.jitter * _drift(rng, frames, (2, 3))
    angles += 0.05 * signer.jitter * _drift(rng, frames, (2, 5, 4))
    fingers = _unit(fingers + 0.05 * signer.jitter * _drift(rng, frames, (2, 3)))
    normal = _unit(normal - (normal * fingers).sum(-1, keepdims=True) * fingers)
    head = np.array([0.025, 0.018, 0.03]) * signer.jitter * _drift(rng, frames, (3,))
    opening, rounding = mouth(timing.progress, timing.weight)
    blink = np.zeros(frames)
    if rng.random() < 0.5:
        blink[int(rng.integers(frames - 1)):][:2] = 1
    return Pose(palm, fingers, normal, angles, head, np.stack([opening, rounding, blink], -1))


def _blend_hand(action: Action | None, signer: Signer, timing: Timing, rng: np.random.Generator):
    rest_palm, rest_fingers, rest_normal = (np.array(vector) for vector in _REST_HANDS[signer.rest])
    rest_palm = rest_palm + rng.normal(0, 0.03, 3)
    rest_palm[1] *= signer.torso / 2.3
    slack = np.clip(HAND_ANGLES["slack"] * np.array([1, *[signer.slack] * 3]), -0.5, 1.8)
    frames = len(timing.weight)
    if action is None:
        rest = (rest_palm, _unit(rest_fingers), _unit(rest_normal), slack)
        return tuple(np.repeat(part[None], frames, 0) for part in rest)
    weight, p = timing.weight[:, None], timing.progress
    lift = weight * (1 - weight) * np.array([0.25, 0.0, -0.5])  # the hand swings forward on its way
    palm = rest_palm * (1 - weight) + (action.palm + action.path(p)) * weight + lift
    turn = action.twist(p)[:, None]
    across = np.cross(action.fingers, action.normal)
    turned = np.cos(turn) * action.normal + np.sin(turn) * across
    fingers = _unit(rest_fingers * (1 - weight) + action.fingers * weight + lift * [0.8, 0, 1.2])
    normal = _unit(rest_normal * (1 - weight) + turned * weight + 0.4 * lift)
    # fingers that a handshape leaves straight are never quite so
    closing = (action.opening * (1 - _ease(p)[:, None, None]) + action.closing * _ease(p)[:, None, None])
    shaped = closing + 0.12 * signer.slack * (slack - closing) * np.array([0, 1, 1, 1])
    pace = _ease(np.clip(weight * 1.4, 0, 1))[..., None]
    return palm, fingers, normal, slack * (1 - pace) + shaped * pace


def _drift(rng: np.random.Generator, frames: int, shape: tuple[int, ...]) -> np.ndarray:
    """Slow smooth noise of unit size, [frames, *shape]: three sines of random pace and phase a channel."""
    pace = rng.uniform(0.05, 0.35, (3, 1, *shape))
    phase = rng.uniform(0, 2 * np.pi, (3, 1, *shape))
    time = np.arange(frames).reshape(1, frames, *[1] * len(shape))
    return np.sin(pace * time + phase).sum(0) * 0.82


def _ease(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
