"""Pretraining on several data sets together: one body, a head for each set; or masked modelling, which needs no label.

    python -m slr_lib.pretraining --dataset wlasl1000_hands --for wlasl_hands --output data/pretrained/wlasl.safetensors
    python -m slr_lib.pretraining --dataset wlasl1000_hands dgs30_mediapipe --for wlasl_hands --output FILE
    python -m slr_lib.pretraining --objective masked --dataset wlasl1000_hands --for wlasl_hands --output FILE

The sets named by --dataset are trained on, all clips of their training parts (fold 0) but those that are, or repeat,
a validation or test clip of any set named (slr_lib.joint_clips); points are those of the first set named by --for. The
number of epochs is fixed, and validation picks nothing. Settings are the section `train` of params.yaml. A killed run
goes on from its last epoch, a finished one is found and left. The sets' clips must be prepared:
`python -m slr_lib.pipeline --dataset NAME -- repro prepare_clips`.

The file is a checkpoint like any other: a recogniser of the first set's signs (of none after masked modelling), to go
on from by `slr_lib.training.train(start=FILE)` with the file's own statistics (`Task(statistics=...)`), as
benchmarks/compare_models.py --start does.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from slr_lib import joint_clips, masked_modelling
from slr_lib.augment import AugmentSettings, augmentation
from slr_lib.checkpoint import Checkpoint, carry_weights, load_checkpoint, save_checkpoint
from slr_lib.data_sets import DataSet, find_project, load_data_set
from slr_lib.errors import InputError, exit_status
from slr_lib.fitting import Fitting, TrainSettings
from slr_lib.index import read_index
from slr_lib.joint_clips import FoldOf, JointClips, held_out
from slr_lib.masked_modelling import MaskedFitting, MaskedModel
from slr_lib.model import ModelConfig, Outputs, build
from slr_lib.notebook import read_params
from slr_lib.splits import folds
from slr_lib.training import Trained, fingerprint, fit

SIGNS, MASKED = "signs", "masked"
Objective = Literal["signs", "masked"]


class JointFitting(Fitting):
    """Trains a recogniser of several sets' signs, a set's clips by its own rows of every head: each set has its heads.

    Args:
        ranges: of each set its first class and the one after its last; a batch is of one set. Others: Fitting's.
    """

    def __init__(self, *arguments, ranges: Sequence[tuple[int, int]], **named):
        super().__init__(*arguments, **named)
        self.ranges = ranges
        self.own = slice(None)  # rows of the set at hand

    def loss(self, batch) -> Tensor:
        """As if the batch's set were the only one."""
        label = int(batch.labels[0])
        self.own = next(slice(first, last) for first, last in self.ranges if first <= label < last)
        return super().loss(batch._replace(labels=batch.labels - self.own.start))

    def outputs(self, batch) -> Outputs:
        """Those of the set's own heads."""
        outputs = super().outputs(batch)
        return Outputs(outputs.logits[:, self.own], tuple(logits[:, self.own] for logits in outputs.auxiliaries))


def pretrain(
    sets: Sequence[FoldOf],
    targets: Sequence[FoldOf],
    output: str | os.PathLike,
    settings: TrainSettings,
    augmented: AugmentSettings | None = None,
    objective: Objective = SIGNS,
    curves: str | os.PathLike | None = None,
    progress: bool = True,
) -> tuple[Trained | None, JointClips]:
    """Pretrain, and write the checkpoint and the curves; resumable as slr_lib.training.fit is.

    The outcome is None where the file is there already, written by this very training: the same clips, settings, code.

    Args:
        sets, targets: as of JointClips. output: file to write. augmented: of the clips; masked modelling hides points
        itself and knows no sign, so it leaves out the hiding and the exchange between clips of a sign.

    Raises:
        InputError: as JointClips.
    """
    masked = objective == MASKED
    if masked and augmented is not None:
        augmented = replace(augmented, hide_time=0.0, hide_part=0.0, exchange=0.0)
    clips = JointClips(sets, targets, labelled=not masked, batch_size=settings.batch_size, augmented=augmented,
                       seed=settings.seed)
    config = ModelConfig.for_skeleton(
        clips.skeleton, signs=len(clips.glosses), dropout=settings.dropout, drop_path=settings.drop_path,
        head_dropout=settings.head_dropout,
    )
    if masked:
        model, fitting = MaskedModel(config, settings.seed), MaskedFitting
    else:
        model, fitting = build(config, settings.seed), functools.partial(JointFitting, ranges=clips.ranges)
    described = [config.as_plain(), objective, clips.held_out, _code()]
    mark = fingerprint(clips, settings, described)
    if _is_of(output, mark):
        return None, clips

    def save(trained: Trained) -> None:
        weights = _of_body(trained.weights) if masked else trained.weights
        whole = Checkpoint(
            weights=weights, config=config, glosses=clips.glosses, skeleton=clips.source_skeleton,
            statistics=clips.statistics, clips=clips.settings, data_set=clips.data_set, epoch=trained.metrics["epoch"],
            metrics=trained.metrics, training={
                "settings": asdict(settings), "objective": objective, "fingerprint": mark, "held_out": clips.held_out,
                "sets": dict(zip((one.data_set.name for one in sets), clips.counts, strict=True)),
            },
        )
        save_checkpoint(output, _first_head(whole, clips.ranges[0][1]))

    return fit(model, clips, settings, output, described, save, curves, progress, fitting=fitting), clips


