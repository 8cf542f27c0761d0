"""The 468 points of a face in the order of MediaPipe's face mesh, and how a moving mouth and eyelids displace them."""

from __future__ import annotations

from functools import cache

import numpy as np

RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
RIGHT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_LOWER_INNER = INNER_LIPS[11:]
_LOWER_OUTER = OUTER_LIPS[11:]

# x y z in thousandths of a head's height from the head's centre (x to the picture's right, y down, z away from the
# camera, 0 at the cheeks' rim): measured by MediaPipe's FaceMesh on a large front view of this project's own drawn
# face, made symmetric. The mesh numbers its points so that 0..247 are the middle and the picture's left half, and
# 248..467 the mirror images of those of them that are off the middle, in the same order.
_HALF_FACE = """
    0 290 -342, 0 203 -413, 0 229 -345, -21 106 -383, 0 174 -423, 0 135 -414, 0 37 -348, -184 22 -247, 0 -38 -333,
    0 -77 -341, 0 -210 -321, 0 302 -338, 0 309 -329, 0 311 -317, 0 318 -317, 0 327 -321, 0 338 -326, 0 351 -322,
    0 375 -296, 0 217 -399, -20 213 -363, -292 -86 -128, -108 51 -274, -135 52 -272, -160 50 -264, -193 33 -242,
    -85 44 -271, -142 -23 -285, -114 -21 -285, -168 -18 -276, -186 -8 -265, -218 52 -228, -94 417 -263,
    -193 14 -239, -304 35 -111, -249 32 -202, -127 170 -294, -30 286 -339, -26 308 -325, -61 291 -324,
    -82 298 -304, -49 308 -315, -67 308 -298, -115 332 -263, -20 202 -411, -23 174 -420, -230 -37 -258,
    -74 100 -300, -72 191 -347, -73 175 -340, -210 164 -260, -22 138 -406, -168 -68 -304, -204 -58 -283,
    -264 -136 -183, -54 -46 -325, -89 -11 -277, -135 308 -258, -273 294 -27, -54 207 -336, -35 215 -338,
    -107 308 -261, -96 307 -268, -220 -77 -272, -72 202 -332, -119 -67 -318, -125 -90 -325, -153 -198 -288,
    -242 -107 -235, -137 -145 -309, -249 -50 -236, -271 -67 -186, -29 300 -335, -54 302 -321, -74 304 -303,
    -48 211 -330, -101 307 -265, -90 313 -281, -94 306 -269, -43 200 -373, -63 306 -293, -44 308 -305,
    -23 309 -314, -33 375 -295, -30 349 -320, -29 335 -323, -28 325 -318, -26 317 -314, -68 312 -293, -71 314 -297,
    -76 320 -301, -80 328 -296, -104 269 -297, -304 156 4, 0 221 -364, -80 310 -279, -85 311 -282, -28 228 -338,
    -64 218 -312, -31 222 -338, -101 115 -290, -146 133 -282, -77 187 -324, -220 -174 -240, -200 -134 -275,
    -179 -91 -301, -94 349 -276, -63 -84 -337, -72 -145 -329, -83 -209 -315, -182 44 -253, -249 73 -213,
    -70 37 -267, -216 -1 -242, -57 81 -309, -58 183 -373, -279 91 -182, -229 94 -236, -194 105 -260, -141 101 -272,
    -103 90 -278, -76 78 -286, -24 44 -338, -274 151 -187, -241 -6 -230, -12 215 -397, -70 129 -309, -313 31 -22,
    -56 62 -290, -80 187 -298, -201 17 -233, -59 163 -364, -294 224 -4, -70 26 -261, -42 147 -390, -211 360 -167,
    -209 389 -117, -302 155 -91, -247 325 -135, -289 -20 -141, -99 442 -246, -9 220 -362, -93 149 -299,
    -275 37 -176, -158 33 -263, -135 36 -269, -95 318 -277, -269 207 -176, -52 475 -237, -129 443 -185,
    -165 421 -155, 0 -143 -334, 0 479 -245, -112 36 -270, -90 31 -267, -76 29 -262, -263 -12 -203, -94 1 -272,
    -117 -10 -276, -141 -12 -275, -164 -7 -268, -178 2 -259, -308 -34 -69, -173 27 -254, 0 248 -337, -79 256 -311,
    -55 203 -346, -32 250 -335, 0 -1 -331, -172 393 -191, -136 418 -217, -54 460 -271, -244 350 -69, -77 16 -266,
    -40 91 -345, 0 462 -278, -93 461 -217, -293 217 -93, -49 314 -305, -52 319 -309, -55 328 -313, -58 340 -309,
    -67 364 -289, -85 307 -282, -91 306 -282, -98 302 -283, -125 287 -278, -232 223 -230, -40 61 -322, -51 5 -280,
    -66 10 -271, -80 304 -279, -234 287 -188, -31 3 -314, -82 391 -274, 0 102 -392, -23 77 -363, 0 71 -369,
    -54 137 -343, 0 437 -294, 0 404 -295, -42 404 -289, -140 344 -248, -104 208 -291, -113 371 -260, -171 202 -282,
    -132 234 -285, -194 244 -259, -51 436 -286, -67 152 -323, -163 364 -223, -129 392 -239, -163 312 -247,
    -261 253 -165, -198 316 -221, -277 274 -102, -154 267 -271, -54 110 -326, -51 196 -378, -64 201 -349,
    -42 177 -397, -73 -20 -290, -115 -35 -295, -151 -38 -292, -182 -33 -282, -204 -21 -265, -222 25 -222,
    -307 95 -99, -202 65 -241, -175 74 -257, -139 75 -268, -105 69 -273, -79 60 -274, -61 51 -276, -309 92 0,
    -63 207 -336, -39 119 -364, -36 198 -398, -22 210 -387, -34 201 -385, -57 215 -326, -18 213 -394, -16 218 -362,
    -61 28 -265, -48 35 -280, -41 40 -298, -187 9 -250, -199 2 -250
"""


