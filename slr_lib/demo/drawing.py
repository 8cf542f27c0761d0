"""Frames of a signer: the still scenery, then the head, the limbs' shadow, the limbs in depth order, and the sensor."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from slr_lib.demo.camera import Camera
from slr_lib.demo.figure import Body, Pose
from slr_lib.demo.head import Head
from slr_lib.demo.limbs import arm_capsules, cast_shadow, draw_capsules, hand_capsules, lay
from slr_lib.demo.scenery import draw_scenery
from slr_lib.demo.signers import Signer

_STILL = 0.12   # pixels: a limb that has moved less since it was drawn is not drawn anew
_NOISES = 4     # sensor noise frames, taken in turn


def draw_frames(body: Body, pose: Pose, signer: Signer, camera: Camera) -> Iterator[np.ndarray]:
    """Yield T frames uint8 [H, W, 3], RGB."""
    picture, torso, folds = draw_scenery(signer, camera)
    head = Head(signer, camera)
    palette = _palette(signer)
    limbs = []
    for side in (0, 1):
        arms, hands = arm_capsules(body, side, signer, camera), hand_capsules(body, side, signer, camera)
        limbs.append([_Limb(arms, torso), _Limb(hands)])
    rng = np.random.default_rng([signer.seed, 4])
    noises = rng.normal(0, 2.2, (_NOISES, *picture.shape[:2], 1)).astype(np.float32)
    far = np.full(picture.shape[:2], 1e6, np.float32)
    for frame in range(len(pose.palm)):
        canvas, ground, depth = picture.copy(), torso.copy(), far.copy()
        head.lay(canvas, ground, pose.head[frame], pose.mouth[frame])
        order = sorted((0, 1), key=lambda side: -float(body.wrists[frame, side, 2]))
        layers = [limb.layer(frame, palette, folds) for side in order for limb in limbs[side]]
        layers = [layer for layer in layers if layer is not None]
        cast_shadow(canvas, layers, ground)
        for layer in layers:
            lay(canvas, depth, layer)
        canvas += noises[frame % _NOISES]
        yield cv2.convertScaleAbs(np.maximum(canvas, 0, out=canvas))


def _palette(signer: Signer) -> np.ndarray:
    """Colours of skin, sleeve, fingertip, palm and nail, float32 [5, 3]; dark skin is lighter on the palm."""
    skin = np.float32(signer.skin)
    palm = skin + (np.float32([238, 190, 164]) - skin) * 0.42
    second = {"stripes": 0.32, "checks": 0.20, "dots": 0.12}.get(signer.pattern, 0.0)
    sleeve = np.float32(signer.cloth) * (1 - second) + np.float32(signer.second_cloth) * second
    nail = np.minimum(palm * 1.06 + np.float32([8, 0, 2]), 250)
    return np.stack([skin, sleeve, skin, palm, nail]).astype(np.float32) * np.float32(signer.brightness)


class _Limb:
    """One arm or hand over time; keeps its last drawing for as long as it holds still."""

    def __init__(self, capsules, torso=None):
        self._capsules, self._torso, self._drawn, self._layer = capsules, torso, None, None

    def layer(self, frame, palette, folds):
        capsules = self._capsules[frame]
        if self._drawn is None or max(np.abs(capsules.start[:, :2] - self._drawn.start[:, :2]).max(),
                                      np.abs(capsules.end[:, :2] - self._drawn.end[:, :2]).max()) > _STILL:
            self._drawn, self._layer = capsules, draw_capsules(capsules, palette, folds, self._torso)
        return self._layer
