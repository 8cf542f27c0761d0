"""The comparison of models: one task for all, one row a run, nothing twice; the table says what was counted."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT
from made_up_sets import make_set
from safetensors.torch import load_file, save_file

import compare_models
from model_table import COLUMNS, interval, read_table, render
from slr_lib import pretraining
from slr_lib.checkpoint import load_checkpoint
from slr_lib.fitting import enough_epochs
from slr_lib.onnx_export import export_onnx
from slr_lib.views import Views

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tiny(project):
    """A data set of 3 signs, 18 training, 6 validation and 6 test clips."""
    return make_set(project, "tiny")


def command(*arguments: str) -> int:
    return compare_models.main(["--dataset", "tiny", "--signs", "3", "--epochs", "2", *arguments])


def test_a_run_is_one_row_and_is_not_run_twice(tiny, capsys):
    table = tiny.data.parents[1] / "reports" / "models.csv"
    assert command("--model", "gru") == 0
    first = read_table(table)
    assert tuple(first.columns) == COLUMNS and len(first) == 1
    assert first.loc[0, "val_clips"] == 6 and np.isnan(first.loc[0, "test_clips"])
    assert first.loc[0, "train_clips"] == 18 and first.loc[0, "device"] == compare_models.device()

    with pytest.MonkeyPatch.context() as patch:  # the test part is met with the weights that are there
        patch.setattr(compare_models, "train_run", lambda *_: pytest.fail("trained again"))
        assert command("--model", "gru") == 0 and command("--model", "gru", "--test") == 0
        patch.setattr(compare_models, "measure", lambda *_: pytest.fail("measured again"))
        assert command("--model", "gru", "--test") == 0
    row = read_table(table).loc[0]
    assert row["test_clips"] == 6 and row["val_top1"] == first.loc[0, "val_top1"] and row["seconds"] > 0
    ranks = pd.read_csv(table.parent / "models" / row["clips"], dtype={"clip": str})
    assert list(ranks["part"].value_counts()) == [6, 6]
    test, index = ranks[ranks["part"] == "test"], pd.read_csv(tiny.index, dtype=str)
    assert 100 * (test["rank"] == 0).mean() == pytest.approx(row["test_top1"], abs=1e-3)
    assert sorted(test["clip"]) == sorted(index["clip"][index["split"] == "test"])

    assert command("--model", "ours", "--seed", "0", "1", "--test") == 0
    rows = read_table(table)
    assert len(rows) == 3 and rows["recipe"].nunique() == 2
    capsys.readouterr()
    assert compare_models.main(["--table"]) == 0
    said = capsys.readouterr().out
    assert "ours less gru, the best reference" in said and "2 and 1 runs" in said
    assert (table.with_suffix(".md")).read_text() == said


def test_a_references_weights_of_another_version_are_told(tiny, capsys):
    assert command("--model", "gru") == 0
    path, = (tiny.data / "compared" / "3-0").glob("gru-*.safetensors")
    weights = load_file(path)
    weights["gru.weight_ih_l0"] = weights.pop("gru.ahead.weight_ih_l0")
    save_file(weights, path, {"metrics": '{"epoch": 0}'})
    capsys.readouterr()
    assert command("--model", "gru", "--test") == 1
    assert capsys.readouterr().err == f"{path}: weights of another version of gru; train anew with --again.\n"
    assert command("--model", "gru", "--test", "--again") == 0


def test_a_trained_recogniser_enters_under_a_name_of_its_own(tiny, tmp_path):
    assert command("--model", "ours") == 0
    weights, = (tiny.data / "compared" / "3-0").glob("ours-*.safetensors")
    entered = ("--model", "ours", "--checkpoint", str(weights), "--seed", "5")
    assert command(*entered) == 1
    assert command(*entered, "--name", "ours, again", "--test") == 0
    exported = export_onnx(weights, tmp_path / "m.onnx")
    assert command("--model", "ours", "--checkpoint", str(exported), "--name", "ours, exported") == 0
    rows = read_table(tiny.data.parents[1] / "reports" / "models.csv").set_index("model")
    for name in ("ours, again", "ours, exported"):
        assert (rows.loc[name, ["val_top1", "val_top5", "parameters", "epoch"]]
                == rows.loc["ours", ["val_top1", "val_top5", "parameters", "epoch"]]).all()
    assert rows.loc["ours, again", "test_clips"] == 6


def test_a_refitted_model_trains_on_the_validation_part_too_and_keeps_the_last_epoch(tiny, capsys):
    refit = ("--model", "ours", "--refit")
    named = (*refit, "--name", "refitted", "--epochs", "2")
    assert command(*refit) == 1
    assert command(*named, "--checkpoint", "any", "--test") == 1
    assert command(*named) == 1 and "give --test" in capsys.readouterr().err
    assert command(*named, "--test") == 0
    run, = compare_models.plan(parse(["--dataset", "tiny", "--signs", "3", *named, "--test"]))
    refitted, plain = run.task(), replace(run, refit=False).task()
    assert len(plain.rows("val")) and not len(refitted.rows("val"))
    assert sorted([*plain.rows("train"), *plain.rows("val")]) == list(refitted.rows("train"))
    assert list(plain.rows("test")) == list(refitted.rows("test")) and plain.statistics == refitted.statistics
    assert run.recipe != replace(run, refit=False).recipe
    row, = read_table(tiny.data.parents[1] / "reports" / "models.csv").to_dict("records")
    assert row["epoch"] == 1 and np.isnan(row["val_clips"]) and row["test_clips"] == 6


def test_a_pretrained_start_is_a_recipe_of_its_own(tiny, project, capsys):
    make_set(project, "wide", clips=30)
    made = ["--dataset", "wide", "--output", "data/pretrained/wide.safetensors", "--epochs", "1"]
    (project / "nowhere").mkdir()
    pd.read_csv(tiny.index, dtype=str, keep_default_na=False).to_csv(project / "nowhere" / "index.csv", index=False)
    start = ("--model", "ours", "--start", "data/pretrained/wide.safetensors")
    named = (*start, "--name", "ours, pretrained")

    assert pretraining.main(made) == 0
    assert command(*named) == 1 and "was not pretrained for tiny" in capsys.readouterr().err
    assert pretraining.main([*made, "--for", "tiny"]) == 0
    assert command(*start) == 1 and command(*named, "--checkpoint", "any") == 1
    assert command("--model", "gru", "--start", start[-1], "--name", "gru, pretrained") == 1
    assert command(*named, "--test") == 0 and command("--model", "ours", "--test") == 0
    rows = read_table(project / "reports" / "models.csv").set_index("model")
    assert rows.loc["ours, pretrained", "recipe"] != rows.loc["ours", "recipe"]
    weights, = (tiny.data / "compared" / "3-0").glob("ours,_pretrained-*.safetensors")
    tuned, first = load_checkpoint(weights), load_checkpoint(start[-1])
    assert tuned.training["start_sha256"] == hashlib.sha256((project / start[-1]).read_bytes()).hexdigest()
    assert tuned.statistics == first.statistics

    run, = compare_models.plan(parse(["--dataset", "tiny", "--signs", "3", *named]))
    run = replace(run, settings=replace(run.settings, epochs=2, least_steps=0))
    assert run.recipe == rows.loc["ours, pretrained", "recipe"]
    assert replace(run, start=None).recipe == rows.loc["ours", "recipe"]
    assert pretraining.main([*made, "--for", "tiny", "--seed", "1"]) == 0
    assert run.recipe != rows.loc["ours, pretrained", "recipe"]  # another file under the same name


def test_all_models_share_the_task_and_no_reference_takes_fewer_steps(tiny):
    runs = {}
    for model in ("ours", *compare_models.REFERENCES):
        arguments = ["--model", model, "--dataset", "tiny", "--signs", "3"]
        parser_options = parse(arguments)
        runs[model], = compare_models.plan(parser_options)
    for run in runs.values():
        for clips in (100, 1000, 10_000):
            steps = [math.ceil(clips / settings.batch_size) for settings in (runs["ours"].settings, run.settings)]
            ours, theirs = (enough_epochs(settings, count) * count
                            for settings, count in zip((runs["ours"].settings, run.settings), steps, strict=True))
            assert theirs >= ours
        task = run.task()
        assert [list(task.rows(part)) for part in ("train", "val", "test")] == [
            list(runs["ours"].task().rows(part)) for part in ("train", "val", "test")
        ]
    assert len({run.recipe for run in runs.values()}) == len(runs)
    seeds = {replace(run, settings=replace(run.settings, seed=7)).recipe for run in runs.values()}
    assert seeds == {run.recipe for run in runs.values()}
    faster = {model: replace(run, settings=replace(run.settings, learning_rate=0.5)) for model, run in runs.items()}
    assert all(run.recipe != runs[model].recipe for model, run in faster.items())
    weaker = {model: replace(run, augmentation=None) for model, run in runs.items()}
    assert all(run.recipe != runs[model].recipe for model, run in weaker.items())
    decay = {model: replace(run, settings=replace(run.settings, ema_decay=0.5)) for model, run in runs.items()}
    assert [model for model in runs if decay[model].recipe != runs[model].recipe] == ["ours"]
    assert runs["gislr"].augmentation.rotation == 30 and runs["ours"].augmentation != runs["gislr"].augmentation


def test_a_skeleton_file_and_its_clips_views_are_part_of_the_recipe(tiny, tmp_path, monkeypatch):
    """Other parts make another network, and its weights must not be taken for those of the parts before."""
    run, = compare_models.plan(parse(["--model", "ours", "--dataset", "tiny", "--signs", "3"]))
    file = tmp_path / "skeleton.yaml"
    described = replace(run, data_set=run.data_set.model_copy(update={"skeleton": str(file)}))

    def recipe(points: str, depth_by_part: bool) -> str:
        body = f"parts: {{body: {{kind: body, points: [{points}]}}}}"
        file.write_text(f"points: [{points}]\n{body}\ndepth_by_part: {str(depth_by_part).lower()}\n", encoding="utf-8")
        return described.recipe

    guessed, measured = recipe("a, b", True), recipe("a, b", False)
    assert len({run.recipe, guessed, measured, recipe("b, a", True)}) == 4 and recipe("a, b", True) == guessed
    monkeypatch.setattr(compare_models, "MEASURED", Views(turns=(0.0,), frames=1.0))
    assert recipe("a, b", False) != measured and recipe("a, b", True) == guessed


def parse(arguments: list[str]):
    """The options that the command reads from its arguments."""
    caught = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_models, "plan", lambda options: caught.append(options) or [])
        assert compare_models.main(arguments) == 0
    return caught[0]


@pytest.mark.parametrize("case", ["fold", "data set", "params"])
def test_bad_input_is_one_sentence(tiny, capsys, case):
    arguments = {"fold": ["--fold", "7"], "data set": ["--dataset", "absent"], "params": []}[case]
    if case == "params":
        path = tiny.data.parents[1] / "params.yaml"
        path.write_text(path.read_text().replace("label_smoothing", "label_smothing", 1))
    assert command("--model", "ours", *arguments) == 1
    said = capsys.readouterr().err.strip()
    assert {"fold": "no fold 7", "data set": "absent.yaml", "params": "train.label_smothing"}[case] in said
    assert "\n" not in said


def test_several_writers_lose_no_row(tmp_path):
    """Every process adds to the table what it holds, under the lock."""
    table = tmp_path / "models.csv"
    script = f"""
