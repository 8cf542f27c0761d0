"""The head: a lit face with eyes, brows, nose and a mouth that moves, and hair; drawn once per expression."""

from __future__ import annotations

import cv2
import numpy as np

from slr_lib.demo.camera import Camera
from slr_lib.demo.face import INNER_LIPS, OUTER_LIPS, RIGHT_BROW, RIGHT_EYE, face_mesh, move_face
from slr_lib.demo.figure import head_centre
from slr_lib.demo.signers import Signer

_FINE = 3  # drawn this much larger, then reduced
_LEFT, _TOP, _RIGHT, _BOTTOM = -0.56, -0.70, 0.56, 1.05  # the sprite's box in head heights from the head's centre
_FACE_WIDTH, _FACE_HEIGHT, _FACE_Y = 0.3287, 0.4447, 0.0604  # half axes and centre of the face's oval
_DEPTH = -0.15  # of the picture of the face, for the perspective
_LEVELS = 6     # of the mouth's opening; five of its rounding


class Head:
    """Draws one signer's head for one camera; expressions drawn before are reused."""

    def __init__(self, signer: Signer, camera: Camera):
        self._signer, self._camera = signer, camera
        self._sprites: dict[tuple[int, int, int], np.ndarray] = {}
        self._scale = camera.scale * float(camera.magnification(np.float32(_DEPTH)))

    def lay(self, canvas: np.ndarray, ground: np.ndarray, head: np.ndarray, mouth: np.ndarray) -> None:
        """Put the head onto a float32 canvas [H, W, 3], and its coverage into `ground` [H, W].

        Args:
            head: [3] shift x, shift y, roll; mouth: [3] opening, rounding, blink, as in figure.Pose.
        """
        key = (round(float(mouth[0]) * (_LEVELS - 1)), round(float(mouth[1]) * 2), int(mouth[2] > 0.5))
        if key not in self._sprites:
            self._sprites[key] = self._draw(*key)
        sprite = self._sprites[key]
        height, width = canvas.shape[:2]
        corners = np.float32([[_LEFT, _TOP], [_RIGHT, _TOP], [_LEFT, _BOTTOM], [_RIGHT, _BOTTOM]])
        placed = self._place(corners, head)
        low = np.clip(np.floor(placed.min(0)).astype(int), 0, [width, height])
        high = np.clip(np.ceil(placed.max(0)).astype(int) + 1, 0, [width, height])
        if (high <= low).any():
            return
        rows, columns = sprite.shape[:2]
        source = np.float32([[-0.5, -0.5], [columns - 0.5, -0.5], [-0.5, rows - 0.5]])
        matrix = cv2.getAffineTransform(source, placed[:3] - low.astype(np.float32) - 0.5)
        patch = cv2.warpAffine(sprite, matrix, tuple(int(n) for n in high - low), flags=cv2.INTER_LINEAR)
        box = (slice(low[1], high[1]), slice(low[0], high[0]))
        canvas[box] *= 1 - patch[..., 3:]
        canvas[box] += patch[..., :3]
        np.maximum(ground[box], patch[..., 3], out=ground[box])

    def _place(self, points: np.ndarray, head: np.ndarray) -> np.ndarray:
        cos, sin = np.cos(head[2]), np.sin(head[2])
        y = points[:, 1] - 0.5
        turned = np.stack([cos * points[:, 0] - sin * y, sin * points[:, 0] + cos * y + 0.5], -1) + head[:2]
        body = np.concatenate([turned + head_centre(self._signer)[:2], np.full((len(points), 1), _DEPTH)], 1)
        return self._camera.project(body)[:, :2]

    def _draw(self, opening: int, rounding: int, blink: int) -> np.ndarray:
        """A sprite, float32 [h, w, 4], colours multiplied by coverage."""
        opening, rounding = opening / (_LEVELS - 1), rounding / 2
        points = move_face(np.array([opening]), np.array([rounding]), np.array([blink]))[0]
        points[:, 0] *= self._signer.head_width
        fine = self._scale * _FINE
        size = (round((_RIGHT - _LEFT) * fine), round((_BOTTOM - _TOP) * fine))
        picture = np.zeros((size[1], size[0], 4), np.float32)
        pen = _Pen(picture, fine)
        _draw_hair(pen, self._signer, behind=True)
        _draw_skin(pen, self._signer, opening)
        _draw_eyes(pen, points, self._signer, blink)
        _draw_nose_and_mouth(pen, points, self._signer)
        _draw_hair(pen, self._signer, behind=False)
        reduced = (max(round(size[0] / _FINE), 1), max(round(size[1] / _FINE), 1))
        picture[..., :3] *= self._signer.brightness
        return cv2.resize(picture, reduced, interpolation=cv2.INTER_AREA)


