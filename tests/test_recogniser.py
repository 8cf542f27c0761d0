"""From landmarks and from a video to the likeliest signs; the command."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from slr_lib import recogniser
from slr_lib.batches import collate_landmarks
from slr_lib.checkpoint import Checkpoint, save_checkpoint
from slr_lib.errors import InputError
from slr_lib.landmark_store import ClipLandmarks
from slr_lib.model import ModelConfig, build
from slr_lib.packed_clips import Statistics
from slr_lib.recogniser import Recogniser, main, newest_checkpoint
from slr_lib.skeleton import HANDS, HANDS_BY_DETECTION, HOLISTIC, Part, Skeleton, load_skeleton
from slr_lib.views import mean_logits

GLOSSES = tuple(f"жест {i}" for i in range(9))


def write(path: Path, skeleton: Skeleton, seed: int = 0, **values) -> Path:
    """A checkpoint of random weights."""
    selected = skeleton.select()[0]
    model = build(ModelConfig.for_skeleton(selected, len(GLOSSES), width=32, part_width=16, head_width=32), seed)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    count = len(selected.points)
    given = {"statistics": Statistics(np.zeros((count, 3)), np.ones((count, 3))).as_plain(),
             "clips": {"aspect": 1.0, "minimum_frames": 2, "keep_handless": False, "max_frames": 64}}
    save_checkpoint(path, Checkpoint(model.state_dict(), model.config, GLOSSES, skeleton, data_set="made_up",
                                     **{**given, **values}))
    return path


def landmarks(skeleton: Skeleton, frames: int = 20, seed: int = 0) -> ClipLandmarks:
    """Random ones, the first frame without anything."""
    points = np.random.default_rng(seed).normal(0.5, 0.1, (frames, len(skeleton.points), 3)).astype(np.float32)
    points[0] = np.nan
    return ClipLandmarks(points, np.arange(frames) / 30, {"width": 720, "height": 1280})


@pytest.mark.parametrize("skeleton", [HOLISTIC, HANDS, HANDS_BY_DETECTION], ids=lambda s: s.name)
def test_guesses_are_the_models(tmp_path, skeleton):
    loaded = Recogniser.load(write(tmp_path / "m.safetensors", skeleton))
    guesses = loaded.recognise_landmarks(landmarks(skeleton), k=3)
    batch, _ = collate_landmarks([landmarks(skeleton)], skeleton, loaded.settings, loaded.statistics, 64)
    with torch.inference_mode():
        model = loaded.checkpoint.model()
        shares = torch.softmax(model(batch.points, batch.mask, batch.frames, batch.times)[0], -1)
    best = shares.topk(3)
    assert [guess.gloss for guess in guesses] == [GLOSSES[i] for i in best.indices]
    assert [guess.share for guess in guesses] == pytest.approx(best.values.tolist(), abs=1e-6)
    both, _ = collate_landmarks([landmarks(skeleton), landmarks(skeleton, 33, 1)], skeleton, loaded.settings,
                                loaded.statistics, 64)
    together = loaded.probabilities(both)
    assert together[0] == pytest.approx(shares.numpy(), abs=1e-5)


def test_clips_of_a_depth_camera_are_seen_from_several_sides(tmp_path):
    skeleton = load_skeleton(Path(__file__).parents[1] / "data_sets" / "skeletons" / "kinect20.yaml")
    loaded = Recogniser.load(write(tmp_path / "m.safetensors", skeleton))
    batch, _ = collate_landmarks([landmarks(skeleton)], skeleton, loaded.settings, loaded.statistics, 64)
    mean, std = torch.from_numpy(loaded.statistics.mean), torch.from_numpy(loaded.statistics.std)
    views = mean_logits(loaded.engine.logits, batch, skeleton, mean, std, 64)
    wanted, plain = (torch.softmax(torch.from_numpy(x), -1).numpy() for x in (views, loaded.engine.logits(batch)))
    found = loaded.probabilities(batch)
    assert found == pytest.approx(wanted, abs=1e-6) and np.abs(found - plain).max() > 1e-3
    assert loaded.recognise_landmarks(landmarks(skeleton))[0].share == pytest.approx(found.max(), abs=1e-6)


def test_a_clip_without_anybody_is_an_input_error(tmp_path):
    loaded = Recogniser.load(write(tmp_path / "m.safetensors", HANDS))
    nothing = ClipLandmarks(np.full((9, 42, 3), np.nan, np.float32), np.arange(9) / 30, {})
    with pytest.raises(InputError, match=r"a\.mp4: no point in any of its 9 frames"):
        loaded.recognise_landmarks(nothing, name="a.mp4")


def test_points_are_found_by_name_in_a_video(tmp_path, monkeypatch):
    found = landmarks(HOLISTIC)
    monkeypatch.setattr(recogniser, "video_landmarks", lambda path: found)
    loaded = Recogniser.load(write(tmp_path / "m.safetensors", HANDS))
    hands = ClipLandmarks(found.points[:, [*range(468, 489), *range(522, 543)]], found.times, found.info)
    assert loaded.recognise_video("a.mp4") == loaded.recognise_landmarks(hands)
    joints = Skeleton("joints", ("spine", "head"), (Part("body", (0, 1), None, "body"),), (0, 1))
    with pytest.raises(InputError, match=r"m\.safetensors.*joints"):
        Recogniser.load(write(tmp_path / "m.safetensors", joints)).recognise_video("a.mp4")


def test_checkpoints_that_do_not_tell_how_clips_were_made_are_named(tmp_path):
    with pytest.raises(InputError, match=r"m\.safetensors.*train again"):
        Recogniser.load(write(tmp_path / "m.safetensors", HANDS, clips={"aspect": 1.0}))


def test_the_command_prints_the_top_five(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    assert main(["a.mp4"]) == 1
    error = capsys.readouterr().err
    assert "no checkpoint yet" in error and error.count("\n") == 1
    old = write(tmp_path / "data" / "b" / "models" / "9-0" / "base.safetensors", HANDS)
    new = write(tmp_path / "data" / "a" / "models" / "9-0" / "round_2.safetensors", HANDS)
    for place, path in enumerate((old, new)):
        os.utime(path, (place + 1, place + 1))
    assert newest_checkpoint() == new
    monkeypatch.setattr(recogniser, "video_landmarks", lambda path: landmarks(HOLISTIC))
    assert main(["a.mp4", "b.mp4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a.mp4" and lines[6] == "b.mp4" and len(lines) == 12
    assert all(any(gloss in line for gloss in GLOSSES) for line in lines[1:6])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert main(["absent.mp4"]) == 1
    assert "absent.mp4" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_video_is_recognised(tmp_path, shared):
    clips = sorted((shared / "real_clips" / "rsl").rglob("*.mp4"))
    if not clips:
        pytest.skip(f"no real clips under {shared}")
    loaded = Recogniser.load(write(tmp_path / "m.safetensors", HOLISTIC))
    first, again = loaded.recognise_video(clips[0]), loaded.recognise_video(clips[0])
    assert first == again and len(first) == 5
    assert sum(guess.share for guess in first) <= 1