import sys
sys.path[:0] = [{str(PROJECT / "benchmarks")!r}, {str(PROJECT)!r}]
from pathlib import Path
import pandas as pd
from model_table import locked, read_table
from slr_lib.index import write_table
table = Path({str(table)!r})
for seed in range(int(sys.argv[1]), int(sys.argv[1]) + 20):
    with locked(table):
        rows = read_table(table)
        row = pd.DataFrame([{{"model": "m", "seed": seed}}]).reindex(columns=rows.columns)
        write_table(pd.concat([rows, row]) if len(rows) else row, table)
"""
    writers = [subprocess.Popen([sys.executable, "-c", script, str(first)]) for first in (0, 100)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert sorted(read_table(table)["seed"]) == [*range(20), *range(100, 120)]


def made_up(tmp_path, name: str, seed: int, hits: list[bool], val: float, recipe: str = "r", fold: str = "0") -> dict:
    """A row of the table with its clips' file."""
    file = f"{name}-{recipe}-{fold}-{seed}.csv"
    ranks = pd.DataFrame({"part": "test", "clip": [f"{i:04}" for i in range(len(hits))], "gloss": "a",
                          "rank": [0 if hit else 3 for hit in hits]})
    ranks.to_csv(tmp_path / file, index=False)
    return {"model": name, "data_set": "set", "signs": 10, "fold": fold, "seed": seed, "epochs": 5, "recipe": recipe,
            "date": f"2026-01-0{seed + 1}", "code": "c", "seconds": 60.0, "device": "cpu", "threads": 1,
            "parameters": 1e6, "epoch": 3, "val_clips": 9, "val_top1": val, "val_top5": val, "val_mean_accuracy": val,
            "test_clips": len(hits), "test_top1": 100 * np.mean(hits), "test_top5": 100.0,
            "test_mean_accuracy": 100 * np.mean(hits),
            "clips": file}


