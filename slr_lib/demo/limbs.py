"""Arms and hands as smoothly lit tapered capsules: which capsules, and how they get onto a picture."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from slr_lib.demo.camera import Camera
from slr_lib.demo.figure import Body
from slr_lib.demo.signers import Signer

LIGHT = np.float32([-0.42, -0.55, -0.72])  # towards the light, unit length
_SKIN, _CLOTH, _FINGERTIP, _PALM_SKIN, _NAIL = range(5)  # rows of the palette; the first three also materials
_FLATNESS = 0.78  # of the palm: without it each of its capsules would look like a bone
_HALFWAY = LIGHT + np.float32([0, 0, -1])  # between the light and the eye: where skin shines
_HALFWAY /= np.linalg.norm(_HALFWAY)

# A hand's capsules: first joint, second joint, and the radii at both in hand lengths. The palm is filled by five
# capsules from wrist to knuckles, two across, and the thumb's ball.
_PALM = ((0, 5, 0.088, 0.062), (0, 9, 0.092, 0.062), (0, 13, 0.090, 0.060), (0, 17, 0.082, 0.055),
         (5, 17, 0.058, 0.052), (1, 17, 0.075, 0.060), (0, 1, 0.085, 0.080), (1, 2, 0.082, 0.058), (1, 5, 0.078, 0.056))
_FINGERS = tuple((a, a + 1, wide, narrow)
                 for base, girth in ((5, 1.0), (9, 1.04), (13, 0.98), (17, 0.86))
                 for a, wide, narrow in ((base, 0.058 * girth, 0.052 * girth), (base + 1, 0.052 * girth, 0.047 * girth),
                                         (base + 2, 0.047 * girth, 0.038 * girth)))
_THUMB = ((2, 3, 0.064, 0.056), (3, 4, 0.056, 0.043))
HAND_CAPSULES = _PALM + _THUMB + _FINGERS
_TIPS = tuple(index for index, capsule in enumerate(HAND_CAPSULES) if capsule[1] in (4, 8, 12, 16, 20))
_THINNEST = 1.55  # pixels: fingers under three pixels wide are lost on MediaPipe


@dataclass(frozen=True)
class Capsules:
    """K tapered capsules in pixels: ends [K, 3] (x, y, depth), radii [K], material [K]; the direction out of the back
    of the hand or finger [K, 3] (zero on arms); how far it is part of a flat surface, 0..1 [K]; and whether its two
    ends are cut flat, as a sleeve's, or round [K, 2]."""

    start: np.ndarray
    end: np.ndarray
    start_radius: np.ndarray
    end_radius: np.ndarray
    material: np.ndarray
    back: np.ndarray
    flatness: np.ndarray
    cut: np.ndarray


def hand_capsules(body: Body, hand: int, signer: Signer, camera: Camera) -> list[Capsules]:
    """The capsules of one hand (0 left, 1 right), a set a frame."""
    joints = body.hands[:, hand]
    points = camera.project(joints)
    table = np.array(HAND_CAPSULES)
    first, second = table[:, 0].astype(int), table[:, 1].astype(int)
    unit = signer.hand * camera.scale * (0.55 + 0.45 * signer.girth)
    size = unit * camera.magnification(joints[..., 2])
    start_radius = np.maximum(size[:, first] * table[:, 2], _THINNEST).astype(np.float32)
    end_radius = np.maximum(size[:, second] * table[:, 3], _THINNEST).astype(np.float32)
    back = _back_directions(joints, first, second, body.normals[:, hand])
    material = np.full(len(table), _SKIN)
    material[list(_TIPS)] = _FINGERTIP
    flatness = np.where(np.arange(len(table)) < len(_PALM), _FLATNESS, 0).astype(np.float32)
    cut = np.zeros((len(table), 2), bool)
    return [Capsules(points[t, first], points[t, second], start_radius[t], end_radius[t], material, back[t],
                     flatness, cut)
            for t in range(len(points))]


def arm_capsules(body: Body, arm: int, signer: Signer, camera: Camera) -> list[Capsules]:
    """The capsules of one arm (0 left, 1 right), sleeve and skin, a set a frame."""
    shoulder, elbow, wrist = body.shoulders[:, arm], body.elbows[:, arm], body.wrists[:, arm]
    girth, sleeve = signer.girth, signer.sleeve
    cuts = sorted({0.0, 1.0, 2.0, min(sleeve, 1.96)})
    radius = np.array([0.192, 0.155, 0.086]) * girth
    parts = []
    for a, b in pairwise(cuts):
        clothed = b <= sleeve + 1e-9
        row = []
        for cut in (a, b):
            low = min(int(cut), 1) if cut < 2 else 1
            share = cut - low
            joints = (shoulder, elbow, wrist)
            point = joints[low] * (1 - share) + joints[low + 1] * share
            thick = radius[low] * (1 - share) + radius[low + 1] * share
            row.append((point, thick * (1.13 if clothed else 0.96)))
        parts.append((*row, _CLOTH if clothed else _SKIN))
    starts, ends = (np.stack([part[i][0] for part in parts], 1) for i in (0, 1))
    start_radius = np.array([part[0][1] for part in parts]) * camera.scale * camera.magnification(starts[..., 2])
    end_radius = np.array([part[1][1] for part in parts]) * camera.scale * camera.magnification(ends[..., 2])
    material = np.array([part[2] for part in parts])
    start, end = camera.project(starts), camera.project(ends)
    back, flatness = np.zeros((len(parts), 3), np.float32), np.zeros(len(parts), np.float32)
    # the sleeve ends where the next part is skin; the elbow is round
    cuffs = np.flatnonzero((material[:-1] == _CLOTH) & (material[1:] == _SKIN))
    cut = np.zeros((len(parts), 2), bool)
    cut[cuffs, 1] = cut[cuffs + 1, 0] = True
    return [Capsules(start[t], end[t], np.float32(start_radius[t]), np.float32(end_radius[t]), material, back,
                     flatness, cut)
            for t in range(len(start))]


