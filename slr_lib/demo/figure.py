"""The figure's kinematics: two-bone arms, 21-joint hands, and the 543 points of MediaPipe Holistic.

Body space: head heights from the middle of the shoulders, x to the picture's right (the signer's left), y down, z away
from the camera. All functions work on T frames at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slr_lib.demo.face import move_face
from slr_lib.demo.signers import Signer

# A hand of length 1 (wrist to the middle finger's tip): index, middle, ring, little finger.
_KNUCKLE_ALONG = np.float32([0.475, 0.47, 0.445, 0.405])
_KNUCKLE_ACROSS = np.float32([0.125, 0.03, -0.06, -0.145])  # towards the thumb
_KNUCKLE_RAISED = np.float32([0.0, -0.015, -0.005, 0.01])   # the knuckles' arch, along the palm's normal
_BONES = np.float32([[0.225, 0.13, 0.10], [0.25, 0.155, 0.11], [0.23, 0.145, 0.105], [0.175, 0.105, 0.095]])
_THUMB_ROOT = (0.12, 0.10, 0.02)  # along, across, raised
_THUMB_BONES = (0.215, 0.16, 0.125)

# Angles in degrees. Fingers: spread, and the flexion of three joints, from the index to the little finger. Thumb: yaw
# from the fingers' direction outward in the palm's plane, pitch out of the plane, and the inward bend of two joints.
_STRAIGHT, _CURLED, _HOOKED, _HALF = (4, 4, 3), (82, 98, 55), (12, 88, 50), (48, 52, 30)
_THUMB_SIDE, _THUMB_OUT, _THUMB_OVER, _THUMB_MEET = (34, 10, 14, 8), (58, 8, 4, 2), (46, 34, 52, 48), (38, 46, 16, 12)


def _shape(fingers, thumb, spread=(7, 1, -5, -11)) -> np.ndarray:
    rows = [(thumb[0], thumb[1], thumb[2], thumb[3])]
    rows += [(angle, *bends) for angle, bends in zip(spread, fingers, strict=True)]
    return np.deg2rad(np.array(rows, np.float32))


_WIDE = (17, 4, -9, -24)
HAND_ANGLES = {  # float32 [5, 4] radians: thumb, then four fingers
    "flat": _shape([_STRAIGHT] * 4, _THUMB_SIDE, (4, 1, -2, -6)),
    "fist": _shape([_CURLED] * 4, _THUMB_OVER),
    "index": _shape([_STRAIGHT, _CURLED, _CURLED, _CURLED], _THUMB_OVER),
    "spread": _shape([_STRAIGHT] * 4, _THUMB_OUT, _WIDE),
    "two": _shape([_STRAIGHT, _STRAIGHT, _CURLED, _CURLED], _THUMB_OVER, (15, -7, -5, -11)),
    "three": _shape([_STRAIGHT, _STRAIGHT, _STRAIGHT, _CURLED], _THUMB_OVER, (15, 1, -13, -11)),
    "thumb": _shape([_CURLED] * 4, (66, 2, 0, -8)),
    "hook": _shape([_HOOKED, _CURLED, _CURLED, _CURLED], _THUMB_OVER),
    "pinch": _shape([(46, 50, 24), (50, 52, 26), (54, 52, 26), (58, 54, 28)], _THUMB_MEET, (4, 1, -3, -7)),
    "claw": _shape([(16, 58, 32)] * 4, (56, 26, 10, 16), _WIDE),
    "horns": _shape([_STRAIGHT, _CURLED, _CURLED, _STRAIGHT], _THUMB_OVER, (9, 1, -5, -18)),
    "corner": _shape([_STRAIGHT, _CURLED, _CURLED, _CURLED], (70, 4, 2, 0)),
    "phone": _shape([_CURLED, _CURLED, _CURLED, _STRAIGHT], (66, 4, 2, 0), (5, 1, -5, -20)),
    "slack": _shape([(16, 26, 14), (20, 30, 16), (24, 34, 18), (26, 36, 20)], (32, 22, 16, 14), (8, 1, -5, -12)),
    "half": _shape([_HALF] * 4, (46, 26, 20, 16)),
}


@dataclass(frozen=True)
class Pose:
    """What the figure does, T frames: per hand (index 0 the signer's left, 1 the right) and for head and mouth.

    palm: [T, 2, 3] where the middle of the palm is wanted; fingers, normal: [T, 2, 3] unit vectors, the fingers'
    direction and the palm's outward normal; angles: [T, 2, 5, 4] radians; head: [T, 3] shift x, shift y (head
    heights) and roll (radians); mouth: [T, 3] opening, rounding, blink (see face.move_face).
    """

    palm: np.ndarray
    fingers: np.ndarray
    normal: np.ndarray
    angles: np.ndarray
    head: np.ndarray
    mouth: np.ndarray


@dataclass(frozen=True)
class Body:
    """Joints in body space, float32: shoulders, elbows, wrists [T, 2, 3], hands [T, 2, 21, 3] (index 0 left, 1 right),
    palm normals [T, 2, 3], and the face [T, 468, 3]."""

    shoulders: np.ndarray
    elbows: np.ndarray
    hands: np.ndarray
    normals: np.ndarray
    face: np.ndarray

    @property
    def wrists(self) -> np.ndarray:
        """[T, 2, 3]: the hands' first joints."""
        return self.hands[:, :, 0]