def _is_of(path: str | os.PathLike, mark: str) -> bool:
    """Whether a file is a checkpoint of the training with this fingerprint."""
    try:
        return load_checkpoint(path).training.get("fingerprint") == mark
    except InputError:
        return False


def _of_body(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The recogniser's weights among a MaskedModel's."""
    return {name.removeprefix("body."): value for name, value in weights.items() if name.startswith("body.")}


def _first_head(whole: Checkpoint, signs: int) -> Checkpoint:
    """A checkpoint with the heads' rows of the first `signs` glosses alone."""
    model = build(replace(whole.config, signs=signs))
    carry_weights(whole, model, whole.glosses[:signs], "pretraining")
    return replace(whole, weights=model.state_dict(), config=model.config, glosses=whole.glosses[:signs])


def _code() -> str:
    """Hash of the source that decides about pretraining alone; that of all training is in the fingerprint anyway."""
    paths = (__file__, joint_clips.__file__, masked_modelling.__file__)
    return hashlib.sha256(b"".join(Path(path).read_bytes() for path in paths)).hexdigest()


def check_start(path: str | os.PathLike, data_set: DataSet, fold: str) -> Checkpoint:
    """Read a checkpoint to start from, sure that none of its training clips is a validation or test clip of a task.

    Raises:
        InputError: it cannot be read, or was pretrained without holding out this fold's clips as they are now. Of one
            that was not pretrained that can be told only if it is of this very set, which has one fold.
    """
    checkpoint = load_checkpoint(path)
    held = checkpoint.training.get("held_out")
    if held is None:
        if checkpoint.data_set != data_set.name or len(folds(data_set, read_index(data_set))) > 1:
            raise InputError(f"{path}: nothing tells whether it was trained on test clips of {data_set.name}, fold "
                             f"{fold}; start from one that slr_lib.pretraining made --for it.")
        return checkpoint
    for key, clips in held_out([FoldOf(data_set, fold)]).items():
        if held.get(key) != clips:
            raise InputError(f"{path}: was not pretrained for {data_set.name}, fold {fold}, as it is split now; "
                             f"pretrain with --for {data_set.name} --fold {fold}.")
    return checkpoint


def train_recipe(epochs: int | None = None) -> tuple[TrainSettings, AugmentSettings | None]:
    """Settings and augmentation of the section `train` of params.yaml.

    Args:
        epochs: instead of the recipe's number; exactly so many then, however few the clips.

    Raises:
        InputError: it has an unknown key.
    """
    params = read_params("train")
    known = {field.name for field in fields(TrainSettings)}
    if unknown := sorted(set(params) - known - {"augmentation"}):
        raise InputError(f"params.yaml: train.{unknown[0]} is no setting of a training; mend it.")
    settings = TrainSettings(**{name: value for name, value in params.items() if name in known})
    if epochs is not None:
        settings = replace(settings, epochs=epochs, least_steps=0)
    return settings, augmentation(params["augmentation"])


def run(options: argparse.Namespace) -> str:
    """What the command line asks for; returns a line that sums it up."""
    settings, augmented = train_recipe(options.epochs)
    given = {name: getattr(options, name) for name in ("batch_size", "learning_rate", "seed")}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    if options.augmentation:
        augmented = augmentation(options.augmentation)
    targets = [FoldOf(load_data_set(name), options.fold) for name in options.targets]
    of_target = {one.data_set.name: one.fold for one in targets}
    sets = [load_data_set(name) for name in options.dataset]
    sets = [FoldOf(data_set, of_target.get(data_set.name, "0")) for data_set in sets]
    curves = find_project() / "reports" / "pretrained" / Path(options.output).stem
    trained, clips = pretrain(sets, targets, options.output, settings, augmented, options.objective, curves)
    told = ", ".join(f"{one.data_set.name} {count} clips ({clips.left_out[one.data_set.name]} left out)"
                     for one, count in zip(sets, clips.counts, strict=True))
    if trained is None:
        return f"{options.output}: there already, of these clips, settings and code; {told}"
    losses = trained.curves["train_loss"]
    return (f"{options.output}: {told}; {len(losses)} epochs, last loss {losses.iloc[-1]:.3f}, "
            f"{trained.seconds:.0f} s, {trained.clips_per_second:.0f} clips/s on {torch.get_num_threads()} threads")


def main(arguments: list[str] | None = None) -> int:
    """Command line; prints an InputError's sentence alone and returns 1."""
    parser = argparse.ArgumentParser(prog="python -m slr_lib.pretraining", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", nargs="+", action="extend", required=True, metavar="NAME",
                        help="sets to train on; the first one's head is kept")
    parser.add_argument("--for", nargs="+", action="extend", default=[], dest="targets", metavar="NAME",
                        help="sets to hold out the validation and test clips of, too")
    parser.add_argument("--fold", default="0", help="of the sets that it is for (default: %(default)s)")
    parser.add_argument("--objective", choices=(SIGNS, MASKED), default=SIGNS, help="default: %(default)s")
    parser.add_argument("--output", required=True, metavar="FILE", help="checkpoint to write")
    parser.add_argument("--epochs", type=int, help="default: params.yaml's, as for all that follows")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--augmentation", help="none, weak or strong")
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(arguments)
    return exit_status(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
