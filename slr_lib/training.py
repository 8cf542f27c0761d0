"""Training of a recogniser: clips and settings in, a checkpoint out; resumable after a kill.

A run killed and started again ends in the very bytes of a run that was not: every epoch's seeds come from (seed,
epoch), and the state for resuming is written whole after each epoch. It lies beside the checkpoint to come, in
`<name>.state/`, serves only a run with its fingerprint (settings, model, clips, code), and goes at the end.

N processes (`strategy: ddp`) with batches of b clips take the steps of one process with batches of N b: the same clips
in a step, and the mean of the loss over them, label smoothing and focal weights included, also where the last step is
not full; equal but for rounding. Not the same are what is drawn (augmentation, MixUp, dropout) and the statistics of
batch norm, which only references have. A resumed run of two processes ends in the same bytes as one that was not
killed; of more, where sums depend on how gradients are put into buckets, within rounding.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import logging
import math
import os
import shutil
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import lightning.pytorch as lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Checkpoint as CheckpointCallback
from torch import Tensor, nn
from tqdm import tqdm

from slr_lib.checkpoint import Checkpoint, carry_weights, load_checkpoint, save_checkpoint
from slr_lib.curves import COLUMNS, open_curves, write_epoch
from slr_lib.errors import InputError
from slr_lib.fitting import Fitting, ProgressBar, TrainSettings, enough_epochs
from slr_lib.memory import keep_memory
from slr_lib.model import ModelConfig, build, count_parameters
from slr_lib.precision import lightning_precision
from slr_lib.processes import ddp_trainer_arguments, process_count, run_processes
from slr_lib.skeleton import Skeleton

# modules that decide about the outcome of a training: their source is part of the fingerprint
_CODE = (
    "augment", "batches", "clips", "fitting", "geometry", "layers", "loops", "losses", "metrics", "mixup", "model",
    "optimiser", "packed_clips", "precision", "processes", "skeleton", "slots", "tasks", "training",
)
STATE = "state.ckpt"


class Clips(Protocol):
    """What training asks of slr_lib.batches.ClipBatches.

    skeleton: of the batches' points, selected from source_skeleton, that of the landmarks, for the checkpoint.
    train_batches: the epoch's batches, in number the same in every epoch, decided by the clips' seed and the epoch
    alone; val_batches: those of the validation part, or None. Both take `rank` and `ranks` too where several processes
    train, give each as many, and mark what one has only to fill up by labels of -1. fingerprint: of all that decides
    about the batches.
    """

    glosses: tuple[str, ...]
    skeleton: Skeleton
    source_skeleton: Skeleton
    statistics: dict
    settings: dict
    data_set: str
    fingerprint: str

    def train_batches(self, epoch: int, **share: int) -> Iterable: ...

    def val_batches(self, **share: int) -> Iterable | None: ...


@dataclass(frozen=True)
class Trained:
    """Outcome of `train`.

    metrics: epoch (of the weights kept), picked_by (`validation` or `last epoch`), parameters, carried_signs (whose
    rows came from the start), and val_loss, val_top1, val_mean_accuracy (per cent) where there is a validation part.
    curves: a row an epoch. seconds, clips_per_second: of this process alone; no part of any output file. weights: those
    kept, on the CPU.
    """

    metrics: dict
    curves: pd.DataFrame
    seconds: float
    clips_per_second: float
    weights: dict[str, Tensor]


def train(
    clips: Clips,
    settings: TrainSettings,
    checkpoint: str | os.PathLike,
    curves: str | os.PathLike | None = None,
    config: ModelConfig | None = None,
    start: str | os.PathLike | None = None,
    progress: bool = True,
) -> Trained:
    """Train, and write the checkpoint and the curves.

    The weights kept are those of the epoch with the best mean accuracy on the validation part; where there is none,
    those of the last epoch, and the outcome says so.

    Args:
        clips: batches; checkpoint: file to write; curves: folder to fill after every epoch (slr_lib.curves).
        config: of the model; None takes the start's, or the defaults for the clips' skeleton. Dropout and drop-path are
        the settings' in any case.
        start: checkpoint to continue from, its heads re-made where the signs differ.
        progress: show a bar.

    Raises:
        InputError: the start is absent, damaged or of another shape.
    """
    target = Path(checkpoint)
    began = load_checkpoint(start) if start is not None else None
    if began is not None and config is None:
        config = replace(began.config, signs=len(clips.glosses))
    if config is None:
        config = ModelConfig.for_skeleton(clips.skeleton, signs=len(clips.glosses))
    config = replace(config, dropout=settings.dropout, drop_path=settings.drop_path, head_dropout=settings.head_dropout)
    if config.signs != len(clips.glosses) or config.points != len(clips.skeleton.points):
        raise InputError(f"{target}: a model of {config.signs} signs and {config.points} points, but clips of "
                         f"{len(clips.glosses)} and {len(clips.skeleton.points)}; leave the sizes to the clips.")
    model = build(config, settings.seed)
    carried = carry_weights(began, model, clips.glosses, start) if began is not None else 0
    source = _sha256(start) if start is not None else None

    def save(trained: Trained) -> None:
        save_checkpoint(target, Checkpoint(
            weights=trained.weights, config=config, glosses=tuple(clips.glosses), skeleton=clips.source_skeleton,
            statistics=clips.statistics, clips=clips.settings, data_set=clips.data_set, epoch=trained.metrics["epoch"],
            metrics=trained.metrics, training={"settings": asdict(settings), "start_sha256": source},
        ))

    return fit(model, clips, settings, target, [config.as_plain(), source], save, curves, progress, carried)


def fit(
    model: nn.Module,
    clips: Clips,
    settings: TrainSettings,
    target: str | os.PathLike,
    described: object,
    save: Callable[[Trained], None],
    curves: str | os.PathLike | None = None,
    progress: bool = True,
    carried: int = 0,
    fitting: Callable[..., Fitting] | None = None,
) -> Trained:
    """Train any model, also one that is no `Recognition`; arguments beside these as in `train`.

    Args:
        model: with `outputs` and `head_dropout` as slr_lib.model.Recognition has them.
        target: the file that `save` will write; the state for resuming lies beside it.
        described: what else decides about the outcome, as JSON can hold it; part of the run's fingerprint.
        save: writes the outcome; the state for resuming goes once it has returned.
        carried: how many signs' rows came from a start.
        fitting: makes the steps of another objective, with Fitting's arguments; `described` tells which.

    Raises:
        InputError: the settings ask for processes or devices that are not possible.
    """
    target = Path(target)
    processes = process_count(settings.strategy, settings.devices)
    if settings.least_steps:
        steps = math.ceil(len(clips.train_batches(0)) / processes)
        settings = replace(settings, epochs=enough_epochs(settings, steps), least_steps=0)
    state = _StateFile(target, fingerprint(clips, settings, described))
    callbacks = [state]
    if curves is not None:
        callbacks.append(_LiveCurves(curves))
    if progress:
        callbacks.append(ProgressBar(target.stem))
    seconds = time.perf_counter()
    make = fitting or Fitting
    if processes == 1:
        fitted = _fit(make, model, clips, settings, state.read(), callbacks)
        kept, seen = {"curves": fitted.curves, "best": fitted.best}, fitted.clips_seen
    else:
        counts = torch.zeros(processes, dtype=torch.int64)
        run_processes(_fit_share, processes, make, model, clips, settings, state, callbacks, counts)
        kept, seen = state.read(), int(counts.sum())
    seconds = time.perf_counter() - seconds

    rows = pd.DataFrame(kept["curves"], columns=list(COLUMNS))
    metrics = _metrics(kept["best"], rows, count_parameters(model), carried)
    trained = Trained(metrics, rows, seconds, seen / max(seconds, 1e-9), kept["best"]["weights"])
    save(trained)
    state.remove()
    return trained


def _fit(make: Callable[..., Fitting], model: nn.Module, clips: Clips, settings: TrainSettings, earlier: dict | None,
         callbacks: list, **share: int) -> Fitting:
    """Train in this process, or in this one of several: its `rank` of `ranks`."""
    keep_memory()
    validation = clips.val_batches(**share)
    fitting = make(model, settings, steps=len(clips.train_batches(0, **share)), state=earlier)
    placed = {"accelerator": "auto", "devices": 1}
    if share:  # auxiliary heads of weight 0 get no gradient
        placed = ddp_trainer_arguments(share["ranks"], idle=settings.auxiliary_weight == 0)
    with _quiet(), _deterministic():
        trainer = lightning.Trainer(
            max_epochs=settings.epochs - fitting.first_epoch, precision=lightning_precision(settings.precision),
            deterministic=True, callbacks=callbacks, logger=False, enable_checkpointing=bool(callbacks),
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **placed,
        )
        trainer.fit(
            fitting, _Batches(lambda: clips.train_batches(fitting.epoch, **share), fitting.steps),
            _Batches(lambda: clips.val_batches(**share), len(validation)) if validation is not None else None,
        )
    return fitting


def _fit_share(rank: int, make: Callable[..., Fitting], model: nn.Module, clips: Clips, settings: TrainSettings,
               state: _StateFile, callbacks: list, counts: Tensor) -> None:
    """One of several processes; the first alone writes and shows anything. counts: [ranks] clips seen, to fill in."""
    own = copy.deepcopy(model)  # the model that came is in memory shared by all processes
    fitted = _fit(make, own, clips, settings, state.read(), callbacks if rank == 0 else [], rank=rank,
                  ranks=len(counts))
    counts[rank] = fitted.clips_seen


def fingerprint(clips: Clips, settings: TrainSettings, described: object) -> str:
    """Hash of all that decides about a training's outcome: clips, settings, what describes the model, code, torch."""
    versions = [torch.__version__, lightning.__version__]
    everything = [clips.fingerprint, asdict(settings), described, versions, code_digest()]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def code_digest() -> str:
    """Hash of the source of all modules that decide about the outcome of a training."""
    digest = hashlib.sha256()
    for name in _CODE:
        spec = importlib.util.find_spec(f"slr_lib.{name}")
        digest.update(Path(spec.origin).read_bytes() if spec else b"")
    return digest.hexdigest()


