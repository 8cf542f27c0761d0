"""Named points: body parts, mirror pairs, edges. The one source of every landmark index in the project.

Built in are `holistic` (MediaPipe Holistic's 543 points in Kaggle GISLR's order), `hands` (left and right hand, 42
points) and `hands_by_detection` (the same points, but the slots hold whichever hand was found first). Anything else is
described by a YAML file, see `load_skeleton`.

left and right are the signer's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from slr_lib.errors import InputError

Side = Literal["left", "right"]
Kind = Literal["hand", "face", "body"]


@dataclass(frozen=True)
class Part:
    """Points that belong together. `points` are indices into the skeleton's points."""

    name: str
    points: tuple[int, ...]
    side: Side | None
    kind: Kind


@dataclass(frozen=True)
class Skeleton:
    """P named points and what is known about them.

    points: P names. parts: disjoint groups of points. mirror: for each point its counterpart on the other side, itself
    on the middle line (an involution). edges: pairs of points that a bone or an outline joins.
    slots_by_detection: the two hand parts hold hands in the order of detection, so that sides must be found by clip.
    origin, unit: the points whose mean is the body's origin, and the two whose distance is its unit of length; empty
    and None where the skeleton has no body.
    selection: the points that the recogniser uses (all of them where empty).
    depth_by_part: z of each part has a zero of its own, as MediaPipe's has (hand: its wrist; body: the hips).
    in_picture: x and y are fractions of the picture, which then stands in where there is no origin or no unit.

    Raises:
        ValueError: an index out of range, a mirror that is no involution, or overlapping parts.
    """

    name: str
    points: tuple[str, ...]
    parts: tuple[Part, ...]
    mirror: tuple[int, ...]
    edges: tuple[tuple[int, int], ...] = ()
    slots_by_detection: bool = False
    origin: tuple[int, ...] = ()
    unit: tuple[int, int] | None = None
    selection: tuple[int, ...] = ()
    depth_by_part: bool = False
    in_picture: bool = False

    def __post_init__(self):
        count = len(self.points)
        if len(set(self.points)) != count:
            raise ValueError("points: a name occurs twice")
        if sorted(self.mirror) != list(range(count)) or any(self.mirror[m] != p for p, m in enumerate(self.mirror)):
            raise ValueError("mirror: the pairs must name each point once")
        in_parts = [point for part in self.parts for point in part.points]
        if len(set(in_parts)) != len(in_parts):
            raise ValueError("parts: a point belongs to two parts")
        used = [*in_parts, *self.origin, *(self.unit or ()), *self.selection, *(p for edge in self.edges for p in edge)]
        if any(not 0 <= point < count for point in used):
            raise ValueError(f"an index lies outside 0-{count - 1}")
        hands = self.hands
        if self.slots_by_detection and (len(hands) != 2 or len(hands[0].points) != len(hands[1].points)):
            raise ValueError("slots_by_detection: needs exactly two parts of kind hand, with as many points each")

    def __hash__(self) -> int:
        """Of little, for skeletons are keys of caches: that of all fields takes as long as a tenth of a clip."""
        return hash((self.name, len(self.points), len(self.selection)))

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.points)}

    @property
    def hands(self) -> tuple[Part, ...]:
        """The parts of kind hand."""
        return tuple(part for part in self.parts if part.kind == "hand")

    def index(self, point: str) -> int:
        """Index of a point by its name. Raises KeyError."""
        return self._indices[point]

    def part(self, name: str) -> Part:
        """A part by its name. Raises KeyError."""
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)

    def select(self, points=None, name: str | None = None) -> tuple[Skeleton, np.ndarray]:
        """The skeleton of some of the points, and their indices here: `landmarks[:, indices]` fits the new skeleton.

        points: names or indices, in the order wanted; `self.selection` where None. Parts, edges, origin and unit that
        lose a point shrink or vanish (a part keeps what is left of it).

        Raises:
            KeyError: a name is unknown.
            ValueError: a point is chosen without its mirror counterpart.
        """
        if points is None:
            points = self.selection or range(len(self.points))
        chosen = [self.index(point) if isinstance(point, str) else int(point) for point in points]
        new = {old: index for index, old in enumerate(chosen)}
        lonely = [self.points[point] for point in chosen if self.mirror[point] not in new]
        if lonely:
            raise ValueError(f"selection: {lonely[0]} is chosen without its mirror counterpart")
        parts = [Part(part.name, tuple(new[p] for p in part.points if p in new), part.side, part.kind)
                 for part in self.parts]
        whole = all(point in new for point in self.origin)
        skeleton = Skeleton(
            name=name or f"{self.name}_{len(chosen)}",
            points=tuple(self.points[point] for point in chosen),
            parts=tuple(part for part in parts if part.points),
            mirror=tuple(new[self.mirror[point]] for point in chosen),
            edges=tuple((new[a], new[b]) for a, b in self.edges if a in new and b in new),
            slots_by_detection=self.slots_by_detection,
            origin=tuple(new[point] for point in self.origin) if whole else (),
            unit=(new[self.unit[0]], new[self.unit[1]]) if self.unit and set(self.unit) <= set(new) else None,
            depth_by_part=self.depth_by_part,
            in_picture=self.in_picture,
        )
        return skeleton, np.array(chosen, dtype=np.int64)


