"""Pretraining: nothing that is tested is trained on, a set has its own head, training goes on from the file."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_sets import make_set
from synthetic_batches import Batch, batch, tiny

from slr_lib import pretraining, training
from slr_lib.annotations import list_clips
from slr_lib.augment import AugmentSettings, augmentation
from slr_lib.checkpoint import load_checkpoint
from slr_lib.curves import curve_files
from slr_lib.data_sets import load_data_set
from slr_lib.errors import InputError
from slr_lib.fitting import Fitting, TrainSettings
from slr_lib.index import accepted, write_index
from slr_lib.joint_clips import FoldOf, JointClips, clips_of, withheld
from slr_lib.masked_modelling import (
    HIDE_ALL,
    HIDE_PART,
    STRETCH,
    MaskedFitting,
    MaskedModel,
    coordinate_loss,
    draw_hidden,
    part_members,
)
from slr_lib.model import build
from slr_lib.packed_clips import PackedClips, Statistics
from slr_lib.parts import write_parts
from slr_lib.pretraining import MASKED, SIGNS, JointFitting, check_start, pretrain
from slr_lib.signs import choose_signs, count_clips, needed_clips, write_signs
from slr_lib.tasks import Task
from slr_lib.training import train

SETTINGS = TrainSettings(epochs=3, batch_size=8, learning_rate=2e-3, precision="32")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def two(project):
    """Two sets of hands, of 18 and 9 training clips."""
    return [FoldOf(make_set(project, "large", clips=30)), FoldOf(make_set(project, "small", clips=15, seed=1))]


def trained_on(clips: JointClips) -> list[str]:
    """Ids of all clips of an epoch's batches."""
    return [clip for batches in clips._batches for clip in batches.packed.table["clip"].iloc[batches.rows]]


def prepared_table(name: str):
    """A real landmark set's own table, prepared with landmarks that are all zero."""
    data_set = load_data_set(name)
    listed = list_clips(data_set)
    signs = choose_signs(listed, data_set)
    needed = needed_clips(listed, signs, data_set)
    needed.attrs["table"] = listed.attrs["table"]
    index = accepted(needed, data_set)
    write_index(index.assign(path="", begin="", end="", frames=""), data_set)
    write_signs(count_clips(needed, signs[: max(data_set.class_counts)], data_set), data_set)
    count = len(index)
    data_set.clips.mkdir(parents=True)
    np.save(data_set.clips / "points.npy", np.zeros((count, 42, 3), np.float16))
    np.save(data_set.clips / "mask.npy", np.ones((count, 42), bool))
    np.save(data_set.clips / "times.npy", np.zeros(count, np.float32))
    table = index[["clip", "gloss", "signer", "split", "duplicates"]]
    table = table.assign(first=range(count), frames=1, source_frames=1, damaged=0)
    table.to_csv(data_set.clips / "clips.csv", index=False)
    write_parts(data_set, PackedClips(data_set.clips), 0.15, 0)
    return FoldOf(data_set)


def test_of_wlasl1000_the_clips_that_repeat_no_test_clip_are_left(project, shared, monkeypatch):
    path = shared / "wlasl_hands" / "index.csv"
    if not path.is_file():
        pytest.skip(f"{path} is absent; set SLR_SHARED to the folder of real data")
    monkeypatch.setenv("SLR_SHARED", str(shared.parent))
    clips = JointClips([prepared_table("wlasl1000_hands")], [prepared_table("wlasl_hands")])
    assert clips.counts == [4807] and clips.left_out == {"wlasl1000_hands": 5001 - 124 - 4807}
    assert len(clips.glosses) == 1000
    table = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("video_id")
    chosen = table.loc[trained_on(clips)]
    tested = table[table["split"].isin(["val", "test"])]
    assert chosen.index.is_unique and set(chosen["split"]) == {"train"} and not set(chosen.index) & set(tested.index)
    assert not set(chosen["dup_group"]) & set(tested["dup_group"]) - {""}