class _Pen:
    """Fills shapes given in head heights from the head's centre."""

    def __init__(self, picture: np.ndarray, scale: float):
        self.picture, self.scale = picture, scale
        rows, columns = picture.shape[:2]
        self.x = ((np.arange(columns, dtype=np.float32) + 0.5) / scale + _LEFT)[None]
        self.y = ((np.arange(rows, dtype=np.float32) + 0.5) / scale + _TOP)[:, None]

    def pixels(self, points) -> np.ndarray:
        """Points [N, 2] in pixels with four fractional bits."""
        points = (np.asarray(points, np.float64)[:, :2] - [_LEFT, _TOP]) * self.scale - 0.5
        return np.round(points * 16).astype(np.int32)

    def fill(self, points, colour) -> None:
        """Fill a polygon."""
        cv2.fillPoly(self.picture, [self.pixels(points)], (*map(float, colour), 1.0), cv2.LINE_AA, 4)

    def line(self, points, colour, thickness: float) -> None:
        """Draw an open line; thickness in head heights."""
        cv2.polylines(self.picture, [self.pixels(points)], False, (*map(float, colour), 1.0),
                      max(1, round(thickness * self.scale)), cv2.LINE_AA, 4)

    def ellipse(self, x, y, half_width, half_height, colour) -> None:
        """Fill an ellipse."""
        turn = np.linspace(0, 2 * np.pi, 40)
        self.fill(np.stack([x + half_width * np.cos(turn), y + half_height * np.sin(turn)], -1), colour)

    def blend(self, colour: np.ndarray, coverage: np.ndarray) -> None:
        """Lay a colour field [h, w, 3] over the picture."""
        self.picture[..., :3] += (colour - self.picture[..., :3]) * coverage[..., None]
        self.picture[..., 3] = np.maximum(self.picture[..., 3], coverage)