# MediaPipe's names and bones (mediapipe 0.10.21, solutions/hands_connections.py and pose_connections.py, Apache-2.0)
_HAND_POINTS = ("wrist", "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip",
                *(f"{finger}_{joint}" for finger in ("index", "middle", "ring", "pinky")
                  for joint in ("mcp", "pip", "dip", "tip")))
_HAND_EDGES = ((0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (5, 9), (9, 10), (10, 11), (11, 12),
               (9, 13), (13, 14), (14, 15), (15, 16), (13, 17), (0, 17), (17, 18), (18, 19), (19, 20))
_POSE_POINTS = ("nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
                "right_eye_outer", "left_ear", "right_ear", "mouth_left", "mouth_right",
                *(f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "pinky", "index", "thumb", "hip",
                                                  "knee", "ankle", "heel", "foot_index") for side in ("left", "right")))
_POSE_EDGES = ((0, 1), (1, 2), (2, 3), (3, 7), (0, 4), (4, 5), (5, 6), (6, 8), (9, 10), (11, 12), (11, 13), (13, 15),
               (15, 17), (15, 19), (15, 21), (17, 19), (12, 14), (14, 16), (16, 18), (16, 20), (16, 22), (18, 20),
               (11, 23), (12, 24), (23, 24), (23, 25), (24, 26), (25, 27), (26, 28), (27, 29), (28, 30), (29, 31),
               (30, 32), (27, 31), (28, 32))

# The lips' two outlines, closed, from the right corner over the upper lip (face_mesh_connections.py, FACEMESH_LIPS)
_OUTER_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
_INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
# Brows (inner end, arch, outer end), eyes (corners, lids) and the nose's tip: enough to see brows, gaze and blinks.
_FACE_CHOICE = (70, 105, 107, 300, 334, 336, 33, 133, 159, 145, 263, 362, 386, 374, 1)
# The face mesh numbers first the points of one side and of the middle line, 0-247, then the counterparts of the former
# in the same order, 248-467. Hence the whole mirror table from the list of the middle points.
# Read off MediaPipe's canonical_face_model.obj (google-ai-edge/mediapipe, mediapipe/modules/face_geometry/data), whose
# coordinates are exactly symmetric; tests/test_skeleton.py checks it against the wheel's FACEMESH_* connections.
_FACE_MIDDLE = (0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 94, 151, 152, 164, 168, 175, 195, 197,
                199, 200)
_FACE_POINTS, _FACE_FIRST_TWIN = 468, 248
# Of the pose: nose, eyes, ears, shoulders, elbows, wrists.
_POSE_CHOICE = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16)


