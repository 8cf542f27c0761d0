"""Training: it learns, follows its schedule, and a killed run resumed is the run."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from dvc.repo import Repo
from dvc.scm import Git
from synthetic_batches import MadeUpClips, files_of, tiny

from slr_lib import training
from slr_lib.checkpoint import load_checkpoint
from slr_lib.curves import COLUMNS, curve_files
from slr_lib.errors import InputError
from slr_lib.fitting import MOST_EPOCHS, Fitting, TrainSettings, enough_epochs, learning_rate_share
from slr_lib.training import train

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = TrainSettings(epochs=4, learning_rate=3e-3, warmup_share=0.25, dropout=0.1, ema=True, ema_decay=0.9)


def run(folder: Path, clips=None, settings=SETTINGS, name="base", **arguments):
    clips = clips or MadeUpClips()
    config = arguments.pop("config", tiny(len(clips.glosses)))
    return train(clips, settings, folder / f"{name}.safetensors", folder / "curves", config=config,
                 progress=False, **arguments)


def test_a_small_training_part_is_passed_over_more_often(tmp_path):
    settings = TrainSettings(epochs=10, least_steps=300)
    assert [enough_epochs(settings, steps) for steps in (1, 12, 29, 30, 31)] == [30, 25, 11, 10, 10]
    assert [enough_epochs(replace(settings, epochs=epochs), 1) for epochs in (MOST_EPOCHS - 1, MOST_EPOCHS + 1)] == [
        MOST_EPOCHS, MOST_EPOCHS + 1]
    trained = run(tmp_path, settings=replace(SETTINGS, epochs=2, least_steps=15))  # of 5 steps each
    assert len(trained.curves) == 3
    last = trained.curves["learning_rate"].iloc[-1]
    assert last == pytest.approx(SETTINGS.learning_rate * learning_rate_share(15, 15, SETTINGS.warmup_share), abs=1e-9)


def test_training_learns_and_writes_what_it_says(tmp_path):
    trained = run(tmp_path, settings=replace(SETTINGS, epochs=20, label_smoothing=0.0))
    assert trained.curves["train_loss"].iloc[-1] < 0.5 * trained.curves["train_loss"].iloc[0]
    assert trained.metrics["val_mean_accuracy"] == trained.curves["val_mean_accuracy"].max() > 80
    assert trained.metrics["picked_by"] == "validation"
    assert list(trained.curves) == list(COLUMNS)
    for column, path in curve_files(tmp_path / "curves").items():
        table = pd.read_csv(path, sep="\t")
        assert table["step"].tolist() == list(range(20))
        assert table.iloc[:, 1].tolist() == pytest.approx(trained.curves[column].tolist(), rel=1e-5), column
    assert "vega" in (tmp_path / "curves" / "report.html").read_text()
    read = load_checkpoint(tmp_path / "base.safetensors")
    assert (read.glosses, read.skeleton, read.data_set) == (MadeUpClips().glosses, MadeUpClips.skeleton, "made_up")
    assert read.metrics == trained.metrics
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base.safetensors", "curves"]
    # the figures are those of the weights in the file
    model, batches = read.model(), MadeUpClips().val_batches()
    with torch.inference_mode():
        hits = torch.cat([model(b.points, b.mask, b.frames, b.times).argmax(1) == b.labels for b in batches])
    assert 100 * hits.float().mean().item() == pytest.approx(trained.metrics["val_top1"])


def test_first_epoch_starts_from_a_uniform_guess(tmp_path):
    clips = MadeUpClips(signs=9, steps=1)
    trained = run(tmp_path, clips, replace(SETTINGS, epochs=1, auxiliary_weight=0.0, precision="32"))
    assert trained.curves["train_loss"][0] == pytest.approx(math.log(9), abs=1e-5)


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path):
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(files))  # what ran before does not matter
        run(tmp_path / name, settings=replace(SETTINGS, epochs=2, seed=seed))
        files.append((tmp_path / name / "base.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path):
    run(tmp_path / "whole")
    script = tmp_path / "killed.py"
    script.write_text(f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from test_training import *
class Deadly(MadeUpClips):
    def train_batches(self, epoch):
        for step, batch in enumerate(super().train_batches(epoch)):
            if (epoch, step) == (2, 3):
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch
class Sized:
    def __init__(self, epoch): self.epoch = epoch
    def __len__(self): return 5
    def __iter__(self): return Deadly().train_batches(self.epoch)
class Clips(MadeUpClips):
    def train_batches(self, epoch): return Sized(epoch)
torch.set_num_threads(1)
run(Path({str(tmp_path / "killed")!r}), Clips())
""", encoding="utf-8")
    killed = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env={**os.environ})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "killed" / "base.safetensors").exists()
    assert (tmp_path / "killed" / "base.state" / "state.ckpt").is_file()
    seen = []

    class Watched(MadeUpClips):
        def train_batches(self, epoch):
            seen.append(epoch)
            return super().train_batches(epoch)

    run(tmp_path / "killed", Watched())
    assert seen == [0, 2, 3]  # the first call asks for the number of steps alone
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


