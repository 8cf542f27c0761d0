"""Two processes that train together do what one does with batches twice as large; killed and resumed they are the run.

`Dealt` is on the level of a module because spawned processes import what they are given.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from synthetic_batches import MadeUpClips, files_of, tiny
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from slr_lib.batches import ClipBatches
from slr_lib.checkpoint import load_checkpoint
from slr_lib.curves import curve_files
from slr_lib.errors import InputError
from slr_lib.fitting import TrainSettings
from slr_lib.model import build
from slr_lib.packed_clips import Statistics
from slr_lib.processes import process_count
from slr_lib.training import train

# nothing drawn: what processes draw is their own
SETTINGS = TrainSettings(epochs=3, batch_size=4, learning_rate=2e-3, warmup_share=0.25, drop_path=0.0, head_dropout=0.0,
                         late_head_dropout=0.0, ema=True, ema_decay=0.8, precision="32", strategy="ddp", devices=2)
SIGNS = 4


class Dealt:
    """`count` synthetic clips, of which a process gets its share; another of every fifth, to validate."""

    data_set, statistics, settings = "dealt", {"std": 1.0}, {"longest": 64}
    skeleton = source_skeleton = MadeUpClips.skeleton
    glosses = tuple(f"жест {i}" for i in range(SIGNS))

    def __init__(self, count: int, batch_size: int, killed_at: tuple[int, int] | None = None, broken: bool = False):
        self.count, self.batch_size, self.killed_at, self.broken = count, batch_size, killed_at, broken
        self.fingerprint = f"{count} {batch_size}"

    def train_batches(self, epoch: int, rank: int = 0, ranks: int = 1):
        made = self._batches(self.count, 0, rank, ranks, shuffle=True)
        made.set_epoch(epoch)
        return _Watched(made, self.killed_at if rank == 1 else None)

    def val_batches(self, rank: int = 0, ranks: int = 1):
        return self._batches(self.count // 5, 1, rank, ranks, shuffle=False)

    def _batches(self, count: int, seed: int, rank: int, ranks: int, shuffle: bool) -> ClipBatches:
        random = np.random.default_rng(seed)
        lengths = random.integers(5, 24, count)
        labels = random.integers(SIGNS, size=count)
        total = lengths.sum()
        points = random.normal(0, 1, (total, 13, 3)).astype(np.float16)
        points += 3 * np.eye(13, dtype=np.float16)[np.repeat(labels, lengths)][..., None]
        mask = random.random((total, 13)) > 0.2
        points[~mask] = 0
        if self.broken:
            points[:] = np.nan
        first = np.cumsum(lengths) - lengths
        times = ((np.arange(total) - np.repeat(first, lengths)) / 30).astype(np.float32)
        packed = SimpleNamespace(points=points, mask=mask, times=times, first=first, frames=lengths, folder="clips")
        plain = Statistics(np.zeros((13, 3), np.float32), np.ones((13, 3), np.float32))
        return ClipBatches(packed, range(count), labels, plain, self.skeleton, self.batch_size, 64, seed=seed,
                           shuffle=shuffle, rank=rank, ranks=ranks)


class _Watched:
    """Batches in which the process is killed at some (epoch, step)."""

    def __init__(self, made: ClipBatches, killed_at: tuple[int, int] | None):
        self.made, self.killed_at = made, killed_at

    def __len__(self) -> int:
        return len(self.made)

    def __iter__(self):
        for step, batch in enumerate(self.made):
            if (self.made.epoch, step) == self.killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

pytestmark = pytest.mark.usefixtures("one_thread")


def run(folder, clips, settings=SETTINGS, progress=False):
    return train(clips, settings, folder / "base.safetensors", folder / "curves", config=tiny(SIGNS),
                 progress=progress)


def alone(settings: TrainSettings) -> TrainSettings:
    """The settings of one process that takes the same steps."""
    return replace(settings, strategy="auto", devices=1, batch_size=2 * settings.batch_size)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize("count, changes", [
    (45, {}),  # last steps of 5 training clips (3 and 2) and of 1 validation clip (1 and none)
    (41, {"focal_gamma": 2.0}),  # the last step has one clip for two processes
    (48, {"auxiliary_weight": 0.0, "ema": False}),  # heads without a gradient
])
def test_two_processes_train_as_one_does(tmp_path, count, changes, optimiser):
    settings = replace(SETTINGS, optimiser=optimiser, **changes)
    single = run(tmp_path / "one", Dealt(count, 8), alone(settings))
    double = run(tmp_path / "two", Dealt(count, 4), settings)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["base.safetensors", "curves"]
    assert single.curves["train_loss"].iloc[-1] < 0.99 * single.curves["train_loss"].iloc[0]
    for name in single.curves:
        assert double.curves[name].tolist() == pytest.approx(single.curves[name].tolist(), rel=1e-4), name
    assert double.metrics["epoch"] == single.metrics["epoch"]
    start = build(tiny(SIGNS), settings.seed).state_dict()
    one, two, before = (torch.cat([weights[name].flatten() for name in start])
                        for weights in (single.weights, double.weights, start))
    # Muon reckons in bf16, each processor in its own order: seen up to 0.7 % of the way and 0.13 of the learning rate
    share, most = (1e-3, 0.1) if optimiser == "adamw" else (1e-2, 0.2)
    assert (two - one).norm() < share * (one - before).norm()
    # AdamW makes steps as long for gradients that are all rounding, so single weights may part by more than that
    assert (two - one).abs().max() < most * settings.learning_rate
    read = load_checkpoint(tmp_path / "two" / "base.safetensors")
    assert read.training["settings"]["devices"] == 2 and read.metrics == double.metrics


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_resumes_to_the_same_bytes(tmp_path, capfd):
    settings = replace(SETTINGS, dropout=0.1, drop_path=0.1, head_dropout=0.3, late_head_dropout=0.3)
    run(tmp_path / "whole", Dealt(45, 4), settings, progress=True)
    shown = capfd.readouterr().err
    assert shown.count("18/18") == 1, shown  # one bar over all steps
    with pytest.raises(ProcessExitedException):
        run(tmp_path / "killed", Dealt(45, 4, killed_at=(2, 3)), settings)
    assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == ["base.state", "curves"]
    losses = curve_files(tmp_path / "killed" / "curves")["train_loss"].read_text().splitlines()
    assert len(losses) == 3  # its head and two epochs
    run(tmp_path / "killed", Dealt(45, 4), settings)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


@pytest.mark.slow
def test_an_error_in_a_process_is_told(tmp_path):
    with pytest.raises(ProcessRaisedException, match="the loss of epoch 0 is nan; lower the learning rate"):
        run(tmp_path, Dealt(20, 4, broken=True))


def test_strategies_and_devices():
    assert process_count("auto", 1) == 1 and process_count("ddp", 1) == 1
    with pytest.raises(InputError, match="devices: 2 need `strategy: ddp`"):
        process_count("auto", 2)
    with pytest.raises(InputError, match="'dpp' is none of auto, ddp"):
        process_count("dpp", 2)
    with pytest.raises(InputError, match="devices: 0"):
        process_count("ddp", 0)
    if not torch.cuda.is_available():
        assert process_count("ddp", 3) == 3