def test_copies_of_tested_clips_are_held_back_in_every_set(project):
    # target: 009 is a validation clip, 012 a test clip; 000, 001 and 002 are trained on
    target = FoldOf(make_set(project, "target", clips=15, duplicates={12: "g", 0: "g", 1: "h"}))
    other = FoldOf(make_set(
        project, "other", clips=15,
        clip={3: "target 009", 4: "target 000", 5: "target 001"},  # the same videos, but trained on here
        duplicates={4: "k", 6: "k",  # a copy of a copy: target 000 repeats a test clip, other 006 repeats target 000
                    7: "g", 8: "h"},  # the groups of another source, which mean nothing here
    ))
    held = withheld([other, target])
    assert {"target 009", "target 000", "other 006"} <= held
    assert not held & {"target 001", "other 000", "other 007", "other 008"}
    clips = JointClips([other], [target])
    assert not set(trained_on(clips)) & held
    assert clips.counts == [6] and clips.left_out == {"other": 3}
    assert set(trained_on(JointClips([other, target]))) & set(trained_on(JointClips([target]))) == {
        "target 001", "target 002", *(f"target {number:03}" for number in range(3, 9))}


def test_batches_of_sets_alternate_and_bring_every_clip_once(two):
    clips = JointClips(two, batch_size=3)
    assert clips.counts == [18, 9] and clips.ranges == [(0, 3), (3, 6)]
    assert clips.glosses == ("large sign 0", "large sign 1", "large sign 2",
                             "small: small sign 0", "small: small sign 1", "small: small sign 2")
    for epoch in (0, 1):
        labels = [batch.labels for batch in clips.train_batches(epoch)]
        assert len(labels) == len(clips.train_batches(epoch)) == 9
        sets = [set((label // 3).tolist()) for label in labels]
        assert all(len(one) == 1 for one in sets)
        assert [min(one) for one in sets] == [0, 1, 0, 0, 1, 0, 0, 1, 0]
        assert torch.bincount(torch.cat(labels)).tolist() == [6, 6, 6, 3, 3, 3]


def test_statistics_are_those_of_all_clips_together(two):
    clips = JointClips(two)
    frames = []
    for batches in clips._batches:
        for row in batches.rows:
            clip = batches.packed.clip(row)
            frames += list(zip(clip.points, clip.mask, strict=True))
    seen = np.concatenate([points[:21][mask[:21]] for points, mask in frames])
    mean, std = (np.array(clips.statistics[name]) for name in ("mean", "std"))
    assert mean[:21] == pytest.approx(np.tile(seen.mean(0), (21, 1)), abs=1e-4)
    spread = np.sqrt(seen[:, :2].var(0).mean())
    assert std[0, :2] == pytest.approx([spread, spread], rel=1e-3)


def test_hands_of_a_holistic_set_are_clips_of_hands(project):
    hands = FoldOf(make_set(project, "hands", clips=15))
    whole = FoldOf(make_set(project, "whole", skeleton="holistic", clips=15))
    clips = JointClips([whole], [hands])
    assert clips.skeleton.points == JointClips([hands]).skeleton.points and len(clips.source_skeleton.points) == 42
    narrow, wide = PackedClips(hands.data_set.clips), clips._batches[0].packed
    assert wide.folder != whole.data_set.clips
    for row in (0, 7):
        for array in ("points", "mask", "times"):
            assert np.array_equal(getattr(narrow.clip(row), array), getattr(wide.clip(row), array))
    written = (wide.folder / "points.npy").stat().st_mtime_ns
    assert (clips_of(whole.data_set, clips.skeleton).folder / "points.npy").stat().st_mtime_ns == written


def test_another_skeleton_is_refused_in_one_sentence(project, capsys):
    make_set(project, "hands", clips=15)
    make_set(project, "body", skeleton="data_sets/skeletons/kinect20.yaml", clips=15)
    arguments = ["--dataset", "body", "--for", "hands", "--output", "data/out.safetensors"]
    assert pretraining.main(arguments) == 1
    said = capsys.readouterr().err.strip()
    assert "data set body" in said and "left_hand_wrist" in said and "\n" not in said


def test_a_set_whose_every_clip_is_held_back_is_refused(project):
    target = FoldOf(make_set(project, "target", clips=15))
    other = FoldOf(make_set(project, "other", clips=15, clip={number: f"target {9 + number % 6:03}" if number < 6
                                                            else f"held {number}" for number in range(15)},
                            duplicates={number: "same" for number in range(9)}))
    with pytest.raises(InputError, match="no training clip is left"):
        JointClips([other], [target])


def test_a_set_is_judged_by_its_own_head_alone():
    """The loss of a set's batch is that of a model which knows this set's signs and no others."""
    model = build(tiny(7), 0).eval()
    torch.nn.init.normal_(model.head.weight)
    ranges = [(0, 4), (4, 7)]
    settings = replace(SETTINGS, label_smoothing=0.1)
    joint = JointFitting(model, settings, steps=1, ranges=ranges)
    for first, last in ranges:
        alone = build(tiny(last - first), 0).eval()
        weights = {name: value[first:last] if name.startswith(("head.", "auxiliary_heads.")) else value
                   for name, value in model.state_dict().items()}
        alone.load_state_dict(weights)
        labels = torch.tensor([0, 1, 2, 1]) + first
        made = Batch(labels=labels, **batch([9, 7, 8, 5]))
        mine = joint.loss(made)
        theirs = Fitting(alone, settings, steps=1).loss(made._replace(labels=labels - first))
        assert mine.item() == pytest.approx(theirs.item(), rel=1e-5)
    mine.backward()
    assert model.head.weight.grad[:4].abs().sum() == 0 and model.head.weight.grad[4:].abs().sum() > 0


@pytest.mark.parametrize("objective", [SIGNS, MASKED])
def test_pretrained_weights_are_carried_into_a_task(two, project, objective):
    first = project / "data" / "pretrained.safetensors"
    trained, clips = pretrain(two, [two[1]], first, replace(SETTINGS, epochs=16), None, objective, progress=False)
    losses = trained.curves["train_loss"]
    assert losses.iloc[-1] < 0.9 * losses.iloc[0]
    assert trained.metrics["picked_by"] == "last epoch" and trained.metrics["epoch"] == 15
    start = check_start(first, two[1].data_set, "0")
    assert start.glosses == (clips.glosses[:3] if objective == SIGNS else ("",))
    assert start.statistics == clips.statistics and start.training["sets"] == {"large": 18, "small": 9}

    data_set = two[0].data_set if objective == SIGNS else two[1].data_set
    task = Task(data_set, 3, batch_size=8, statistics=start.statistics)
    after = train(task, replace(SETTINGS, epochs=1, learning_rate=1e-9), project / "data" / "tuned.safetensors",
                  start=first, progress=False)
    assert after.metrics["carried_signs"] == (3 if objective == SIGNS else 0)
    tuned = load_checkpoint(project / "data" / "tuned.safetensors")
    assert tuned.statistics == clips.statistics and len(tuned.training["start_sha256"]) == 64
    fresh = build(tuned.config, SETTINGS.seed).state_dict()
    for name in ("join.weight", "last_norm.weight"):
        assert torch.allclose(tuned.weights[name], start.weights[name], atol=1e-6), name
        assert not torch.allclose(tuned.weights[name], fresh[name], atol=1e-3), name
    if objective == SIGNS:  # of three signs that far apart
        assert after.metrics["val_top1"] > 80
    else:  # masked modelling teaches the body alone
        assert torch.allclose(tuned.weights["head.weight"], fresh["head.weight"], atol=1e-6)


@pytest.mark.parametrize("objective", [SIGNS, MASKED])
def test_a_run_broken_off_goes_on_to_the_same_bytes(two, project, objective):
    whole, broken = project / "data" / "whole.safetensors", project / "data" / "broken.safetensors"
    arguments = (SETTINGS, augmentation("strong"), objective)
    pretrain(two, [], whole, *arguments, progress=False)

    class Cut(JointClips):
        def train_batches(self, epoch):
            if epoch == 2:
                raise KeyboardInterrupt
            return super().train_batches(epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "JointClips", Cut)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            pretrain(two, [], broken, *arguments, progress=False)
    assert (project / "data" / "broken.state" / training.STATE).is_file() and not broken.exists()
    epochs = []

    class Watched(JointClips):
        def train_batches(self, epoch):
            epochs.append(epoch)
            return super().train_batches(epoch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "JointClips", Watched)
        pretrain(two, [], broken, *arguments, progress=False)
    assert epochs == [0, 2]  # the first call asks for the number of steps alone
    assert broken.read_bytes() == whole.read_bytes()


def test_a_start_must_have_held_out_what_it_will_be_tested_on(two, project):
    third = make_set(project, "third", clips=15, split="stratified")
    file = project / "data" / "for_small.safetensors"
    settings = replace(SETTINGS, epochs=1)
    pretrain([two[0]], [two[1], FoldOf(third, "1")], file, settings, progress=False)
    for data_set, fold in ((two[0].data_set, "0"), (two[1].data_set, "0"), (third, "1")):
        assert check_start(file, data_set, fold).data_set == "large"
    with pytest.raises(InputError, match="not pretrained for third, fold 0"):
        check_start(file, third, "0")
    make_set(project, "small", clips=15, seed=1, clip={14: "another test clip"})
    with pytest.raises(InputError, match="not pretrained for small, fold 0, as it is split now"):
        check_start(file, two[1].data_set, "0")

    plain = project / "data" / "plain.safetensors"
    train(Task(two[0].data_set, 3, batch_size=8), settings, plain, progress=False)
    assert check_start(plain, two[0].data_set, "0").glosses == JointClips(two[:1]).glosses
    with pytest.raises(InputError, match="nothing tells"):
        check_start(plain, third, "0")


def test_the_command_says_what_it_did(two, project, capsys):
    arguments = ["--dataset", "large", "small", "--for", "small", "--output", "data/a/b.safetensors", "--epochs", "1"]
    assert pretraining.main(arguments) == 0
    said = capsys.readouterr().out
    assert "large 18 clips (0 left out), small 9 clips (0 left out); 1 epochs" in said
    assert load_checkpoint("data/a/b.safetensors").glosses == JointClips(two[:1]).glosses
    assert len(pd.read_csv(curve_files(project / "reports" / "pretrained" / "b")["train_loss"], sep="\t")) == 1
    file = project / "data" / "a" / "b.safetensors"
    written = file.stat().st_mtime_ns
    assert pretraining.main(arguments) == 0
    assert "b.safetensors: there already" in capsys.readouterr().out
    assert file.stat().st_mtime_ns == written
    assert pretraining.main([*arguments, "--seed", "1"]) == 0
    assert "large 18 clips (0 left out), small 9 clips (0 left out); 1 epochs" in capsys.readouterr().out
    assert pretraining.main([*arguments, "--dataset", "large"]) == 1
    assert "large is named twice" in capsys.readouterr().err


def test_what_is_hidden_comes_in_stretches_of_all_or_of_a_part():
    torch.manual_seed(0)
    frames = torch.ones(400, 60, dtype=torch.bool)
    frames[:, 50:] = False
    members = part_members(tiny())
    hidden = draw_hidden(frames, members)
    assert not hidden[:, 50:].any()
    by_part = torch.stack([hidden[:, :50, part].any(2) for part in members], 2)
    assert torch.equal(by_part, torch.stack([hidden[:, :50, part].all(2) for part in members], 2))
    assert by_part.float().mean().item() == pytest.approx(1 - (1 - HIDE_ALL) * (1 - HIDE_PART), abs=0.02)
    changes = (by_part[:, 1:] != by_part[:, :-1]).any(2)
    assert changes.any(0).all()  # a stretch may begin anywhere, but
    gaps = [np.diff(np.flatnonzero(row)) for row in changes.numpy()]
    assert all((gap % STRETCH == 0).all() for gap in gaps)
    alone = torch.ones_like(members[:1])
    assert draw_hidden(frames, alone)[:, :50].float().mean().item() == pytest.approx(HIDE_ALL, abs=0.02)


def test_only_hidden_points_count_and_they_do_not_show():
    config = tiny(1, dropout=0.0, drop_path=0.0, head_dropout=0.0)
    fitting = MaskedFitting(MaskedModel(config), SETTINGS, steps=1).eval()
    made = Batch(labels=torch.zeros(4, dtype=torch.long), **batch([16, 12, 9, 16]))
    caught = {}

    def keep(module, inputs, output):
        caught.setdefault("seen", []).append(inputs[1])
        caught.setdefault("predicted", []).append(output)

    fitting.model.register_forward_hook(keep)
    torch.manual_seed(3)
    loss = fitting.loss(made)
    hidden = made.mask & ~caught["seen"][0]
    assert hidden.any() and (caught["seen"][0] & ~made.mask).sum() == 0
    other = torch.where(hidden[..., None], torch.randn_like(made.points), made.points)
    torch.manual_seed(3)
    fitting.loss(made._replace(points=other))
    assert torch.equal(*caught["predicted"])
    predicted = caught["predicted"][0]
    error = torch.nn.functional.smooth_l1_loss(predicted, made.points, reduction="none")
    assert loss.item() == pytest.approx(error[hidden].mean().item(), rel=1e-5)
    assert coordinate_loss(predicted, made.points, torch.zeros_like(hidden)).item() == 0


def test_masked_modelling_keeps_the_recognisers_start():
    """Before the first step its body is that of a fresh recogniser; measuring its rate has drawn and left nothing."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    model = MaskedModel(tiny(), seed=2)
    assert torch.equal(torch.get_rng_state(), before) and model.body.training
    assert not model.body.last_norm._forward_hooks
    fresh = build(tiny(), 2).state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in model.body.state_dict().items())
    assert model(**{**batch([64, 40])}).shape == (2, 64, 13, 3)


def test_unlabelled_clips_are_neither_hidden_nor_exchanged_by_the_augmentation(two, project):
    with pytest.MonkeyPatch.context() as patch:
        caught = []
        patch.setattr(pretraining, "JointClips", lambda *_, **named: caught.append(named) or 1 / 0)
        for objective in (SIGNS, MASKED):
            with pytest.raises(ZeroDivisionError):
                pretrain(two, [], project / "out", SETTINGS, augmentation("strong"), objective)
    signs, masked = (named["augmented"] for named in caught)
    assert signs == augmentation("strong")
    assert masked == replace(signs, hide_time=0.0, hide_part=0.0, exchange=0.0) != AugmentSettings()


def test_own_statistics_are_the_default(two):
    own = Task(two[0].data_set, 3)
    given = Task(two[0].data_set, 3, statistics=JointClips(two).statistics)
    assert own.statistics != given.statistics and own.fingerprint != given.fingerprint
    made, moved = (next(iter(task.val_batches())) for task in (own, given))
    a, b = Statistics.from_plain(own.statistics), Statistics.from_plain(given.statistics)
    back = torch.from_numpy(a.mean) + made.points * torch.from_numpy(a.std)
    expected = ((back - torch.from_numpy(b.mean)) / torch.from_numpy(b.std)) * made.mask[..., None]
    assert torch.allclose(moved.points, expected, atol=1e-4)
    assert math.isfinite(expected.sum().item())