def _loop(points: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(points, (*points[1:], points[0]), strict=True))


def _face_mirror() -> dict[int, int]:
    """The face's mirror pairs, both ways; points of the middle line are not listed."""
    ours = [point for point in range(_FACE_FIRST_TWIN) if point not in _FACE_MIDDLE]
    twins = range(_FACE_FIRST_TWIN, _FACE_POINTS)
    return {**dict(zip(ours, twins, strict=True)), **dict(zip(twins, ours, strict=True))}


def _mirror_by_name(points: tuple[str, ...]) -> list[int]:
    """Swap `left` and `right` in the names; a name without a counterpart stays where it is."""
    index = {name: place for place, name in enumerate(points)}
    swapped = (name.replace("left", "\0").replace("right", "left").replace("\0", "right") for name in points)
    return [index.get(name, place) for place, name in enumerate(swapped)]


def _holistic() -> Skeleton:
    left, pose, right = _FACE_POINTS, _FACE_POINTS + 21, _FACE_POINTS + 21 + 33
    points = (*(f"face_{i}" for i in range(_FACE_POINTS)), *(f"left_hand_{name}" for name in _HAND_POINTS),
              *(f"pose_{name}" for name in _POSE_POINTS), *(f"right_hand_{name}" for name in _HAND_POINTS))
    mirror = _mirror_by_name(points)
    for point, twin in _face_mirror().items():
        mirror[point] = twin
    lips = (*_OUTER_LIPS, *_INNER_LIPS)
    parts = (Part("lips", lips, None, "face"),
             Part("face", tuple(i for i in range(_FACE_POINTS) if i not in lips), None, "face"),
             Part("left_hand", tuple(range(left, left + 21)), "left", "hand"),
             Part("pose", tuple(range(pose, pose + 33)), None, "body"),
             Part("right_hand", tuple(range(right, right + 21)), "right", "hand"))
    edges = (*_loop(_OUTER_LIPS), *_loop(_INNER_LIPS),
             *((first + a, first + b) for first in (left, right) for a, b in _HAND_EDGES),
             *((pose + a, pose + b) for a, b in _POSE_EDGES))
    shoulders = (pose + 11, pose + 12)
    selection = (*lips, *_FACE_CHOICE, *range(left, left + 21), *(pose + i for i in _POSE_CHOICE),
                 *range(right, right + 21))
    return Skeleton("holistic", points, parts, tuple(mirror), edges, origin=shoulders, unit=shoulders,
                    selection=selection, depth_by_part=True, in_picture=True)


def _two_hands(name: str, slots_by_detection: bool) -> Skeleton:
    points = tuple(f"{side}_hand_{point}" for side in ("left", "right") for point in _HAND_POINTS)
    parts = (Part("left_hand", tuple(range(21)), "left", "hand"),
             Part("right_hand", tuple(range(21, 42)), "right", "hand"))
    edges = tuple((first + a, first + b) for first in (0, 21) for a, b in _HAND_EDGES)
    return Skeleton(name, points, parts, tuple(_mirror_by_name(points)), edges, slots_by_detection=slots_by_detection,
                    depth_by_part=True, in_picture=True)


HOLISTIC = _holistic()
HANDS = _two_hands("hands", slots_by_detection=False)
HANDS_BY_DETECTION = _two_hands("hands_by_detection", slots_by_detection=True)
_BUILT_IN = {skeleton.name: skeleton for skeleton in (HOLISTIC, HANDS, HANDS_BY_DETECTION)}
_YAML_KEYS = ("name", "points", "parts", "mirror", "edges", "slots_by_detection", "origin", "unit", "selection",
              "depth_by_part", "in_picture")


