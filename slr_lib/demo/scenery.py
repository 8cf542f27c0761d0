"""What stands still in a clip: the wall, the torso in its clothes, and the neck; drawn once a clip."""

from __future__ import annotations

import cv2
import numpy as np

from slr_lib.demo.camera import Camera
from slr_lib.demo.signers import Signer

_FINE = 2  # drawn this much larger, then reduced


def draw_scenery(signer: Signer, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wall, torso and neck.

    Returns:
        picture float32 [H, W, 3], RGB 0..255; body float32 [H, W], 1 where the torso or neck is; cloth float32 [H, W],
        the cloth's texture over the whole picture, a factor about 1, for sleeves.
    """
    rng = np.random.default_rng([signer.seed, 3])
    size = (camera.height * _FINE, camera.width * _FINE)
    picture = _draw_wall(signer, size, rng)
    texture = _cloth_texture(signer, camera, size, rng)
    body = _draw_torso(picture, signer, camera, texture)
    small = (camera.width, camera.height)
    picture = cv2.resize(picture, small, interpolation=cv2.INTER_AREA) * np.float32(signer.brightness)
    folds = cv2.resize(texture[1], small, interpolation=cv2.INTER_AREA)
    return picture, cv2.resize(body, small, interpolation=cv2.INTER_AREA), folds


def _draw_wall(signer: Signer, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    height, width = size
    base = np.float32(signer.wall_colour)
    y, x = np.linspace(0, 1, height, dtype=np.float32)[:, None], np.linspace(0, 1, width, dtype=np.float32)[None]
    light = 1.06 - 0.22 * y - 0.16 * (x - 0.3) ** 2
    wall = base * light[..., None]
    if signer.wall == "gradient":
        wall = wall * (0.75 + 0.4 * x)[..., None]
    elif signer.wall == "curtain":
        wall *= (1 + 0.07 * np.sin(2 * np.pi * (9 * x + 0.6 * np.sin(7 * x))))[..., None]
    elif signer.wall == "window":
        left, right, bottom = int(0.03 * width), int(0.30 * width), int(0.55 * height)
        wall[:bottom, left:right] = np.float32([222, 230, 236]) * (1 - 0.12 * y[:bottom, :, None])
        for at in (left, (left + right) // 2, right):
            cv2.line(wall, (at, 0), (at, bottom), (238.0, 236.0, 230.0), width // 70)
        cv2.line(wall, (left, bottom), (right, bottom), (225.0, 222.0, 214.0), width // 40)
    elif signer.wall == "shelf":
        for level in (0.20, 0.46):
            start = int(0.62 * width)
            while start < 0.97 * width:
                wide, tall = int(rng.uniform(0.012, 0.035) * width), int(rng.uniform(0.09, 0.16) * height)
                colour = rng.uniform(50, 190, 3)
                foot = int(level * height)
                cv2.rectangle(wall, (start, foot - tall), (start + wide, foot), tuple(map(float, colour)), -1)
                start += wide + 2
            cv2.rectangle(wall, (int(0.6 * width), int(level * height)), (width, int((level + 0.018) * height)),
                          tuple(map(float, base * 0.55)), -1)
    wall = cv2.GaussianBlur(wall, (0, 0), sigmaX=3.0)  # out of focus
    return wall + rng.normal(0, 1.5, (height, width, 1)).astype(np.float32)


def _cloth_texture(signer: Signer, camera: Camera, size: tuple[int, int], rng: np.random.Generator):
    """Share of the second colour [h, w], and folds as a factor on brightness [h, w]."""
    height, width = size
    folds = np.zeros(size, np.float32)
    for across, down, weight in ((14, 40, 1.1), (5, 12, 0.35), (0.8, 0.8, 0.045)):
        noise = rng.normal(0, 1, size).astype(np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), sigmaX=across, sigmaY=down)
        folds += weight * 0.05 * noise / max(float(noise.std()), 1e-6)
    unit = camera.scale * _FINE
    x = (np.arange(width, dtype=np.float32) - camera.origin[0] * _FINE)[None] / unit
    y = (np.arange(height, dtype=np.float32) - camera.origin[1] * _FINE)[:, None] / unit
    second = {
        "stripes": np.sin(2 * np.pi * y / 0.24) > 0.35,
        "checks": (np.sin(2 * np.pi * x / 0.42) > 0.8) | (np.sin(2 * np.pi * y / 0.42) > 0.8),
        "dots": np.sin(2 * np.pi * x / 0.2) * np.sin(2 * np.pi * y / 0.2) > 0.8,
    }.get(signer.pattern, np.zeros((1, 1), bool))
    if signer.pattern == "knit":
        folds = folds + 0.05 * np.sin(2 * np.pi * (x / 0.06 + 0.5 * np.sin(2 * np.pi * y / 0.05)))
    second = np.broadcast_to(second, size).astype(np.float32) * (0.3 if signer.pattern == "checks" else 0.6)
    return second, 1 + folds


def _draw_torso(picture: np.ndarray, signer: Signer, camera: Camera, texture) -> np.ndarray:
    height, width = picture.shape[:2]
    girth, wide = signer.girth, signer.shoulder
    second, folds = texture
    half = np.array([(0.20 * girth, -0.16), (0.30, -0.09), (wide * 0.80, -0.06), (wide + 0.04, -0.015),
                     (wide + 0.16, 0.12), (wide + 0.08, 0.70), (0.72 * girth, 1.45), (0.74 * girth, 1.9),
                     (0.84 * girth, signer.torso), (0.86 * girth, signer.torso + 1.5)])
    torso = _mask(np.concatenate([half, half[::-1] * [-1, 1]]), camera, (height, width))
    neck = 0.205 * (0.6 + 0.4 * girth)
    skin_half = np.array([(neck, -(signer.neck + 0.32)), (neck, -0.22), (neck * 1.25, -0.09)])
    collar = np.array([(neck * 0.9, 0.04), (0.0, 0.30 if signer.seed % 2 else 0.12)])
    outline = np.concatenate([skin_half, collar, collar[:1] * [-1, 1], skin_half[::-1] * [-1, 1]])
    neck_mask = _mask(outline, camera, (height, width))
    x = (np.arange(width, dtype=np.float32)[None] / _FINE - camera.origin[0]) / camera.scale
    y = (np.arange(height, dtype=np.float32)[:, None] / _FINE - camera.origin[1]) / camera.scale
    round_ = np.clip(x / (wide + 0.22), -1, 1)
    shade = 0.60 + 0.42 * np.sqrt(1 - round_**2 * 0.9) - 0.13 * round_ - 0.05 * (y - 0.5)
    shade = shade + 0.07 * np.exp(-(((np.abs(x) - 0.36) / 0.28) ** 2) - ((y - 0.62) / 0.3) ** 2)
    cloth = np.float32(signer.cloth) * (1 - second[..., None]) + np.float32(signer.second_cloth) * second[..., None]
    cloth = cloth * (shade * folds)[..., None]
    picture += (cloth - picture) * torso[..., None]
    # the chin's shadow lies on the neck
    dim = 0.86 - 0.16 * (x / neck) ** 2 * np.sign(x) * 0.5 - 0.30 * np.exp(-(((y + signer.neck + 0.02) / 0.16) ** 2))
    skin = np.float32(signer.skin) * dim[..., None]
    picture += (skin - picture) * neck_mask[..., None]
    seam = np.clip(cv2.blur(neck_mask, (7, 7)) * 1.4, 0, 1) * (1 - neck_mask) * torso
    picture *= (1 - 0.35 * seam)[..., None]
    return np.maximum(torso, neck_mask)


def _mask(points: np.ndarray, camera: Camera, size: tuple[int, int]) -> np.ndarray:
    """Coverage [h, w] of a polygon given in body space at the shoulders' depth."""
    flat = np.concatenate([points, np.zeros((len(points), 1))], 1)
    pixels = camera.project(flat)[:, :2] * _FINE
    mask = np.zeros(size, np.float32)
    cv2.fillPoly(mask, [np.round(pixels * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(mask, (0, 0), 1.2)
