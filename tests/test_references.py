"""The references: masks, skeletons, sizes, first loss, and a training by the project's own code."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from conftest import PROJECT
from synthetic_batches import MadeUpClips, batch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from references import REFERENCES, build_reference
from references.gislr_first_place import KERNEL, WIDTH, CausalBlock, FirstPlace, LateDropout, change
from references.gru import TwoWayGru
from references.predecessor import Predecessor, chosen_parts, patches, segments
from slr_lib.fitting import TrainSettings
from slr_lib.losses import recognition_loss
from slr_lib.model import count_parameters
from slr_lib.skeleton import HANDS, HOLISTIC, Part, Skeleton, load_skeleton
from slr_lib.training import fit

SKELETONS = {
    "holistic": HOLISTIC.select()[0],
    "hands": HANDS,
    "kinect20": load_skeleton(PROJECT / "data_sets" / "skeletons" / "kinect20.yaml").select()[0],
    "thirteen": MadeUpClips.skeleton,
}

pytestmark = pytest.mark.usefixtures("one_thread")


def model_of(name: str, skeleton: str = "thirteen", signs: int = 7):
    model = build_reference(name, SKELETONS[skeleton], signs, steps=3)
    if name == "predecessor":  # its small first weights would hide differences
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.mul_(2)
    return model.eval()


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("skeleton", SKELETONS)
def test_padding_changes_no_logit(name, skeleton):
    points = len(SKELETONS[skeleton].points)
    lengths = [11, 4, 2]
    model, clips = model_of(name, skeleton), batch(lengths, points)
    with torch.inference_mode():
        plain = model(**clips)
        padded = model(**batch(lengths, points, padding=6))
        alone = [model(**{k: v[i : i + 1, :n] for k, v in clips.items()}) for i, n in enumerate(lengths)]
        dirty = {**clips, "points": torch.where(clips["mask"][..., None], clips["points"], 5.0)}
        torch.testing.assert_close(model(**dirty), plain, rtol=1e-4, atol=1e-4)
    assert plain.shape == (3, 7) and plain.std(0).min() > 1e-3  # clips differ
    torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat(alone), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", REFERENCES)
def test_padding_changes_no_loss_of_training_either(name):
    """Batch norm counts no padding. Dropout off: its draws differ with the shape."""
    losses = []
    for padding in (0, 5):
        model = model_of(name)
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout | torch.nn.GRU | torch.nn.MultiheadAttention):
                module.eval()
            if hasattr(module, "rate"):
                module.rate = 0.0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("references.gislr_first_place.DROP", 0.0)
            outputs = model.outputs(**batch([9, 6, 7], padding=padding))
        losses.append(recognition_loss(outputs, torch.tensor([1, 2, 5]), 0.1, 0.0, 0.3).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("name", REFERENCES)
def test_first_loss_is_about_that_of_a_uniform_guess(name):
    signs = 50
    model = build_reference(name, SKELETONS["hands"], signs, steps=3).train()
    outputs = model.outputs(**batch([20, 30, 25, 31], 42))
    loss = recognition_loss(outputs, torch.tensor([0, 7, 20, 49]), 0.1, 0.0, 0.0)
    assert loss.item() == pytest.approx(math.log(signs), abs=0.4)


@pytest.mark.parametrize("name", REFERENCES)
def test_half_precision_gives_about_the_same(name):
    model, clips = model_of(name, "hands"), batch([20, 30, 3], 42)
    with torch.inference_mode():
        plain = model(**clips)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(**clips)
    torch.testing.assert_close(rounded.float(), plain, rtol=0, atol=0.1 * plain.std().item() + 0.02)


def test_sizes_are_the_published_ones():
    holistic = SKELETONS["holistic"]
    assert sum(len(part.points) for part in chosen_parts(holistic)) == 87
    assert count_parameters(Predecessor(holistic, 1000)) == pytest.approx(30.33e6, rel=0.005)
    assert count_parameters(Predecessor(holistic, 500)) == pytest.approx(29.8e6, rel=0.005)
    names = tuple(str(i) for i in range(118))
    first_place = Skeleton("gislr", names, (Part("all", tuple(range(118)), None, "body"),), tuple(range(118)))
    assert count_parameters(FirstPlace(first_place, 250)) == pytest.approx(1.84e6, rel=0.01)


@pytest.mark.parametrize("name", REFERENCES)
def test_it_trains_by_the_projects_code_and_resumes(name, tmp_path):
    clips, saved = MadeUpClips(validation=name != "predecessor"), []

    class Killed(Exception):
        pass

    def run(target, stop=None, seed=0):
        settings = replace(TrainSettings(**REFERENCES[name].settings), epochs=6, least_steps=0, learning_rate=2e-3,
                           seed=seed, precision="32", ema=name == "gislr", ema_decay=0.8)
        if name == "predecessor":
            settings = replace(settings, epochs=2, learning_rate=3e-4)
        epochs = clips.train_batches
        watched = MadeUpClips(validation=clips.validation)

        def train_batches(epoch):
            if epoch == stop:
                raise Killed
            return epochs(epoch)

        watched.train_batches = train_batches
        model = build_reference(name, clips.skeleton, len(clips.glosses), clips.steps, seed)
        return fit(model, watched, settings, target, name, lambda t: saved.append(t), progress=False)

    whole = run(tmp_path / "whole.safetensors")
    assert saved == [whole] and whole.curves["train_loss"].iloc[-1] < whole.curves["train_loss"].iloc[0]
    assert whole.metrics["parameters"] == count_parameters(model_of(name, signs=4))
    assert not list(tmp_path.iterdir())  # `save` writes, and the state is gone
    if name == "predecessor":  # 30 M parameters: once is enough
        return
    with pytest.raises(Killed):
        run(tmp_path / "killed.safetensors", stop=2)
    again = run(tmp_path / "killed.safetensors")
    assert again.curves.equals(whole.curves)
    assert all(torch.equal(again.weights[key], value) for key, value in whole.weights.items())
    if name == "gislr":  # the averaged model follows the running means of batch norm
        assert not torch.equal(whole.weights["stem_norm.norm.running_var"], torch.ones(WIDTH))


def test_first_place_looks_back_only():
    block, frames = CausalBlock(8).eval(), torch.ones(1, 40, dtype=torch.bool)
    block.attention.forward = lambda x, frames: x  # channel attention looks at the whole clip
    x = torch.randn(1, 40, 8, requires_grad=True)
    block(x, frames)[0, 30].sum().backward()
    touched = x.grad[0].abs().sum(1).nonzero().squeeze(1).tolist()
    assert touched == list(range(30 - KERNEL + 1, 31))


def test_two_way_gru_is_that_of_packed_clips():
    ours, lengths = TwoWayGru(12), torch.tensor([9, 4, 1])
    packed = torch.nn.GRU(12, ours.ahead.hidden_size, batch_first=True, bidirectional=True)
    packed.load_state_dict({**ours.ahead.state_dict(),
                            **{f"{name}_reverse": value for name, value in ours.back.state_dict().items()}})
    x, frames = torch.randn(3, 11, 12), torch.arange(11) < lengths[:, None]
    wanted, _ = pad_packed_sequence(packed(pack_padded_sequence(x, lengths, batch_first=True))[0], batch_first=True)
    torch.testing.assert_close(ours(x, frames)[:, :9] * frames[:, :9, None], wanted)


def test_late_dropout_begins_late():
    dropout, x = LateDropout(0.5, start=2).train(), torch.ones(1000)
    assert [bool((dropout(x) == 0).any()) for _ in range(4)] == [False, False, True, True]
    assert torch.equal(dropout.eval()(x), x)


def test_differences_of_the_first_place_need_both_frames():
    x = torch.tensor([1.0, 3.0, 0.0, 4.0, 9.0]).view(1, 5, 1, 1)
    seen = torch.tensor([True, True, False, True, True]).view(1, 5, 1)
    speed, moving = change(x, seen)
    assert speed.flatten().tolist() == [0, 2, 0, 0, 5]
    assert change(speed, moving)[0].abs().sum() == 0


def test_patches_of_the_predecessor_follow_fingers():
    left = HANDS.part("left_hand")
    assert patches(left) == [[0, -1, -1, -1]] + [[i, i + 1, i + 2, i + 3] for i in range(1, 21, 4)]
    arm, _, torso = chosen_parts(SKELETONS["kinect20"])
    assert patches(arm) == [[2, -1, -1, -1], [4, 6, 8, -1]]
    assert patches(torso) == [[0, 1, 10, 11]]
    assert patches(Part("body", tuple(range(12)), None, "body"))[-1] == [8, 9, 10, 11]


def test_segments_of_the_predecessor_follow_the_clips_length():
    x = torch.tensor([1.0, 3.0, 7.0, 5.0, 100.0]).view(1, 5, 1)
    frames = torch.tensor([[True, True, True, True, False]])
    assert [segments(x, frames, count).item() for count in (1, 2, 4, 8)] == [4, 6, 7, 7]
