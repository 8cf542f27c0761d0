"""`.pose` files of sign-language-processing (the package pose-format): named points with a confidence, evenly timed.

MediaPipe's points have the components and names that the package itself gives them (utils/holistic.py): x and y in
pixels, z as MediaPipe gives it. Points of other skeletons stand in one component that bears the skeleton's name.
"""

from __future__ import annotations

import functools
import struct
from typing import BinaryIO

import numpy as np

from slr_lib.recordings import Recording, Unusable
from slr_lib.skeleton import HOLISTIC, Skeleton

FORMAT = "XYZC"  # what a point has: three coordinates and a confidence
_VERSION = 0.2
_COMPONENTS = {"pose": "POSE_LANDMARKS", "face": "FACE_LANDMARKS", "left_hand": "LEFT_HAND_LANDMARKS",
               "right_hand": "RIGHT_HAND_LANDMARKS"}
_COLOURS = [(255, 0, 0), (128, 0, 0), (0, 128, 0), (0, 0, 255)]
# what the package raises on a file that is damaged or none of its own
_UNREADABLE = (struct.error, ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError, NotImplementedError)


def read_pose(content: bytes, skeleton: Skeleton) -> Recording:
    """The points of a skeleton from the bytes of a `.pose` file; of several persons the first.

    Where the header tells the size of the picture, x and y become fractions of it, as MediaPipe gives them; so does
    the z of points that are not MediaPipe's, whose unit is that of x. A point of MediaPipe's may be absent from the
    file (reduced faces are usual) and is missing then; any other is looked for as `COMPONENT.POINT`, or by its name
    where one component alone has it, and must be there.

    Returns:
        A Recording whose times are counted from the file's own frame rate (None where it has none); points float64.

    Raises:
        Unusable: the file is damaged, has nobody, none of the points, or lacks one that it must have.
    """
    from pose_format import Pose

    try:
        pose = Pose.read(content)
        data, confidence = np.asarray(pose.body.data.data, np.float64), np.asarray(pose.body.confidence)
    except _UNREADABLE as error:
        raise Unusable(f"it is no .pose file, or a damaged one ({type(error).__name__}: {error})") from error
    if data.ndim != 4 or data.shape[1] == 0 or data.shape[3] < 2:
        raise Unusable("it holds nobody")
    places = _find(pose.header.components, skeleton)
    points = np.full((len(data), len(places), 3), np.nan)
    found = np.flatnonzero(places >= 0)
    chosen, depth = places[found], min(data.shape[3], 3)
    points[:, found, :depth] = np.where((confidence[:, 0] > 0)[:, chosen, None], data[:, 0, chosen, :depth], np.nan)
    width, height = pose.header.dimensions.width, pose.header.dimensions.height
    known = width > 1 and height > 1
    if known:
        points /= _pixels(skeleton, (width, height))
    fps = float(pose.body.fps)
    times = np.arange(len(points)) / fps if np.isfinite(fps) and fps > 0 else None
    return Recording(points, times, (width, height) if known else None)


def write_pose(
    file: BinaryIO, points: np.ndarray, fps: float, size: tuple[int, int] | None, skeleton: Skeleton
) -> None:
    """Write a clip; equal landmarks give equal bytes. Confidence is 1 where a point is there, 0 where it is missing.

    Args:
        points: float32 [T, P, 3], NaN where missing. fps: frames a second, kept as float32.
        size: width and height in pixels (below 65536) of the pictures whose fractions x and y are. None where they
            are not known: then the points are written as they are, for a picture of 1 x 1.
    """
    from pose_format import Pose, PoseHeader
    from pose_format.numpy import NumPyPoseBody
    from pose_format.pose_header import PoseHeaderComponent, PoseHeaderDimensions

    addresses = _addresses(skeleton)
    members: dict[str, list[int]] = {}
    for place, (component, _) in enumerate(addresses):
        members.setdefault(component, []).append(place)
    ranks = {name: rank for rank, name in enumerate(_COMPONENTS.values())}  # the package's own order
    order = sorted(members, key=lambda name: ranks.get(name, len(ranks)))
    components = []
    for name, colour in zip(order, _COLOURS * len(order)):
        new = {old: place for place, old in enumerate(members[name])}
        limbs = [(new[a], new[b]) for a, b in skeleton.edges if a in new and b in new]
        names = [addresses[place][1] for place in new]
        components.append(PoseHeaderComponent(name, names, limbs, [colour], FORMAT))
    size = size or (1, 1)
    pixels = (points * _pixels(skeleton, size))[:, None, [place for name in order for place in members[name]]]
    seen = ~np.isnan(pixels[..., 0])
    header = PoseHeader(_VERSION, PoseHeaderDimensions(*size, 0), components)
    body = NumPyPoseBody(fps, np.where(seen[..., None], pixels, 0).astype(np.float32), seen.astype(np.float32))
    Pose(header, body).write(file)


def _pixels(skeleton: Skeleton, size: tuple[int, int]) -> np.ndarray:
    """What a fraction of the picture is in pixels, [P, 3]; MediaPipe's z stays as it is, another's has x's unit."""
    width, height = size
    own = np.array([component in _COMPONENTS.values() for component, _ in _addresses(skeleton)])
    return np.where(own[:, None], (width, height, 1), (width, height, width)).astype(np.float64)


@functools.cache
def _addresses(skeleton: Skeleton) -> list[tuple[str, str]]:
    """Each point's component and name in a file: left_hand_index_mcp -> LEFT_HAND_LANDMARKS, INDEX_FINGER_MCP."""
    return [_address(point) or (skeleton.name, point) for point in skeleton.points]


def _address(point: str) -> tuple[str, str] | None:
    """Of a point of MediaPipe's; None for any other."""
    part = next((part for part in _COMPONENTS if point.startswith(f"{part}_")), None)
    if part is None or point not in HOLISTIC.points:
        return None
    name = point.removeprefix(f"{part}_").upper()
    finger = name.partition("_")[0]
    if part.endswith("hand") and finger in ("INDEX", "MIDDLE", "RING"):
        name = name.replace(finger, f"{finger}_FINGER", 1)
    return _COMPONENTS[part], name


def _find(components: list, skeleton: Skeleton) -> np.ndarray:
    """Place [P] of each point in the file, -1 where it is absent and may be."""
    theirs = [(component.name, point) for component in components for point in component.points]
    place_of = {address: place for place, address in enumerate(theirs)}
    names = ", ".join(dict(theirs))
    places = np.full(len(skeleton.points), -1)
    for number, (point, address) in enumerate(zip(skeleton.points, _addresses(skeleton))):
        if address[0] in _COMPONENTS.values():
            places[number] = place_of.get(address, -1)
            continue
        matches = [place for place, (component, name) in enumerate(theirs) if point in (name, f"{component}.{name}")]
        if len(matches) != 1:
            fault = f"{len(matches)} points {point} (name one as COMPONENT.POINT)" if matches else f"no point {point}"
            raise Unusable(f"it has {fault}; its components are {names}")
        places[number] = matches[0]
    if (places < 0).all():
        raise Unusable(f"it has none of the points of the skeleton {skeleton.name}; its components are {names}")
    return places
