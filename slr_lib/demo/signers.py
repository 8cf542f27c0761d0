"""The demo's signers: how they are built, dressed and filmed, and how they sign; lengths are in heads' heights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

RESTS = ("hips", "lap", "belly", "out")
HAIRS = ("short", "long", "bun", "shaved", "curly")
PATTERNS = ("plain", "stripes", "checks", "dots", "knit")
WALLS = ("plain", "gradient", "shelf", "window", "curtain")

_SKINS = np.array([(246, 214, 192), (236, 196, 168), (224, 178, 148), (206, 158, 124), (182, 132, 98), (152, 106, 76),
                   (134, 92, 66), (112, 76, 56)], np.float64)
_HAIR_COLOURS = np.array([(38, 28, 24), (70, 48, 34), (112, 78, 48), (168, 128, 78), (130, 62, 34), (120, 116, 112)],
                         np.float64)
_CLOTHES = np.array([(46, 66, 104), (96, 36, 44), (52, 84, 62), (60, 60, 66), (176, 168, 152), (122, 92, 140),
                     (196, 150, 62), (60, 124, 138)], np.float64)
_WALL_COLOURS = np.array([(198, 192, 182), (150, 168, 182), (214, 208, 200), (122, 128, 124), (176, 158, 140),
                          (96, 104, 118)], np.float64)


@dataclass(frozen=True)
class Signer:
    """One signer, or one take of a signer (see `vary`). Lengths in head heights, angles in radians, colours RGB 0..255.

    shoulder is half the distance of the shoulder joints, neck the distance from chin to the shoulders' line, torso
    from there to the hips; girth scales the limbs' thickness. sleeve: how far down the arm it reaches, 0 the
    shoulder, 1 the elbow, 2 the wrist. tempo above 1 is faster, reach scales the size of movements, slack is how far
    idle fingers bend, jitter how unsteady the body is. zoom, tilt, shift_x, shift_y are the camera's.
    """

    name: str
    seed: int
    portrait: bool
    left_handed: bool
    shoulder: float
    neck: float
    torso: float
    upper_arm: float
    forearm: float
    hand: float
    girth: float
    head_width: float
    skin: tuple[float, float, float]
    hair: str
    hair_colour: tuple[float, float, float]
    cloth: tuple[float, float, float]
    second_cloth: tuple[float, float, float]
    pattern: str
    sleeve: float
    wall: str
    wall_colour: tuple[float, float, float]
    brightness: float
    rest: str
    tempo: float
    reach: float
    slack: float
    jitter: float
    zoom: float
    tilt: float
    shift_x: float
    shift_y: float


def make_signer(number: int, seed: int = 0) -> Signer:
    """Signer `number` (from 0) of the corpus with this seed; the same whatever the number of signers drawn.

    Skins, hair, clothes, rests and the format go round their tables, so that few signers differ already; every fifth
    signer is left-handed and all else is drawn at random.
    """
    rng = np.random.default_rng([seed, 1, number])
    turn = int(np.random.default_rng([seed, 2]).integers(1000))

    def colour(table: np.ndarray, step: int, spread: float) -> tuple[float, float, float]:
        base = table[(turn + number * step) % len(table)]
        return tuple(float(value) for value in np.clip(base + rng.normal(0, spread, 3), 8, 250))

    skin = colour(_SKINS, 3, 5)
    cloth, second_cloth = (_unlike(skin, _CLOTHES, turn + number * step) for step in (3, 5))
    sleeve = (2.0, 0.62, 1.75, 0.55, 1.3)[(turn + number * 2) % 5]
    return Signer(
        name=f"demo-signer-{number + 1:02d}", seed=int(rng.integers(2**31)),
        portrait=(number + turn) % 2 == 0, left_handed=number % 5 == 2,
        shoulder=rng.uniform(0.70, 0.84), neck=rng.uniform(0.24, 0.36), torso=rng.uniform(2.15, 2.45),
        upper_arm=rng.uniform(1.26, 1.42), forearm=rng.uniform(1.14, 1.28), hand=rng.uniform(0.74, 0.82),
        girth=rng.uniform(0.88, 1.18), head_width=rng.uniform(0.94, 1.06),
        skin=skin, hair=HAIRS[(turn + number) % len(HAIRS)],
        hair_colour=colour(_HAIR_COLOURS, 1, 5), cloth=cloth, second_cloth=second_cloth,
        pattern=PATTERNS[(turn + number * 3) % len(PATTERNS)], sleeve=sleeve,
        wall=WALLS[(turn + number * 2) % len(WALLS)], wall_colour=colour(_WALL_COLOURS, 1, 8),
        brightness=rng.uniform(0.88, 1.08), rest=RESTS[(turn + number) % len(RESTS)], tempo=rng.uniform(0.9, 1.15),
        reach=rng.uniform(0.85, 1.15), slack=rng.uniform(0.6, 1.3), jitter=rng.uniform(0.6, 1.4),
        zoom=rng.uniform(0.95, 1.06), tilt=rng.normal(0, 0.025), shift_x=rng.uniform(-0.12, 0.12),
        shift_y=rng.uniform(-0.06, 0.06),
    )


def _unlike(skin: tuple[float, float, float], table: np.ndarray, start: int) -> tuple[float, float, float]:
    """The first colour from `start` on that a hand stands out against: on skin-coloured cloth MediaPipe finds none."""
    around = np.roll(table, -start, axis=0)
    distance = np.linalg.norm(around - np.array(skin), axis=1)
    return tuple(float(value) for value in around[np.flatnonzero(distance > 80)[0]])


def vary(signer: Signer, rng: np.random.Generator) -> Signer:
    """One take of a signer: a little of everything that changes from one recording to the next."""
    return replace(
        signer, seed=int(rng.integers(2**31)), brightness=signer.brightness * rng.uniform(0.96, 1.04),
        tempo=signer.tempo * rng.uniform(0.94, 1.07), reach=signer.reach * rng.uniform(0.92, 1.08),
        slack=signer.slack * rng.uniform(0.85, 1.15), jitter=signer.jitter * rng.uniform(0.8, 1.2),
        zoom=signer.zoom * rng.uniform(0.98, 1.02), tilt=signer.tilt + rng.normal(0, 0.008),
        shift_x=signer.shift_x + rng.normal(0, 0.02), shift_y=signer.shift_y + rng.normal(0, 0.015),
    )