def hand_joints(wrist, fingers, normal, angles, side) -> np.ndarray:
    """A hand of length 1 by forward kinematics: joints float32 [..., 21, 3] in MediaPipe's order.

    Args:
        wrist, fingers, normal: [..., 3]; fingers and normal orthogonal unit vectors.
        angles: [..., 5, 4] radians, as in HAND_ANGLES.
        side: [...] or a number: +1 right hand, -1 left hand.
    """
    along, out = np.float32(fingers), np.float32(normal)
    thumbward = np.cross(along, out) * np.asarray(side, np.float32)[..., None]
    joints = np.empty((*along.shape[:-1], 21, 3), np.float32)
    joints[..., 0, :] = wrist

    def place(a, b, c):
        return wrist + a * along + b * thumbward + c * out

    point = joints[..., 1, :] = place(*_THUMB_ROOT)
    yaw, pitch = angles[..., 0, 0, None], angles[..., 0, 1, None]
    for bone, length in enumerate(_THUMB_BONES):
        if bone:
            yaw = yaw - angles[..., 0, 1 + bone, None]
        step = np.cos(pitch) * (np.cos(yaw) * along + np.sin(yaw) * thumbward) + np.sin(pitch) * out
        point = joints[..., 2 + bone, :] = point + length * step
    for finger in range(4):
        spread = angles[..., 1 + finger, 0, None]
        straight = np.cos(spread) * along + np.sin(spread) * thumbward
        point = place(_KNUCKLE_ALONG[finger], _KNUCKLE_ACROSS[finger], _KNUCKLE_RAISED[finger])
        joints[..., 5 + 4 * finger, :] = point
        flexion = np.cumsum(angles[..., 1 + finger, 1:], axis=-1)
        for bone in range(3):
            bend = flexion[..., bone, None]
            point = point + _BONES[finger, bone] * (np.cos(bend) * straight + np.sin(bend) * out)
            joints[..., 6 + 4 * finger + bone, :] = point
    return joints


def bend_arm(shoulder, wrist, upper, fore, side) -> tuple[np.ndarray, np.ndarray]:
    """Two-bone inverse kinematics with the elbow swung outward and down.

    Args:
        shoulder, wrist: [..., 3]; upper, fore: the bones' lengths; side: [...], +1 right arm, -1 left arm.

    Returns:
        elbow and wrist [..., 3]; the wrist is drawn in where the arm is too short, and pushed out where it is too near.
    """
    reach = wrist - shoulder
    distance = np.linalg.norm(reach, axis=-1, keepdims=True)
    axis = reach / np.maximum(distance, 1e-6)
    distance = np.clip(distance, 0.35 * (upper + fore), 0.985 * (upper + fore))
    along = (upper**2 - fore**2 + distance**2) / (2 * distance)
    height = np.sqrt(np.maximum(upper**2 - along**2, 0))
    outward = -0.55 * np.asarray(side, np.float32)
    pole = np.stack([outward, np.full_like(outward, 1.0), np.full_like(outward, 0.3)], -1)
    pole = pole - (pole * axis).sum(-1, keepdims=True) * axis
    pole = pole / np.maximum(np.linalg.norm(pole, axis=-1, keepdims=True), 1e-6)
    return shoulder + along * axis + height * pole, shoulder + distance * axis


def body_joints(pose: Pose, signer: Signer) -> Body:
    """All joints of a signer who takes these poses."""
    frames = len(pose.palm)
    side = np.float32([-1, 1])[None].repeat(frames, 0)  # left, right
    shoulders = np.zeros((frames, 2, 3), np.float32)
    shoulders[..., 0] = -side * signer.shoulder
    # a raised arm lifts its shoulder
    shoulders[..., 1] = 0.20 - 0.035 * np.clip(1.2 - pose.palm[..., 1], 0, 1.5)
    wanted = pose.palm - 0.5 * signer.hand * pose.fingers
    elbows, wrists = bend_arm(shoulders, wanted, signer.upper_arm, signer.forearm, side)
    # a wrist bends only so far: the hand follows the forearm a little
    fore = (wrists - elbows) / signer.forearm
    fingers = _unit(pose.fingers + 0.22 * fore)
    normal = _unit(pose.normal - (pose.normal * fingers).sum(-1, keepdims=True) * fingers)
    hands = hand_joints(np.zeros_like(wrists), fingers, normal, pose.angles, side) * signer.hand + wrists[..., None, :]
    face = move_face(*pose.mouth.T)
    face[..., 0] *= signer.head_width
    return Body(shoulders, elbows, hands, normal, _turn_head(face, pose.head, signer))


def head_centre(signer: Signer) -> np.ndarray:
    """Where the head's middle is when it is still, float32 [3]."""
    return np.float32([0, -(signer.neck + 0.5), -0.02])


def _turn_head(face: np.ndarray, head: np.ndarray, signer: Signer) -> np.ndarray:
    cos, sin = np.cos(head[:, 2, None]), np.sin(head[:, 2, None])
    y = face[..., 1] - 0.5  # it rolls about the chin's end of the neck
    turned = np.stack([cos * face[..., 0] - sin * y, sin * face[..., 0] + cos * y + 0.5, face[..., 2]], -1)
    turned[..., :2] += head[:, None, :2]
    return (turned + head_centre(signer)).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