@cache
def face_mesh() -> tuple[np.ndarray, np.ndarray]:
    """The face at rest: points float32 [468, 3] in head heights, and the mirror permutation int [468]."""
    half = np.array([[int(number) for number in row.split()] for row in _HALF_FACE.split(",")], np.float32) / 1000
    off_middle = np.flatnonzero(half[:, 0] != 0)
    points = np.concatenate([half, half[off_middle] * np.float32([-1, 1, 1])])
    mirror = np.arange(len(points))
    mirror[off_middle] = np.arange(len(half), len(points))
    mirror[len(half):] = off_middle
    points.setflags(write=False)
    mirror.setflags(write=False)
    return points, mirror


def move_face(opening: np.ndarray, rounding: np.ndarray, blink: np.ndarray) -> np.ndarray:
    """Face points for T states of mouth and lids.

    Args:
        opening: [T] 0 closed to 1 wide open.
        rounding: [T] -1 spread (as in "i") over 0 to 1 rounded (as in "o").
        blink: [T] 0 eyes open to 1 shut.

    Returns:
        float32 [T, 468, 3] in head heights from the head's centre.
    """
    rest, _ = face_mesh()
    points = np.repeat(rest[None], len(opening), axis=0)
    opening, rounding = np.asarray(opening, np.float32)[:, None], np.asarray(rounding, np.float32)[:, None]
    corner = rest[61]
    # how much a point follows the mouth: all on the lips, fading over the cheeks
    near = np.exp(-(((np.abs(rest[:, 0]) - 0.04).clip(0) / 0.11) ** 2) - ((rest[:, 1] - corner[1]) / 0.075) ** 2)
    points[:, :, 0] *= 1 - near * (0.38 * rounding.clip(0) - 0.22 * (-rounding).clip(0))
    points[:, :, 2] -= near * 0.05 * rounding.clip(0)
    # the jaw takes the lower lip and the chin along; at the corners of the mouth the lips stay together
    middle = np.clip(1 - (rest[:, 0] / corner[0]) ** 2, 0, 1)
    jaw = np.clip((rest[:, 1] - corner[1] - 0.012) / 0.06, 0, 1) * np.exp(-((rest[:, 0] / 0.16) ** 2))
    jaw[list(_LOWER_INNER)] = middle[list(_LOWER_INNER)]
    jaw[list(_LOWER_OUTER)] = np.sqrt(middle[list(_LOWER_OUTER)])
    points[:, :, 1] += 0.085 * opening * jaw
    upper = np.zeros(len(rest), np.float32)
    upper[list(INNER_LIPS[1:10])] = middle[list(INNER_LIPS[1:10])]
    upper[list(OUTER_LIPS[1:10])] = middle[list(OUTER_LIPS[1:10])]
    points[:, :, 1] -= 0.022 * (opening + 0.4 * rounding.clip(0)) * upper
    _close_lids(points, np.asarray(blink, np.float32))
    return points


def _close_lids(points: np.ndarray, blink: np.ndarray) -> None:
    _, mirror = face_mesh()
    for indices in (np.array(RIGHT_EYE), mirror[list(RIGHT_EYE)]):
        upper, lower = indices[1:8], indices[:8:-1]
        gap = points[:, lower, 1] - points[:, upper, 1]
        points[:, upper, 1] += 0.9 * blink[:, None] * gap