def _back_directions(joints: np.ndarray, first: np.ndarray, second: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Out of the back of each bone [T, K, 3]: across it, away from the side to which the fingers bend."""
    bone = _unit(joints[:, second] - joints[:, first])
    along = _unit(joints[:, 9] - joints[:, 0])[:, None]
    inward = normal[:, None] - (normal[:, None] * bone).sum(-1, keepdims=True) * bone
    past_square = np.where((bone * along).sum(-1, keepdims=True) < 0, -1, 1)
    on_palm = np.isin(second, (1, 5, 9, 13, 17))[:, None]
    return np.where(on_palm, -normal[:, None], -_unit(inward) * past_square).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)


@dataclass(frozen=True)
class Layer:
    """Drawn capsules: the box's top left corner, colour float32 [h, w, 3], coverage [h, w] and depth [h, w]."""

    left: int
    top: int
    colour: np.ndarray
    coverage: np.ndarray
    depth: np.ndarray


def draw_capsules(capsules: Capsules, palette: np.ndarray, texture: np.ndarray,
                  torso: np.ndarray | None = None) -> Layer | None:
    """Light K capsules and keep, pixel by pixel, the nearest one; None where all lies outside the picture.

    Args:
        palette: float32 [5, 3], the colours of skin, sleeve, fingertip, palm and nail.
        texture: float32 [height, width], a factor on the cloth's colour.
        torso: float32 [height, width], 1 where the first capsule's round start shall melt into what is behind it.
    """
    height, width = texture.shape
    largest = np.maximum(capsules.start_radius, capsules.end_radius)[:, None] + 1.5
    corners = np.stack([capsules.start[:, :2], capsules.end[:, :2]])
    low = np.maximum(np.floor((corners - largest).min((0, 1))), 0).astype(int)
    high = np.minimum(np.ceil((corners + largest).max((0, 1))) + 1, [width, height]).astype(int)
    if (high <= low).any():
        return None
    along, distance2, radius = _nearest(capsules, low, high)
    inside = radius * radius - distance2
    axis_depth = capsules.start[:, 2, None, None] + along * (capsules.end[:, 2] - capsules.start[:, 2])[:, None, None]
    depth = axis_depth - np.sqrt(np.maximum(inside, 0))
    # pixels that a capsule covers by less than half go to it only where no other one covers them better
    depth += np.maximum(-inside, 0) * 1e3
    nearest = depth.argmin(0)[None]

    def pick(values):
        return np.take_along_axis(values, nearest, 0)[0]

    distance, radius = np.sqrt(pick(distance2)), pick(radius)
    coverage = np.clip(radius - distance + 0.5, 0, 1)
    which = nearest[0]
    colour = _lit(capsules, which, pick(along), radius, low, palette,
                  texture[low[1]:high[1], low[0]:high[0]])
    if torso is not None:
        coverage *= 1 - torso[low[1]:high[1], low[0]:high[0]] * (which == 0) * _before_start(capsules, low, high)
    return Layer(int(low[0]), int(low[1]), colour, coverage, pick(depth))


def _before_start(capsules: Capsules, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """How far each pixel lies before the first capsule's start, against the axis, in radii, at most 1: [h, w]."""
    step = capsules.end[0, :2] - capsules.start[0, :2]
    step = step / max(float(np.hypot(*step)), 1e-3) / capsules.start_radius[0]
    x = np.arange(low[0], high[0], dtype=np.float32) - capsules.start[0, 0]
    y = np.arange(low[1], high[1], dtype=np.float32) - capsules.start[0, 1]
    return np.clip(0.35 - (x * step[0])[None] - (y * step[1])[:, None], 0, 1)


def _nearest(capsules: Capsules, low: np.ndarray, high: np.ndarray):
    """For each capsule and pixel [K, h, w]: place along the axis 0..1, squared distance from it, the radius there."""
    x = np.arange(low[0], high[0], dtype=np.float32)[None] - capsules.start[:, :1]
    y = np.arange(low[1], high[1], dtype=np.float32)[None] - capsules.start[:, 1:2]
    step = capsules.end[:, :2] - capsules.start[:, :2]
    length2 = np.maximum((step * step).sum(-1), 1e-3)[:, None, None]
    dot = (x * step[:, :1])[:, None, :] + (y * step[:, 1:])[:, :, None]
    along = dot * (1 / length2)
    length = np.sqrt(length2)
    beyond = [(k, (along[k] - 1 if end else -along[k]) * length[k] - (1 - end)) for k, end in np.argwhere(capsules.cut)]
    np.clip(along, 0, 1, out=along)
    distance2 = (x * x)[:, None, :] + (y * y)[:, :, None]
    distance2 -= along * (2 * dot - along * length2)
    np.maximum(distance2, 0, out=distance2)
    radius = capsules.start_radius[:, None, None] + along * (capsules.end_radius - capsules.start_radius)[:, None, None]
    for k, excess in beyond:  # past a cut there is nothing: as far outside the radius as past the cut
        outside = np.where(excess > 0, radius[k] - 0.5 + excess, 0)
        distance2[k] = np.maximum(distance2[k], outside * outside)
    return along, distance2, radius


def _lit(capsules, which, along, radius, low, palette, texture) -> np.ndarray:
    """Colours [h, w, 3] by the normal of the nearest capsule: ambient, one light, darker and warmer at the rim."""
    rows, columns = which.shape
    x = np.arange(low[0], low[0] + columns, dtype=np.float32)[None]
    y = np.arange(low[1], low[1] + rows, dtype=np.float32)[:, None]
    start, step = capsules.start[which], (capsules.end - capsules.start)[which]
    scale = 1 / np.maximum(radius, 1e-3)
    nx = (x - start[..., 0] - along * step[..., 0]) * scale
    ny = (y - start[..., 1] - along * step[..., 1]) * scale
    nz = -np.sqrt(np.clip(1 - nx * nx - ny * ny, 0.02, 1))
    back = capsules.back[which]
    # bend the normals of a flat surface towards its own, on the side that the camera sees
    level = capsules.flatness[which] * np.clip(-3 * back[..., 2], -1, 1)
    keep = 1 - np.abs(level)
    nx, ny, nz = keep * nx + level * back[..., 0], keep * ny + level * back[..., 1], keep * nz + level * back[..., 2]
    length = 1 / np.sqrt(np.maximum(nx * nx + ny * ny + nz * nz, 1e-6))
    nx, ny, nz = nx * length, ny * length, nz * length
    shade = 0.46 + 0.62 * np.maximum(nx * LIGHT[0] + ny * LIGHT[1] + nz * LIGHT[2], 0)
    shade *= 0.76 + 0.24 * -nz
    material = capsules.material[which]
    cloth = material == _CLOTH
    facing = nx * back[..., 0] + ny * back[..., 1] + nz * back[..., 2]
    colour = palette[material]
    colour += (palette[_PALM_SKIN] - colour) * np.clip(-1.6 * facing, 0, 1)[..., None]
    nail = (material == _FINGERTIP) & (facing > 0.62) & (along > 0.5)
    colour[nail] = palette[_NAIL]
    shade = np.where(cloth, shade * texture, shade)
    warm = np.clip(1 - shade, 0, 1)[..., None] * np.float32([0.10, -0.02, -0.06])
    shine = np.maximum(nx * _HALFWAY[0] + ny * _HALFWAY[1] + nz * _HALFWAY[2], 0) ** 12 * 22
    bare = ~cloth[..., None]
    return colour * (shade[..., None] + warm * bare) + shine[..., None] * bare


def lay(canvas: np.ndarray, depth: np.ndarray, layer: Layer) -> None:
    """Put a layer onto a float32 canvas [H, W, 3] where it lies in front of `depth` [H, W]; both are changed."""
    rows, columns = layer.coverage.shape
    box = (slice(layer.top, layer.top + rows), slice(layer.left, layer.left + columns))
    front = layer.depth < depth[box]
    cover = layer.coverage * front
    canvas[box] += (layer.colour - canvas[box]) * cover[..., None]
    np.copyto(depth[box], layer.depth, where=front & (layer.coverage > 0.5))


def cast_shadow(canvas: np.ndarray, layers: list[Layer], ground: np.ndarray) -> None:
    """Darken a float32 canvas [H, W, 3] where limbs keep the light off what is behind them.

    Args:
        ground: float32 [H, W], 1 where something near enough to take a shadow stands behind (torso, head), else 0.
    """
    height, width = ground.shape
    small = np.zeros((height // 4 + 1, width // 4 + 1), np.float32)
    for layer in layers:
        part = layer.coverage[::4, ::4]
        top, left = layer.top // 4 + 1, layer.left // 4 + 1
        target = small[top:top + part.shape[0], left:left + part.shape[1]]
        np.maximum(target, part[:target.shape[0], :target.shape[1]], out=target)
    small = cv2.blur(small, (3, 3))
    shadow = cv2.resize(small, (small.shape[1] * 4, small.shape[0] * 4), interpolation=cv2.INTER_LINEAR)
    canvas *= (1 - 0.34 * shadow[:height, :width] * ground)[..., None]