class _Batches:
    """Batches as an iterable with a length and no more (Lightning takes a list for several loaders), asked for when an
    epoch begins.

    Args:
        make: gives the batches; count: how many.
    """

    def __init__(self, make: Callable[[], Iterable], count: int):
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator:
        yield from self.make()


class _StateFile(CheckpointCallback):
    """Writes the fitting's state after each epoch, and reads the one that an earlier process of this run left.

    A checkpoint callback, because Lightning runs these after the module's own end of the epoch.
    """

    def __init__(self, target: Path, fingerprint: str):
        self.folder = target.with_suffix(".state")
        self.mark = self.folder / "fingerprint"
        self.path = self.folder / STATE
        self.fingerprint = fingerprint
        if self.folder.exists() and not (self.mark.is_file() and self.mark.read_text() == fingerprint):
            shutil.rmtree(self.folder)
        if self.path.is_file() and not zipfile.is_zipfile(self.path):
            # torch writes a zip archive; a cut one lacks its directory
            tqdm.write(f"{self.path} is damaged: the training starts anew", file=sys.stderr)
            self.path.unlink()

    def read(self) -> dict | None:
        return torch.load(self.path, map_location="cpu", weights_only=True) if self.path.is_file() else None

    def on_train_epoch_end(self, trainer, module) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.mark.write_text(self.fingerprint)
        draft = self.folder / f".{STATE}.part"
        with draft.open("wb") as file:
            torch.save(module.state(), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)

    def remove(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)


class _LiveCurves(CheckpointCallback):
    """Fills the folder of curves, in the process that trains."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = folder

    def on_fit_start(self, trainer, module) -> None:
        self.live = open_curves(self.folder, module.curves)

    def on_train_epoch_end(self, trainer, module) -> None:
        write_epoch(self.live, module.curves[-1])

    def on_fit_end(self, trainer, module) -> None:
        self.live.end()


def _metrics(best: dict, rows: pd.DataFrame, parameters: int, carried: int) -> dict:
    kept = rows.iloc[best["epoch"]]
    validated = bool(rows["val_loss"].notna().any())
    figures = {name: float(kept[name]) for name in ("val_loss", "val_top1", "val_mean_accuracy")} if validated else {}
    return {"epoch": best["epoch"], "picked_by": "validation" if validated else "last epoch",
            "parameters": parameters, "carried_signs": carried, **figures}


def _sha256(path: str | os.PathLike) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's notes on hardware, its advice on data loaders' workers and its tips."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Leave torch's switch and the random state of the caller as they were."""
    before = torch.are_deterministic_algorithms_enabled()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.use_deterministic_algorithms(before)