def test_a_run_killed_at_the_very_end_only_writes_its_result(tmp_path, monkeypatch):
    run(tmp_path / "whole")
    monkeypatch.setattr(training._StateFile, "remove", lambda self: None)
    run(tmp_path / "again")
    (tmp_path / "again" / "base.safetensors").unlink()
    shutil.rmtree(tmp_path / "again" / "curves")  # as DVC does before it runs a stage again
    monkeypatch.undo()
    trained = run(tmp_path / "again")
    assert trained.clips_per_second == 0
    assert files_of(tmp_path / "again") == files_of(tmp_path / "whole")


def test_curves_leave_dvc_and_git_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scm = Git.init(str(tmp_path))
    repo = Repo.init(str(tmp_path))
    scm.commit("start")
    before = files_of(tmp_path)
    run(tmp_path / "out")
    assert "out/curves/metrics.json" in files_of(tmp_path) and not list((tmp_path / "out").rglob("*.yaml"))
    changed = [path for path, _ in files_of(tmp_path).items() - before.items()]
    assert all(path.startswith(("out/", ".dvc/tmp/")) for path in changed) and not repo.experiments.ls()


def test_the_state_of_another_run_is_ignored(tmp_path):
    run(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training._StateFile, "remove", lambda self: None)
        run(tmp_path / "stale", settings=replace(SETTINGS, seed=5))
    run(tmp_path / "stale")
    whole, stale = ((tmp_path / name / "base.safetensors").read_bytes() for name in ("whole", "stale"))
    assert whole == stale


def test_a_damaged_state_starts_the_run_anew(tmp_path, capsys):
    run(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training._StateFile, "remove", lambda self: None)
        run(tmp_path / "cut")
        state = tmp_path / "cut" / "base.state" / "state.ckpt"
        state.write_bytes(state.read_bytes()[:-50])
    run(tmp_path / "cut")
    assert "starts anew" in capsys.readouterr().err
    whole, cut = ((tmp_path / name / "base.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_without_validation_the_last_weights_are_kept(tmp_path):
    trained = run(tmp_path, MadeUpClips(validation=False))
    assert (trained.metrics["picked_by"], trained.metrics["epoch"]) == ("last epoch", SETTINGS.epochs - 1)
    assert "val_top1" not in trained.metrics
    assert trained.curves["val_loss"].isna().all()


def test_finetuning_starts_where_its_start_ended(tmp_path):
    first = run(tmp_path, settings=replace(SETTINGS, epochs=8))
    start = tmp_path / "base.safetensors"
    gentle = replace(SETTINGS, epochs=2, learning_rate=1e-5)
    same = run(tmp_path, settings=gentle, name="round_1", config=None, start=start)
    assert same.metrics["val_mean_accuracy"] >= first.metrics["val_mean_accuracy"] - 10
    more = run(tmp_path, MadeUpClips(signs=6), gentle, "wider", config=None, start=start)
    assert more.metrics["carried_signs"] == 4
    assert load_checkpoint(tmp_path / "wider.safetensors").config.signs == 6
    with pytest.raises(InputError, match=r"base\.safetensors.*another shape"):
        run(tmp_path, name="other", config=tiny(4, width=64), start=start)


def test_the_learning_rate_counts_steps(tmp_path):
    """Warm-up and cosine by step, whatever the number of steps in an epoch; a schedule by epochs fails here."""
    rates = []
    settings = replace(SETTINGS, epochs=4, warmup_share=0.25)

    class Watched(Fitting):
        def training_step(self, batch, place):
            rates.append(self.optimizers().param_groups[0]["lr"])
            return super().training_step(batch, place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Fitting", Watched)
        run(tmp_path, MadeUpClips(steps=10), settings)
    assert len(rates) == 40
    top = settings.learning_rate
    assert rates[:10] == pytest.approx([top * (i + 1) / 10 for i in range(10)])  # the whole first epoch warms up
    assert rates[10] == pytest.approx(top)
    assert rates[25] == pytest.approx(top / 2)  # half way down the cosine
    assert rates[39] == pytest.approx(top * 0.5 * (1 + math.cos(math.pi * 29 / 30)))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert learning_rate_share(0, 10, 0.0) == 1.0 and learning_rate_share(10, 10, 0.3) == 0.0


def test_a_loss_that_is_no_number_stops_the_training(tmp_path):
    class Broken(MadeUpClips):
        def train_batches(self, epoch):
            return [b._replace(points=b.points * math.nan) for b in super().train_batches(epoch)]

    with pytest.raises(FloatingPointError, match="learning rate"):
        run(tmp_path, Broken())


def test_dropout_adapts_over_the_second_half(tmp_path):
    seen = []

    class Watched(Fitting):
        def on_train_epoch_end(self):
            seen.append(self.model.head_dropout.p)
            super().on_train_epoch_end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Fitting", Watched)
        run(tmp_path, settings=replace(SETTINGS, epochs=5, head_dropout=0.2, late_head_dropout=0.6))
    assert seen == pytest.approx([0.2, 0.2, 0.2, 0.4, 0.6])