def load_skeleton(name_or_path: str | Path) -> Skeleton:
    """A built-in skeleton by its name, or one described by a YAML file.

    Keys of the file: `points` (names), `parts` (name -> {points: [names], side: left|right, kind: hand|face|body}),
    and, as far as they apply, `name`, `mirror` (pairs of names; who is not listed is his own counterpart), `edges`
    (pairs), `slots_by_detection`, `origin` (names), `unit` (two names), `selection` (names), `depth_by_part`,
    `in_picture`.

    Raises:
        InputError: the file is absent or no YAML, or a key is unknown, missing or wrong; names the file and the key.
    """
    if str(name_or_path) in _BUILT_IN:
        return _BUILT_IN[str(name_or_path)]
    path = Path(name_or_path)
    if not path.is_file():
        raise InputError(f"{path}: no such skeleton; choose one of {', '.join(_BUILT_IN)}, or the path of a YAML file.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a YAML file ({' '.join(str(error).split())}); mend or restore it.") from error
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds no keys; a skeleton needs at least `points` and `parts`.")
    for key in content:
        if key not in _YAML_KEYS:
            raise InputError(f"{path}: {key}: unknown key; the keys are {', '.join(_YAML_KEYS)}.")
    return _read_skeleton(path, content)


def _read_skeleton(path: Path, content: dict) -> Skeleton:
    points = content.get("points")
    if not isinstance(points, list) or not points or not all(isinstance(point, str) for point in points):
        raise InputError(f"{path}: points: write the list of the points' names.")
    index = {name: place for place, name in enumerate(points)}

    def places(key: str, names, count: int | None = None) -> tuple[int, ...]:
        if not isinstance(names, list) or (count is not None and len(names) != count):
            raise InputError(f"{path}: {key}: write a list of {count or 'the'} names of points.")
        for name in names:
            if not isinstance(name, str) or name not in index:
                raise InputError(f"{path}: {key}: {name!r} is none of the points; add it to `points` or mend the name.")
        return tuple(index[name] for name in names)

    def pairs(key: str) -> list[tuple[int, ...]]:
        if not isinstance(content.get(key, []), list):
            raise InputError(f"{path}: {key}: write a list of pairs of names of points.")
        return [places(key, pair, 2) for pair in content.get(key, [])]

    def flag(key: str) -> bool:
        if not isinstance(content.get(key, False), bool):
            raise InputError(f"{path}: {key}: write true or false.")
        return content.get(key, False)

    mirror = list(range(len(points)))
    for left, right in pairs("mirror"):
        mirror[left], mirror[right] = right, left
    try:
        skeleton = Skeleton(
            name=str(content.get("name", path.stem)), points=tuple(points), parts=_read_parts(path, content, places),
            mirror=tuple(mirror), edges=tuple(pairs("edges")), slots_by_detection=flag("slots_by_detection"),
            origin=places("origin", content.get("origin", [])),
            unit=places("unit", content["unit"], 2) if content.get("unit") is not None else None,
            selection=places("selection", content.get("selection", [])), depth_by_part=flag("depth_by_part"),
            in_picture=flag("in_picture"))
        skeleton.select()
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: {error}; mend this key.") from error
    return skeleton


def _read_parts(path: Path, content: dict, places) -> tuple[Part, ...]:
    table = content.get("parts")
    if not isinstance(table, dict) or not table:
        raise InputError(f"{path}: parts: write a mapping of the parts' names to points, side and kind.")
    parts = []
    for name, part in table.items():
        if not isinstance(part, dict) or not {"points", "kind"} <= set(part) <= {"points", "side", "kind"}:
            raise InputError(f"{path}: parts.{name}: needs the keys points and kind, and may have side.")
        if part["kind"] not in ("hand", "face", "body"):
            raise InputError(f"{path}: parts.{name}.kind: {part['kind']!r} is none of hand, face, body.")
        if part.get("side") not in (None, "left", "right"):
            raise InputError(f"{path}: parts.{name}.side: {part['side']!r} is none of left, right.")
        parts.append(Part(str(name), places(f"parts.{name}.points", part["points"]), part.get("side"), part["kind"]))
    return tuple(parts)
