"""Ablations: each variation is what its name says, a run is one row, and a difference is paired by seed."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from made_up_sets import make_set
from synthetic_batches import batch, tiny

import ablations
from slr_lib.model import build, pairs
from slr_lib.precision import computes_bf16


@pytest.fixture
def table(project, one_thread):
    make_set(project, "tiny", clips=60)  # more training clips than the smallest batch
    return project / "reports" / "ablations.csv"


def command(*arguments: str) -> int:
    return ablations.main(["--dataset", "tiny", "--signs", "3", "--epochs", "1", *arguments])


@pytest.mark.slow
def test_every_variation_trains_and_is_another_training(table, project):
    params = project / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("learning_rate: 0.005\n", "learning_rate: 0.03\n"))  # that two steps of decay show
    assert params.read_text() != text
    assert command("--seed", "0", "--epochs", "2") == 0
    rows = ablations.read_rows(table)
    assert list(rows["variation"]) == list(ablations.VARIATIONS)
    figures = rows.set_index("variation")[["train_loss", "val_loss"]]
    same = (figures == figures.loc[ablations.RECIPE]).all(axis=1)
    always_32 = not computes_bf16("cpu")
    # a tenth of two steps is no warm-up
    assert set(same.index[same]) == {ablations.RECIPE, "no warm-up", *(["32-bit floats"] if always_32 else [])}
    assert not list(table.parents[1].glob("data/tiny/ablations/*"))


def test_a_row_is_not_computed_twice_and_the_difference_is_paired(table, monkeypatch, capsys):
    assert command("--only", ablations.RECIPE, "no depth", "--seed", "0", "1") == 0
    rows = ablations.read_rows(table)
    assert len(rows) == 4
    with monkeypatch.context() as patch:
        patch.setattr(ablations, "fit", lambda *_: pytest.fail("trained again"))
        assert command("--only", ablations.RECIPE, "no depth", "--seed", "0", "1") == 0
    by_seed = rows.pivot(index="seed", columns="variation", values="val_top1")
    expected = (by_seed["no depth"] - by_seed[ablations.RECIPE]).mean()
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| no depth"))
    assert line.split("|")[4].split()[0] == f"{expected:+.1f}"
    assert (table.parent / "ablations.md").read_text().count("\n| ") == 3  # heading, recipe, variation


def test_seeds_of_one_variation_keep_their_states_apart(table, monkeypatch):
    states = []

    def kill(model, task, settings, target, *_):
        states.append(target.with_suffix(".state"))  # as slr_lib.training does
        raise KeyboardInterrupt

    monkeypatch.setattr(ablations, "fit", kill)
    for seed in ("0", "1"):
        with pytest.raises(KeyboardInterrupt):
            command("--only", "MixUp 0.2", "--seed", seed)
    assert len(set(states)) == 2


def test_a_changed_recipe_is_compared_with_itself_alone(table, project):
    assert command("--only", ablations.RECIPE, "--seed", "0") == 0
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("label_smoothing: 0.1", "label_smoothing: 0.2"))
    assert command("--only", ablations.RECIPE, "--seed", "0") == 0
    assert len(ablations.read_rows(table)) == 2
    assert (table.parent / "ablations.md").read_text().count("## tiny") == 2


@pytest.mark.parametrize("kind", ["place", "relative", "speed", "change", "bones", "share"])
def test_silent_features_are_zero_and_no_others(kind):
    model = build(tiny())
    made = batch([8, 6])
    given = made["points"], made["mask"], made["times"]
    whole, present = model.features(*given)
    rows, still = ablations.Silent(model.features, (kind,))(*given)
    assert torch.equal(present, still)
    width = model.features.coordinates
    for part, (before, after) in enumerate(zip(whole, rows, strict=True)):
        changed = (before != after).any(1).any(0).unflatten(0, (-1, width)).any(1)
        size, bones = model.features.sizes[part], model.features.bones[part]
        first = {"place": 0, "relative": size, "speed": 2 * size, "change": 3 * size, "bones": 4 * size,
                 "share": 4 * size + bones}[kind]
        last = first + {"bones": bones, "share": 1}.get(kind, size)
        assert changed[first:last].any() == (last > first) and not changed[:first].any() and not changed[last:].any()


def test_no_run_yet():
    rows = pd.DataFrame(columns=[*ablations.KEY, *ablations.FIGURES, "parameters", "seconds"])
    assert ablations.render(rows) == "No run yet.\n"


def test_what_is_altered_no_longer_counts():
    made = batch([8, 6])
    later = {**made, "times": made["times"] * 3}
    for alter in (ablations.without_positions, ablations.without_local_pooling, ablations.without_merging):
        model = build(tiny())
        alter(model)
        model.eval()
        with torch.inference_mode():
            rows, present = model.features(made["points"], made["mask"], made["times"])
            x, frames, _ = model.encode(*pairs(rows, present, made["frames"], made["times"]))
            y = model.encode(*pairs(rows, present, made["frames"], later["times"]))[0]
            pooled = torch.randn(2, model.pooled[-3].in_features, generator=torch.Generator().manual_seed(0))
            local = pooled.clone()
            local[:, : 2 * model.config.width] += 1
            assert torch.equal(x, y) == (alter is ablations.without_positions)
            assert torch.equal(model.pooled(pooled), model.pooled(local)) == (alter is ablations.without_local_pooling)
            assert frames.shape[1] == (4 if alter is ablations.without_merging else 2)