def _draw_skin(pen: _Pen, signer: Signer, opening: float) -> None:
    skin, wide = np.float32(signer.skin), signer.head_width
    for side in (-1, 1):
        pen.ellipse(side * 0.335 * wide, 0.04, 0.045, 0.095, skin * 0.78)
        pen.ellipse(side * 0.338 * wide, 0.04, 0.022, 0.06, skin * 0.62)
    u = pen.x / (_FACE_WIDTH * wide)
    low = _FACE_HEIGHT + 0.07 * opening
    v = (pen.y - _FACE_Y) / np.where(pen.y > _FACE_Y, low, _FACE_HEIGHT)
    w = np.where(v > 0, u * (1 + 0.16 * v * v), u)
    distance = w * w + v * v
    normal = np.stack(np.broadcast_arrays(w, v * 0.8, np.sqrt(np.clip(1 - distance, 0, 1))), -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-6
    shade = 0.52 + 0.54 * np.clip(normal @ np.float32([-0.35, -0.45, 0.82]), 0, 1)

    def spot(x, y, sx, sy):
        return np.exp(-(((u - x) / sx) ** 2) - ((v - y) / sy) ** 2)

    shade += -0.15 * spot(-0.40, -0.12, 0.22, 0.10) - 0.15 * spot(0.40, -0.12, 0.22, 0.10)  # the eyes' sockets
    shade += 0.12 * spot(-0.02, 0.12, 0.07, 0.22) - 0.12 * spot(0.14, 0.15, 0.07, 0.22)     # the nose and its shade
    shade += -0.18 * spot(0.03, 0.37, 0.2, 0.045) - 0.08 * spot(0, 0.72, 0.25, 0.05) + 0.05 * spot(0, 0.86, 0.2, 0.1)
    red = 0.06 * (spot(-0.52, 0.25, 0.22, 0.2) + spot(0.52, 0.25, 0.22, 0.2))
    colour = skin * (shade[..., None] + np.stack([red, 0 * red, 0 * red], -1))
    coverage = np.clip((1 - np.sqrt(distance)) * _FACE_WIDTH * pen.scale + 0.5, 0, 1)
    pen.blend(np.clip(colour, 0, 255).astype(np.float32), coverage.astype(np.float32))


def _draw_eyes(pen: _Pen, points: np.ndarray, signer: Signer, blink: int) -> None:
    _, mirror = face_mesh()
    skin, hair = np.float32(signer.skin), np.float32(signer.hair_colour)
    for turn in (lambda i: list(i), lambda i: list(mirror[list(i)])):
        eye, brow = points[turn(RIGHT_EYE)], points[turn(RIGHT_BROW)]
        pen.fill(brow, hair * 0.8 if signer.hair_colour[0] < 140 else hair * 0.6)
        if blink:
            pen.line(eye[[8, 9, 11, 12, 13, 15, 0]], skin * 0.42, 0.012)
            continue
        pen.fill(eye, (236, 232, 228))
        middle = (eye[4] + eye[12]) / 2
        pen.ellipse(middle[0], middle[1], 0.030, 0.030, (72, 52, 38))
        pen.ellipse(middle[0], middle[1], 0.015, 0.015, (12, 10, 10))
        pen.ellipse(middle[0] - 0.010, middle[1] - 0.010, 0.006, 0.006, (245, 245, 245))
        pen.line(eye[:9], skin * 0.28, 0.014)
        pen.line(eye[:9] - [0, 0.028, 0], skin * 0.66, 0.006)


def _draw_nose_and_mouth(pen: _Pen, points: np.ndarray, signer: Signer) -> None:
    skin = np.float32(signer.skin)
    for side in (-1, 1):
        pen.ellipse(side * 0.034, points[2, 1] - 0.006, 0.016, 0.009, skin * 0.45)
    lips = skin * np.float32([0.86, 0.60, 0.60])
    outer, inner = points[list(OUTER_LIPS)], points[list(INNER_LIPS)]
    pen.fill(np.concatenate([outer[:11], inner[:11][::-1]]), lips * 0.88)
    pen.fill(np.concatenate([outer[10:], outer[:1], inner[:1], inner[:9:-1]]), lips)
    gap = inner[15, 1] - inner[5, 1]
    if gap > 0.03:
        pen.fill(inner, (60, 24, 26))
        teeth = inner[1:10].copy()
        below = teeth + np.array([0, min(0.025, gap * 0.35), 0])
        pen.fill(np.concatenate([teeth, below[::-1]]), (226, 222, 214))
    else:
        pen.line(inner[:11], skin * np.float32([0.50, 0.30, 0.30]), 0.010)


def _draw_hair(pen: _Pen, signer: Signer, behind: bool) -> None:
    wide, style = signer.head_width, signer.hair
    x, y = pen.x / wide, pen.y
    if behind:
        bounds = {"shaved": (0.345, 0.425, -0.06), "curly": (0.43, 0.47, -0.13)}.get(style, (0.375, 0.435, -0.09))
        shape = (x / bounds[0]) ** 2 + ((y - bounds[2]) / bounds[1]) ** 2
        if style == "curly":
            angle = np.arctan2(y - bounds[2], x)
            shape *= 1 + 0.07 * np.sin(13 * angle) + 0.04 * np.sin(22 * angle)
        if style == "bun":
            shape = np.minimum(shape, (x / 0.15) ** 2 + ((y + 0.53) / 0.14) ** 2)
        if style == "long":
            fall = np.maximum(np.abs(np.abs(x) - 0.30) / 0.115, np.abs(y - 0.33) / 0.47) ** 2
            shape = np.minimum(shape, fall + 0.25 * np.clip((y - 0.6) / 0.2, 0, 1))
        mask = shape < 1
    else:
        line = {"shaved": -0.275, "curly": -0.20, "bun": -0.255}.get(style, -0.225)
        parting = 0.10 * (1 - np.cos(5.2 * (x + 0.07))) if style != "curly" else 0.11 * (1 - np.cos(4.4 * x))
        inside = (x / 0.352) ** 2 + ((y + 0.06) / 0.425) ** 2 < 1
        mask = inside & (y < line + parting)
        mask |= inside & (np.abs(x) > 0.315) & (y < 0.02)
    mask = cv2.blur(np.broadcast_to(mask, (len(pen.y), pen.x.shape[1])).astype(np.float32), (5, 5))
    strands = np.random.default_rng(signer.seed % 9973).normal(0, 1, mask.shape).astype(np.float32)
    strands = cv2.GaussianBlur(strands, (0, 0), sigmaX=1.2, sigmaY=9) * 6
    sheen = 0.78 + 0.38 * np.exp(-(((x + 0.12) / 0.2) ** 2) - ((y + 0.36) / 0.12) ** 2) + 0.055 * strands
    if style == "shaved":
        colour = 0.62 * np.float32(signer.skin) + 0.2 * np.float32(signer.hair_colour) * sheen[..., None]
    else:
        colour = np.float32(signer.hair_colour) * (sheen * (0.8 if behind else 1.0))[..., None]
    pen.blend(np.clip(colour, 0, 255).astype(np.float32), mask)
