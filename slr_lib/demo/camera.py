"""The camera: from body space to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slr_lib.demo.signers import Signer

_DISTANCE = 12.0  # from the shoulders' plane, in head heights: a desk camera's perspective


@dataclass(frozen=True)
class Camera:
    """A camera in front of the signer, waist up: picture size in pixels, pixels per head height, where the middle of
    the shoulders falls, and the tilt in radians."""

    width: int
    height: int
    scale: float
    origin: tuple[float, float]
    tilt: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Body space [..., 3] -> float32 [..., 3]: x and y in pixels, depth in pixels at the shoulders' scale."""
        size = self.scale * self.magnification(points[..., 2])
        x, y = points[..., 0] * size + self.origin[0] - self.width / 2, points[..., 1] * size + self.origin[1]
        y = y - self.height / 2
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        return np.stack([cos * x - sin * y + self.width / 2, sin * x + cos * y + self.height / 2,
                         points[..., 2] * self.scale], -1).astype(np.float32)

    def magnification(self, depth: np.ndarray) -> np.ndarray:
        """How much larger than in the shoulders' plane things appear at a depth given in head heights."""
        return _DISTANCE / (_DISTANCE + depth)


def frame_signer(signer: Signer, height: int) -> Camera:
    """The camera that films this signer: `height` pixels high, 3:4 portrait or 4:3 landscape; sides are even."""
    width = int(height * (0.75 if signer.portrait else 4 / 3)) // 2 * 2
    scale = signer.zoom * min(height / 3.95, width / 3.45)
    x = width / 2 + signer.shift_x * scale
    y = (signer.neck + 1.0 + 0.30 + signer.shift_y) * scale
    if signer.portrait:  # a narrow picture leaves room above
        y += 0.12 * (height - 3.95 * scale)
    return Camera(width, height, scale, (x, y), signer.tilt)
