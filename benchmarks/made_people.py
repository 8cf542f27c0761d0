"""Clips with nobody, one, two or half a person in them, drawn by the procedural signer, and what is really in view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from made_clips import Encoding, encode, turned
from slr_lib.demo.camera import frame_signer
from slr_lib.demo.drawing import draw_frames
from slr_lib.demo.figure import body_joints
from slr_lib.demo.motion import plan_timing, sign_pose
from slr_lib.demo.scenery import draw_scenery
from slr_lib.demo.signers import Signer, make_signer
from slr_lib.demo.signs import Sign
from slr_lib.demo.truth import holistic_points

FRAMES, HEIGHT = 12, 256
_ONE_HAND = Sign("spread", "side", "down")
_TWO_HANDS = Sign("spread", "space", "forward", "forward", "mirror")


@dataclass(frozen=True)
class Scene:
    """Pictures uint8 [T, H, W, 3], and what they show: `visible` bool [T, 2], left and right hand, and the noses' x."""

    pictures: np.ndarray
    visible: np.ndarray
    noses: tuple[float, ...]


def one_person(sign: Sign = _ONE_HAND, number: int = 1) -> Scene:
    """A signer whose idle hand, where the sign needs one only, hangs down outside the picture."""
    signer = _signer(number)
    rng = np.random.default_rng([number, 9])
    pose = sign_pose(sign, signer, plan_timing(signer, rng, frames=FRAMES), rng)
    body, camera = body_joints(pose, signer), frame_signer(signer, HEIGHT)
    points, visible = holistic_points(body, signer, camera)
    return Scene(np.stack(list(draw_frames(body, pose, signer, camera))), visible, (float(points[:, 489, 0].mean()),))


def two_persons(exchanged: bool = False) -> Scene:
    """Two signers side by side, about as large; one signs with both hands, the other, here on the right, with one."""
    left, right = one_person(_TWO_HANDS, 3), one_person(_ONE_HAND, 1)
    if exchanged:
        left, right = right, left
    return Scene(np.concatenate([left.pictures, right.pictures], 2), left.visible | right.visible,
                 (left.noses[0] / 2, 0.5 + right.noses[0] / 2))


def no_person() -> Scene:
    """The room alone."""
    gone = replace(_signer(1), shift_x=9.0)
    wall = np.clip(draw_scenery(gone, frame_signer(gone, HEIGHT))[0], 0, 255).astype(np.uint8)
    return Scene(np.stack([wall] * FRAMES), np.zeros((FRAMES, 2), bool), ())


def no_face() -> Scene:
    """One person, filmed from below the chin."""
    signer, scene = _signer(1), one_person(_TWO_HANDS)
    camera = frame_signer(signer, HEIGHT)
    top = int(camera.origin[1] - signer.neck * camera.scale) // 2 * 2
    return Scene(scene.pictures[:, top:], scene.visible, ())


def write_upright(scene: Scene, path: Path) -> None:
    """An MP4 of a scene at 15 frames a second."""
    encode(path, scene.pictures, Encoding(codec_options={"crf": "18"}), _milliseconds(scene))


def write_turned(scene: Scene, path: Path) -> None:
    """A MOV of a scene as a phone held sideways writes it: lying, with a matrix that turns it."""
    encode(path, np.rot90(scene.pictures, axes=(1, 2)), Encoding(codec_options={"crf": "18"}), _milliseconds(scene))
    path.write_bytes(turned(path.read_bytes(), "90"))


PEOPLE: dict[str, tuple[str, Callable[[], Scene], Callable[[Scene, Path], None]]] = {
    "one person, one hand in view": ("one.mp4", one_person, write_upright),
    "the same, turned by 90 degrees": ("one_turned.mov", one_person, write_turned),
    "two persons side by side": ("two.mp4", two_persons, write_upright),
    "the same, places exchanged": ("two_exchanged.mp4", partial(two_persons, exchanged=True), write_upright),
    "no face (cut off at the chin)": ("no_face.mp4", no_face, write_upright),
    "no person": ("nobody.mp4", no_person, write_upright),
}


def _milliseconds(scene: Scene) -> list[int]:
    return [round(number * 1000 / 15) for number in range(len(scene.pictures))]


def _signer(number: int) -> Signer:
    return replace(make_signer(number), portrait=True, left_handed=False, rest="out", shift_x=0.0)