def test_the_difference_is_paired_over_clips_of_seed_averaged_correctness(tmp_path):
    rows = [
        made_up(tmp_path, "ours", 0, [True] * 60 + [False] * 40, 50.0),
        made_up(tmp_path, "ours", 1, [True] * 70 + [False] * 30, 52.0),
        # better on the test part, but validation prefers the other recipe
        made_up(tmp_path, "ours", 0, [True] * 90 + [False] * 10, 40.0, recipe="other"),
        made_up(tmp_path, "gru", 0, [True] * 30 + [False] * 70, 60.0),
        made_up(tmp_path, "gislr", 0, [True] * 50 + [False] * 50, 45.0) | {"seconds": np.nan},
    ]
    text = render(pd.DataFrame(rows), tmp_path, ("gislr", "gru"))
    assert "ours less gislr, the best reference: +15.0 points of top-1" in text
    assert "(100 test clips, 2 and 1 runs)" in text
    # 50 of 100 clips agree, 10 differ by one, 10 by a half, 40 agree again: the spread of the difference
    values = np.array([0.0] * 50 + [1.0] * 10 + [0.5] * 10 + [0.0] * 30)
    low, high = interval(values)
    spread = 100 * 1.96 * values.std() / 10
    assert (low, high) == pytest.approx((15 - spread, 15 + spread), abs=1)
    assert f"{low:+.1f} to {high:+.1f}" in text
    assert "| gislr | 5 | r | 1 | 1.00 | cpu |  | 45.0 |" in text  # how long it took is not known
    assert "| ours | 5 | r | 2 | 1.00 | cpu | 1.0 | 51.0 ± 1.4 | 65.0 ± 7.1 (" in text


def test_models_tested_on_other_clips_are_not_compared(tmp_path):
    rows = pd.DataFrame([made_up(tmp_path, "ours", 0, [True] * 8, 50.0),
                         made_up(tmp_path, "gru", 0, [True] * 9, 50.0)])
    with pytest.raises(compare_models.InputError, match="other clips"):
        render(rows, tmp_path, ("gru",))


def test_folds_are_counted_clip_by_clip(tmp_path):
    rows = pd.DataFrame([made_up(tmp_path, name, 0, hits, 50.0, fold=fold)
                         for name, right in (("ours", 6), ("gru", 4)) for fold in "01"
                         for hits in [[True] * right + [False] * (8 - right)]])
    assert "+25.0 points" in render(rows, tmp_path, ("gru",)) and "(16 test clips" in render(rows, tmp_path, ("gru",))


def test_no_run_yet(tmp_path):
    assert render(read_table(tmp_path / "absent.csv"), tmp_path, ()) == "No run yet.\n"
