"""Skeletons: names, parts, mirror tables, and the YAML that describes others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slr_lib.errors import InputError
from slr_lib.skeleton import HANDS, HANDS_BY_DETECTION, HOLISTIC, Part, Skeleton, load_skeleton

KINECT = """
points: [Head, Neck, ShoulderL, ShoulderR, ElbowL, ElbowR]
parts: {body: {points: [Head, Neck, ShoulderL, ShoulderR, ElbowL, ElbowR], kind: body}}
mirror: [[ShoulderL, ShoulderR], [ElbowL, ElbowR]]
edges: [[Head, Neck], [ShoulderL, ElbowL], [ShoulderR, ElbowR]]
origin: [ShoulderL, ShoulderR]
unit: [ShoulderL, ShoulderR]
"""
PAIR = """
points: [a, b, face]
parts: {left: {points: [a], side: left, kind: hand}, right: {points: [b], side: right, kind: hand},
        face: {points: [face], kind: face}}
mirror: [[a, b]]
slots_by_detection: true
"""


def test_holistic_is_in_the_order_of_gislr():
    assert len(HOLISTIC.points) == 543
    assert HOLISTIC.part("left_hand").points == tuple(range(468, 489))
    assert HOLISTIC.part("pose").points == tuple(range(489, 522))
    assert HOLISTIC.part("right_hand").points == tuple(range(522, 543))
    assert sorted(point for part in HOLISTIC.parts for point in part.points) == list(range(543))


def test_names_and_bones_are_mediapipes():
    solutions = pytest.importorskip("mediapipe").solutions
    for part, points in (("left_hand", solutions.hands.HandLandmark), ("right_hand", solutions.hands.HandLandmark),
                         ("pose", solutions.pose.PoseLandmark)):
        names = [HOLISTIC.points[point] for point in HOLISTIC.part(part).points]
        assert names == [f"{part}_{point.name.lower().replace('finger_', '')}" for point in points]
    bones = {frozenset(edge) for edge in HOLISTIC.edges}
    for first, connections in ((468, solutions.hands.HAND_CONNECTIONS), (489, solutions.pose.POSE_CONNECTIONS),
                               (522, solutions.hands.HAND_CONNECTIONS), (0, solutions.face_mesh.FACEMESH_LIPS)):
        assert {frozenset((first + a, first + b)) for a, b in connections} <= bones
    assert {point for edge in solutions.face_mesh.FACEMESH_LIPS for point in edge} == set(HOLISTIC.part("lips").points)


def test_face_mirror_maps_mediapipes_outlines_onto_each_other():
    mesh = pytest.importorskip("mediapipe").solutions.face_mesh_connections

    def edges(name, mirrored=False):
        return {frozenset(HOLISTIC.mirror[p] if mirrored else p for p in edge)
                for edge in getattr(mesh, f"FACEMESH_{name}")}

    for name, twin in (("LIPS", "LIPS"), ("LEFT_EYE", "RIGHT_EYE"), ("LEFT_EYEBROW", "RIGHT_EYEBROW"),
                       ("FACE_OVAL", "FACE_OVAL"), ("NOSE", "NOSE")):
        assert edges(name, mirrored=True) == edges(twin)
    # of the mesh's 1322 edges the diagonals of three quadrangles run unlike on the two sides; all others must fit
    assert len(edges("TESSELATION", mirrored=True) - edges("TESSELATION")) == 6


@pytest.mark.parametrize(("name", "twin"), [
    ("face_61", "face_291"), ("face_13", "face_13"), ("face_33", "face_263"), ("face_70", "face_300"),
    ("face_107", "face_336"), ("face_78", "face_308"), ("pose_left_wrist", "pose_right_wrist"),
    ("pose_mouth_left", "pose_mouth_right"), ("left_hand_pinky_tip", "right_hand_pinky_tip"),
    ("pose_nose", "pose_nose"),
])
def test_mirror_of_known_points(name, twin):
    assert HOLISTIC.points[HOLISTIC.mirror[HOLISTIC.index(name)]] == twin


@pytest.mark.parametrize("skeleton", [HOLISTIC, HANDS, HANDS_BY_DETECTION, HOLISTIC.select()[0]])
def test_mirror_is_an_involution_that_swaps_sides(skeleton):
    assert [skeleton.mirror[m] for m in skeleton.mirror] == list(range(len(skeleton.points)))
    left, right = (next(part for part in skeleton.parts if part.side == side) for side in ("left", "right"))
    assert [skeleton.mirror[point] for point in left.points] == list(right.points)
    edges = {frozenset(edge) for edge in skeleton.edges}
    assert {frozenset(skeleton.mirror[p] for p in edge) for edge in edges} == edges


def test_selection_of_the_recogniser():
    skeleton, indices = HOLISTIC.select()
    assert skeleton.points == tuple(HOLISTIC.points[i] for i in indices)
    assert {part.name: len(part.points) for part in skeleton.parts} == {
        "lips": 40, "face": 15, "left_hand": 21, "pose": 11, "right_hand": 21}
    assert [skeleton.points[i] for i in skeleton.origin] == ["pose_left_shoulder", "pose_right_shoulder"]
    assert HANDS.select()[0].points == HANDS.points


@given(st.sets(st.integers(0, 542), min_size=1, max_size=40))
def test_any_selection_closed_under_mirror_keeps_names_mirror_and_edges(points):
    chosen = sorted(points | {HOLISTIC.mirror[point] for point in points})
    skeleton, indices = HOLISTIC.select(chosen)
    assert list(indices) == chosen
    for new, old in enumerate(chosen):
        assert skeleton.points[skeleton.mirror[new]] == HOLISTIC.points[HOLISTIC.mirror[old]]
    names = {frozenset(HOLISTIC.points[p] for p in edge) for edge in HOLISTIC.edges if set(edge) <= set(chosen)}
    assert {frozenset(skeleton.points[p] for p in edge) for edge in skeleton.edges} == names


def test_selection_without_the_counterpart_is_refused():
    with pytest.raises(ValueError, match=r"face_61 .* without its mirror"):
        HOLISTIC.select(["face_61"])


@pytest.mark.parametrize("change", [
    {"mirror": (1, 2, 0)}, {"points": ("a", "a", "c")}, {"edges": ((0, 3),)},
    {"parts": (Part("x", (0, 1), None, "body"), Part("y", (1, 2), None, "body"))}, {"slots_by_detection": True},
])
def test_inconsistent_skeletons_are_refused(change):
    sound = {"name": "s", "points": ("a", "b", "c"), "mirror": (1, 0, 2),
             "parts": (Part("x", (0, 1, 2), None, "body"),)}
    Skeleton(**sound)
    with pytest.raises(ValueError):
        Skeleton(**{**sound, **change})


def test_yaml_of_a_body(tmp_path):
    path = tmp_path / "kinect.yaml"
    path.write_text(KINECT)
    skeleton = load_skeleton(path)
    assert skeleton.name == "kinect" and skeleton.mirror == (0, 1, 3, 2, 5, 4) and skeleton.unit == (2, 3)
    assert skeleton.parts == (Part("body", (0, 1, 2, 3, 4, 5), None, "body"),) and not skeleton.depth_by_part


def test_yaml_of_two_slots_and_a_face(tmp_path):
    path = tmp_path / "pair.yaml"
    path.write_text(PAIR)
    skeleton = load_skeleton(str(path))
    assert skeleton.slots_by_detection and [part.side for part in skeleton.hands] == ["left", "right"]


@pytest.mark.parametrize(("old", "new", "key"), [
    ("ElbowL, ElbowR]]", "ElbowL, Knee]]", "mirror"), ("kind: body", "kind: tail", "parts.body.kind"),
    ("unit: [ShoulderL, ShoulderR]", "unit: [ShoulderL]", "unit"), ("edges:", "bones:", "bones"),
    ("points: [Head,", "points: [1,", "points"), ("[ElbowL, ElbowR]]", "[ElbowL, ShoulderR]]", "mirror"),
    ("origin: [ShoulderL, ShoulderR]", "origin: Neck", "origin"), ("kind: body", "size: 3", "parts.body"),
    ("mirror:", "selection: [ElbowL]\nmirror:", "selection"), ("mirror:", "slots_by_detection: 3\nmirror:", "slots"),
])
def test_faults_of_the_yaml_name_file_and_key(tmp_path, old, new, key):
    path = tmp_path / "kinect.yaml"
    assert old in KINECT
    path.write_text(KINECT.replace(old, new, 1))
    with pytest.raises(InputError, match=rf"kinect\.yaml: .*{key}"):
        load_skeleton(path)


def test_unknown_skeletons_and_files_that_are_no_skeletons(tmp_path):
    with pytest.raises(InputError, match="no such skeleton; choose one of holistic, hands"):
        load_skeleton("octopus")
    for text in ("[1", "", "- a"):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(InputError, match=r"bad\.yaml"):
            load_skeleton(tmp_path / "bad.yaml")
