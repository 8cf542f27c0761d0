"""The procedural signer: its signs, its corpus on disk, its truth, and landmarks without pictures."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from slr_lib.demo import (
    NO_EVENT,
    Sign,
    demo_signs,
    draw_corpus,
    extraction_truth,
    make_signer,
    minimal_pairs,
    plan_corpus,
    synthetic_landmarks,
)
from slr_lib.demo import corpus as corpus_module
from slr_lib.demo.camera import frame_signer
from slr_lib.demo.face import face_mesh, move_face
from slr_lib.demo.figure import HAND_ANGLES, bend_arm, hand_joints
from slr_lib.demo.truth import HAND_SLICES, LEFT_HAND, POSE, RIGHT_HAND
from slr_lib.errors import InputError
from slr_lib.skeleton import HOLISTIC
from slr_lib.video import read_video

SMALL = {"signs": 1, "signers": 2, "test_signers": 1, "height": 96, "workers": 1, "progress": False}  # four clips


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    assert draw_corpus(folder, **SMALL) == 4
    return folder


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "annotations.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def truth_of(folder: Path, clip: str) -> dict[str, np.ndarray]:
    with np.load(folder / "truth" / f"{clip}.npz") as file:
        return dict(file)


# signs

@pytest.mark.parametrize(("count", "parameters"), [
    (10, {"handshape", "place", "movement", "orientation", "mouthing"}),
    (20, {"handshape", "place", "movement", "orientation", "mouthing"}),
])
def test_pairs_of_every_parameter_are_among_the_first_signs(count, parameters):
    signs = {sign.gloss: sign for sign in demo_signs(count)}
    pairs = minimal_pairs(list(signs.values()))
    assert {parameter for *_, parameter in pairs} >= parameters
    for a, b, parameter in pairs:
        same, other = vars(signs[a]), vars(signs[b])
        assert [name for name in same if same[name] != other[name]] == [parameter]


def test_glosses_are_distinct_and_the_list_only_grows():
    glosses = [sign.gloss for sign in demo_signs(1000)]
    assert len(set(glosses)) == 1000 and NO_EVENT not in glosses
    assert [sign.gloss for sign in demo_signs(37)] == glosses[:37]
    assert {sign.hands for sign in demo_signs(20)} == {"one", "mirror", "base"}


def test_an_unknown_parameter_is_refused():
    with pytest.raises(ValueError, match="'elbow' is no place"):
        Sign("flat", "elbow", "down")


# kinematics

def test_a_raised_right_palm_has_its_thumb_towards_the_middle():
    # seen by the camera, the signer's right hand is on the picture's left and the middle of the body to its right
    up, to_camera = np.float32([0, -1, 0]), np.float32([0, 0, -1])
    right = hand_joints(np.zeros(3, np.float32), up, to_camera, HAND_ANGLES["spread"], 1)
    left = hand_joints(np.zeros(3, np.float32), up, to_camera, HAND_ANGLES["spread"], -1)
    assert right.shape == (21, 3) and right[4, 0] > 0.2 > -0.1 > right[20, 0]
    np.testing.assert_allclose(left * [-1, 1, 1], right, atol=1e-6)
    assert np.linalg.norm(right[12] - right[0]) == pytest.approx(1, abs=0.05)  # the unit is wrist to middle fingertip


def test_a_fist_keeps_its_fingertips_by_the_palm():
    up, to_camera = np.float32([0, -1, 0]), np.float32([0, 0, -1])
    fist = hand_joints(np.zeros(3, np.float32), up, to_camera, HAND_ANGLES["fist"], 1)
    flat = hand_joints(np.zeros(3, np.float32), up, to_camera, HAND_ANGLES["flat"], 1)
    for tip in (8, 12, 16, 20):
        assert np.linalg.norm(fist[tip] - fist[0]) < 0.6 * np.linalg.norm(flat[tip] - flat[0])


def test_arms_keep_their_lengths_wherever_the_wrist_is_wanted():
    rng = np.random.default_rng(0)
    wanted = rng.normal(0, 2, (50, 3))
    shoulder = np.zeros((50, 3))
    elbow, wrist = bend_arm(shoulder, wanted, 1.3, 1.2, np.ones(50))
    np.testing.assert_allclose(np.linalg.norm(elbow - shoulder, axis=-1), 1.3, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(wrist - elbow, axis=-1), 1.2, atol=1e-6)


def test_the_face_is_symmetric_and_its_mouth_opens():
    points, mirror = face_mesh()
    assert (mirror[mirror] == np.arange(468)).all()
    np.testing.assert_array_equal(points[mirror] * np.float32([-1, 1, 1]), points)
    shut, wide = move_face(np.array([0.0, 1.0]), np.zeros(2), np.zeros(2))
    assert wide[14, 1] - wide[13, 1] > 0.05 > shut[14, 1] - shut[13, 1]  # the inner lips' middles


# the corpus on disk

def test_layout_reads_back(corpus):
    rows = table(corpus)
    assert list(rows[0]) == ["attachment_id", "text", "user_id", "height", "width", "length", "train", "begin", "end"]
    assert len(rows) == 4 and {row["text"] for row in rows} == {demo_signs(1)[0].gloss, NO_EVENT}
    for row in rows:
        path = corpus / ("train" if row["train"] == "True" else "test") / f"{row['attachment_id']}.mp4"
        frames = [frame for _, frame in read_video(path)]
        truth = truth_of(corpus, row["attachment_id"])
        assert len(frames) == float(row["length"]) == int(row["end"]) == len(truth["points"]) and row["begin"] == "0"
        assert 24 <= len(frames) <= 34
        assert frames[0].shape == (int(row["height"]), int(row["width"]), 3) == (*truth["size"][::-1], 3)
        assert truth["signing"].any() == (row["text"] != NO_EVENT)
    assert sum(path.suffix == ".mp4" for path in corpus.rglob("*")) == 4


def test_test_signers_are_not_in_training(corpus):
    rows = table(corpus)
    parts = [{row["user_id"] for row in rows if row["train"] == part} for part in ("True", "False")]
    assert all(parts) and not parts[0] & parts[1]
    plan = plan_corpus(signs=20, signers=8, test_signers=2, takes=1)
    assert len(plan) == 168 and len({recording.clip for recording in plan}) == 168
    assert {r.signer for r in plan if r.train} == set(range(6)) and {r.signer for r in plan if not r.train} == {6, 7}
    looks = [make_signer(number) for number in range(8)]
    assert {look.portrait for look in looks} == {look.left_handed for look in looks} == {True, False}


def test_same_seed_same_bytes_with_any_number_of_workers(corpus, tmp_path):
    draw_corpus(tmp_path, **SMALL | {"workers": 2})
    assert content(tmp_path) == content(corpus)


def test_another_seed_gives_other_pictures(corpus, tmp_path):
    draw_corpus(tmp_path, **SMALL | {"seed": 1})
    ours, theirs = ({path.read_bytes() for path in folder.rglob("*.mp4")} for folder in (corpus, tmp_path))
    assert not ours & theirs


def test_only_missing_clips_are_drawn_again(tmp_path):
    draw_corpus(tmp_path, **SMALL)
    before = content(tmp_path)
    assert draw_corpus(tmp_path, **SMALL) == 0
    for suffix in (".mp4", ".npz"):
        gone = next(path for path in sorted(tmp_path.rglob(f"*{suffix}")))
        kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4") if path.stem != gone.stem}
        gone.unlink()
        (gone.parent / f".{gone.name}.123.part").write_bytes(b"half")  # as a killed process leaves it
        assert draw_corpus(tmp_path, **SMALL) == 1
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert content(tmp_path) == before


def test_a_smaller_corpus_or_another_height_leaves_no_strays(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "note.txt").write_text("mine", encoding="utf-8")
    draw_corpus(tmp_path, **SMALL)
    assert draw_corpus(tmp_path, **SMALL | {"height": 64}) == 4
    assert {row["height"] for row in table(tmp_path)} == {"64"}
    draw_corpus(tmp_path, **SMALL | {"height": 64, "signers": 3})
    assert draw_corpus(tmp_path, **SMALL | {"height": 64, "signers": 3, "takes": 2}) == 6
    assert draw_corpus(tmp_path, **SMALL | {"height": 64, "signers": 3}) == 0
    assert len(list(tmp_path.rglob("*.mp4"))) == len(list(tmp_path.rglob("*.npz"))) == 6
    assert (tmp_path / "train" / "note.txt").exists()


def test_clips_are_drawn_again_when_the_code_of_any_drawing_module_changes():
    folder = Path(corpus_module.__file__).parent
    met, ahead = set(), ["corpus"]
    while ahead:
        name = ahead.pop()
        met.add(name)
        code = (folder / f"{name}.py").read_text(encoding="utf-8")
        ahead += set(re.findall(r"^from slr_lib\.demo\.(\w+) import", code, re.M)) - met
    assert met == set(corpus_module._DRAWING)


def test_somebody_elses_corpus_is_left_alone(tmp_path):
    (tmp_path / "annotations.csv").write_text("attachment_id\n", encoding="utf-8")
    with pytest.raises(InputError, match="not the demo's"):
        draw_corpus(tmp_path, **SMALL)
    assert (tmp_path / "annotations.csv").read_text(encoding="utf-8") == "attachment_id\n"


@pytest.mark.parametrize(("argument", "value"), [
    ("signs", 0), ("test_signers", 0), ("test_signers", 2), ("takes", 0), ("height", 97), ("fps", 0.0),
])
def test_arguments_out_of_range_are_named(tmp_path, argument, value):
    with pytest.raises(InputError, match=argument):
        draw_corpus(tmp_path, **SMALL | {argument: value})


# truth

def test_the_truth_is_in_holistics_order(corpus):
    row = next(row for row in table(corpus) if row["text"] != NO_EVENT)
    points = truth_of(corpus, row["attachment_id"])["points"]
    parts = {part.name: list(part.points) for part in HOLISTIC.parts}
    assert points.shape[1:] == (len(HOLISTIC.points), 3) == (543, 3) and points.dtype == np.float32
    assert parts["left_hand"] == list(range(468, 489)) and parts["right_hand"] == list(range(522, 543))
    face, pose = points[:, :468], points[:, POSE]
    # the signer faces the camera: her left is the picture's right
    assert (pose[:, 11, 0] > pose[:, 12, 0]).all() and (face[:, 263, 0] > face[:, 33, 0]).all()
    np.testing.assert_array_equal(pose[:, 0, :2], face[:, 1, :2])    # the nose
    assert (face[:, 10, 1] < face[:, 1, 1]).all() and (face[:, 1, 1] < face[:, 152, 1]).all()
    for hand, wrist in ((LEFT_HAND, 15), (RIGHT_HAND, 16)):
        seen = ~np.isnan(points[:, hand.start, 0]) & ~np.isnan(pose[:, wrist, 0])
        np.testing.assert_array_equal(points[seen, hand.start, :2], pose[seen, wrist, :2])
        assert np.abs(points[~np.isnan(points[:, hand.start, 2]), hand.start, 2]).max(initial=0) < 1e-6
        assert seen.any() or hand == LEFT_HAND
    assert np.isnan(pose[:, 25:, 0]).all()                           # knees and feet are below the picture


def test_mirrored_mirror_pairs_of_the_skeleton_agree_with_the_figure(corpus):
    points = truth_of(corpus, table(corpus)[0]["attachment_id"])["points"]
    face = points[:, :468]
    mirrored = face[:, list(HOLISTIC.mirror[:468])] * np.float32([-1, 1, 1])
    gap = (mirrored - face)[..., :2] - (mirrored - face)[..., :2].mean(1, keepdims=True)
    assert np.abs(gap).max() < 0.02  # but for the head's roll


def test_an_extraction_is_measured_against_the_truth(corpus):
    row = next(row for row in table(corpus) if row["text"] != NO_EVENT)
    truth = truth_of(corpus, row["attachment_id"])
    perfect = extraction_truth(truth["points"], truth)
    assert (perfect["signing_hand_found"], perfect["hand_error"], perfect["swapped"]) == (1.0, 0.0, 0.0)
    swapped = truth["points"].copy()
    swapped[:, LEFT_HAND], swapped[:, RIGHT_HAND] = truth["points"][:, RIGHT_HAND], truth["points"][:, LEFT_HAND]
    assert extraction_truth(swapped, truth)["signing_hand_found"] == 1.0
    assert extraction_truth(swapped, truth)["swapped"] == 1.0
    signing = HAND_SLICES[int(truth["signing_hand"])]
    lost = truth["points"].copy()
    stroke = np.flatnonzero(truth["signing"])
    lost[stroke[:len(stroke) // 2], signing] = np.nan
    assert extraction_truth(lost, truth)["signing_hand_found"] == pytest.approx(1 - len(stroke) // 2 / len(stroke))
    shifted = truth["points"] + np.float32([0.25 * truth["hand_length"] / truth["size"][0], 0, 0])
    assert extraction_truth(shifted, truth)["hand_error"] == pytest.approx(0.25, abs=1e-4)
    away = truth["points"] + np.float32([0, 3.0 * truth["hand_length"] / truth["size"][1], 0])
    assert extraction_truth(away, truth)["signing_hand_found"] == 0.0
    with pytest.raises(ValueError, match="frames"):
        extraction_truth(truth["points"][1:], truth)


# landmarks without pictures

@pytest.mark.parametrize("frames", [8, 50, 120])
def test_synthetic_landmarks_look_like_an_extraction(frames):
    signer, sign = make_signer(3), demo_signs(7)[6]
    points = synthetic_landmarks(frames, 5, sign, signer)
    assert points.shape == (frames, 543, 3) and points.dtype == np.float32
    np.testing.assert_array_equal(points, synthetic_landmarks(frames, 5, sign, signer))
    assert not np.array_equal(points, synthetic_landmarks(frames, 6, sign, signer), equal_nan=True)
    lost = np.isnan(points[..., 0])
    assert not lost[:, :468].any() and not lost[:, POSE].any()
    for hand in HAND_SLICES:  # a hand is found whole or not at all
        assert (lost[:, hand].all(1) == lost[:, hand].any(1)).all()


def test_synthetic_landmarks_of_no_event_and_hands_lost_at_rest():
    lost = []
    for seed in range(20):
        points = synthetic_landmarks(40, seed, None if seed % 2 else demo_signs(1)[0], make_signer(seed))
        lost.append(np.isnan(points[:, [468, 522], 0]))
    assert 0.05 < np.mean(lost) < 0.8


def test_the_camera_keeps_upright_and_in_the_middle():
    camera = frame_signer(make_signer(0), 256)
    assert camera.height == 256 and camera.width in (192, 340)
    centre, above = camera.project(np.float32([[0, 0, 0], [0, -1, 0]]))
    assert above[1] < centre[1] and abs(centre[0] - camera.width / 2) < 0.15 * camera.width
