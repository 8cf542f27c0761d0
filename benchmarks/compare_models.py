"""Train the recogniser or a reference on the same task and splits, and put its figures into one table.

    python benchmarks/compare_models.py --model gislr --dataset wlasl_hands --signs 100 --seed 0 1 2
    python benchmarks/compare_models.py --model gislr --dataset wlasl_hands --signs 100 --seed 0 1 2 --test
    python benchmarks/compare_models.py --model ours --checkpoint model.int8.onnx --name "ours, 8 bits"
    python benchmarks/compare_models.py --model ours --start data/pretrained/wlasl.safetensors --name "ours, pretrained"
    python benchmarks/compare_models.py --model ours --dataset isl_kinect30 --signs 30 --refit --name refitted --test
    python benchmarks/compare_models.py --table

The epoch is chosen on the validation part alone; with --refit the clips of this part train too, and the last epoch is
kept. The test part is met once, and only with --test. A run is one row of
reports/models.csv, with the rank of every clip's true sign in a file beside it, for paired comparisons. Rows that are
there are not computed again (--again: they are), a killed training goes on from its last epoch, and several commands
may write to the table at once. The recogniser's recipe is the section `train` of params.yaml, a reference's its own;
`recipe` is a hash of all settings, of the skeleton's file and its clips' views where there are any and of the file that
a run starts from, `code` one of the source. A start must have held out the task's validation and test clips
(slr_lib.pretraining). The clips must be prepared: `python -m slr_lib.pipeline --dataset NAME -- repro prepare_clips`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from model_table import KEY, find_row, locked, put_row, read_table, render
from references import REFERENCES, build_reference
from slr_lib.augment import AugmentSettings, augmentation
from slr_lib.batches import Batch
from slr_lib.checkpoint import Checkpoint, load_checkpoint
from slr_lib.data_sets import DataSet, find_project, load_data_set
from slr_lib.engines import OnnxEngine
from slr_lib.errors import InputError
from slr_lib.evaluation import predict
from slr_lib.fitting import TrainSettings
from slr_lib.index import read_index, write_table
from slr_lib.metrics import quick_figures, ranks
from slr_lib.model import ModelConfig, build, count_parameters
from slr_lib.notebook import read_params
from slr_lib.packed_clips import PackedClips
from slr_lib.parts import check_parts
from slr_lib.pretraining import check_start, train_recipe
from slr_lib.skeleton import load_skeleton
from slr_lib.splits import TEST, TRAIN, VAL, folds
from slr_lib.tasks import Task
from slr_lib.training import Trained, code_digest, fit, train
from slr_lib.views import MEASURED
from threads import spin_briefly

OURS = "ours"
TRAINED = ("code", "seconds", "device", "threads")  # of a row: how it was trained, whenever it is measured


@dataclass(frozen=True)
class Run:
    """One model on one task with one seed: what it is called, and all that decides about it.

    model: `ours` or a reference's name; name: in the table; checkpoint: a trained recogniser or its export to measure
    instead; start: a checkpoint to train on from; refit: the validation part trains too.
    """

    model: str
    name: str
    data_set: DataSet
    signs: int
    fold: str
    settings: TrainSettings
    augmentation: AugmentSettings | None
    checkpoint: Path | None = None
    start: Path | None = None
    refit: bool = False

    @property
    def recipe(self) -> str:
        """Hash of the settings but for seed and epochs, which the table names; of the file, where there is one; of the
        skeleton, where a file describes it; of the views of clips with measured depth.

        A reference's are those that it states, so that a setting added to the project leaves its rows as they are.
        """
        if self.checkpoint is not None:
            return sha256(self.checkpoint)[:8]
        settings = asdict(replace(self.settings, seed=0, epochs=0))
        if self.model == OURS:
            shape = {field.name: field.default for field in fields(ModelConfig) if field.default is not MISSING}
        else:
            shape = self.model
            settings = {name: settings[name] for name in REFERENCES[self.model].settings}
        plain = asdict(AugmentSettings())
        augmented = asdict(self.augmentation or AugmentSettings())
        described = [shape, settings, {name: value for name, value in augmented.items() if value != plain[name]}]
        if (skeleton := self.data_set.skeleton_file) is not None:  # its parts decide; the built-in ones are code
            described.append(sha256(skeleton))
        if not load_skeleton(self.data_set.skeleton_source).depth_by_part:
            described.append(asdict(MEASURED))
        if self.start is not None:
            described.append(sha256(self.start))
        if self.refit:
            described.append("refit")
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def key(self) -> dict:
        """The table's columns KEY."""
        values = (self.name, self.data_set.name, self.signs, self.fold, self.settings.seed, self.settings.epochs,
                  self.recipe)
        return dict(zip(KEY, values, strict=True))

    @property
    def title(self) -> str:
        """The key as a file's name."""
        return "-".join(str(value).replace(" ", "_") for value in self.key.values())

    def task(self) -> Task:
        """The clips; the same for all models but for how training clips are augmented, a start's scale, and --refit."""
        return Task(self.data_set, self.signs, self.fold, batch_size=self.settings.batch_size,
                    strength=self.augmentation or "none", seed=self.settings.seed,
                    statistics=load_checkpoint(self.start).statistics if self.start else None, refit=self.refit)


def plan(options: argparse.Namespace) -> list[Run]:
    """The runs that the command line asks for.

    Raises:
        InputError: an unknown data set, fold or setting, or a checkpoint that cannot be read.
    """
    data_set = load_data_set(options.dataset)
    settings, augmented = recipe_of(options.model, options.epochs)
    given = {"batch_size": options.batch_size, "learning_rate": options.learning_rate}
    settings = replace(settings, **{key: value for key, value in given.items() if value is not None})
    if options.augmentation:
        augmented = augmentation(options.augmentation)
    checkpoint = Path(options.checkpoint) if options.checkpoint else None
    if checkpoint is not None:
        if options.model != OURS or options.name in (None, OURS, *REFERENCES):
            raise InputError("--checkpoint measures a trained recogniser: give --model ours and a --name of its own.")
        trained = trained_model(checkpoint)[1].training["settings"]
        settings = replace(settings, epochs=trained["epochs"])
    start = Path(options.start) if options.start else None
    if start is not None and (options.model != OURS or checkpoint or options.name in (None, OURS, *REFERENCES)):
        raise InputError("--start is for --model ours without --checkpoint, under a --name of its own.")
    known = folds(data_set, read_index(data_set))
    wanted = known if options.fold == ["all"] else options.fold
    if unknown := [fold for fold in wanted if fold not in known]:
        raise InputError(f"data set {data_set.name} has no fold {unknown[0]}; choose of {', '.join(known)}, or all.")
    if options.refit and (checkpoint or options.name in (None, OURS, *REFERENCES)):
        raise InputError("--refit trains on more clips: give a --name of its own, and no --checkpoint.")
    if options.refit and not options.test:
        raise InputError("--refit leaves no validation part to measure: give --test.")
    packed = PackedClips(data_set.clips)
    for fold in wanted:
        check_parts(data_set, packed, fold, **read_params("prepare_clips"))
        if start is not None:
            check_start(start, data_set, fold)
    return [
        Run(options.model, options.name or options.model, data_set, options.signs, fold, replace(settings, seed=seed),
            augmented, checkpoint, start, options.refit)
        for fold in wanted for seed in options.seed
    ]


def recipe_of(model: str, epochs: int | None = None) -> tuple[TrainSettings, AugmentSettings | None]:
    """Settings and augmentation of a model: of the recogniser those of params.yaml, of a reference its own."""
    if model == OURS:
        return train_recipe(epochs)
    reference = REFERENCES[model]
    settings = TrainSettings(**reference.settings)
    if epochs is not None:
        settings = replace(settings, epochs=epochs, least_steps=0)
    return settings, reference.augmentation


def weights_of(run: Run) -> Path:
    """Where a run's weights lie; kept, so that the test part can be met later."""
    folder = run.data_set.data / "compared" / f"{run.signs}-{run.fold}"
    return run.checkpoint or folder / f"{run.title}.safetensors"


def train_run(run: Run, task: Task) -> Trained:
    """Train a run by the project's own code, and write its weights."""
    path = weights_of(run)
    curves = find_project() / "reports" / "models" / f"{run.title}.curves"
    if run.model == OURS:
        return train(task, run.settings, path, curves, start=run.start)
    model = build_reference(run.model, task.skeleton, len(task.glosses), len(task.train_batches(0)), run.settings.seed)

    def write(trained: Trained) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.part")
        weights = {name: tensor.contiguous() for name, tensor in trained.weights.items()}
        draft.write_bytes(save(weights, metadata={"metrics": json.dumps(trained.metrics)}))
        draft.replace(path)

    return fit(model, task, run.settings, path, [run.model, code(run.model)], write, curves)


class Exported(nn.Module):
    """An export in the place of its model, whose parameters it has, computed by ONNX Runtime."""

    def __init__(self, engine: OnnxEngine):
        super().__init__()
        self.engine, self.model = engine, build(engine.checkpoint.config)

    def forward(self, *inputs: Tensor) -> Tensor:
        """As of Recognition."""
        labels = torch.zeros(len(inputs[0]), dtype=torch.long)
        return torch.from_numpy(self.engine.logits(Batch(*inputs, labels)))


def trained_model(path: Path) -> tuple[nn.Module, Checkpoint]:
    """The model of a recogniser's checkpoint or export, in evaluation mode, and what is written with it."""
    if path.suffix == ".onnx":
        engine = OnnxEngine(path)
        return Exported(engine), engine.checkpoint
    checkpoint = load_checkpoint(path)
    return checkpoint.model(), checkpoint


def load_run(run: Run, task: Task) -> tuple[nn.Module, dict]:
    """The trained model of a run, in evaluation mode, and its metrics."""
    path = weights_of(run)
    if run.model == OURS:
        model, checkpoint = trained_model(path)
        if checkpoint.glosses != task.glosses:
            raise InputError(f"{path}: trained on other signs than the first {run.signs} of {run.data_set.name}.")
        return model, checkpoint.metrics
    model = build_reference(run.model, task.skeleton, len(task.glosses), len(task.train_batches(0)))
    with safe_open(path, framework="pt", device="cpu") as file:
        metrics = json.loads(file.metadata()["metrics"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    try:
        model.load_state_dict(weights)
    except RuntimeError:  # other names or shapes
        raise InputError(f"{path}: weights of another version of {run.model}; train anew with --again.") from None
    return model.eval(), metrics


def measure(model: nn.Module, task: Task, part: str) -> tuple[dict, pd.DataFrame]:
    """Figures of a part (per cent; names begin with the part's), and a row a clip: part, clip, gloss, rank from 0."""
    batches = task.val_batches() if part == VAL else task.test_batches()
    scores, labels = predict(model, batches), task.labels(part)
    place = ranks(scores, labels)
    figures = {"clips": len(labels), "top1": 100 * (place < 1).mean(), "top5": 100 * (place < 5).mean(),
               "mean_accuracy": quick_figures(scores, labels)[1]}
    clips = task.packed.table.iloc[task.rows(part)]
    table = pd.DataFrame({"part": part, "clip": clips["clip"], "gloss": clips["gloss"], "rank": place})
    return {f"{part}_{name}": value for name, value in figures.items()}, table


def carry_out(run: Run, table: Path, test: bool, again: bool) -> dict:
    """Train and measure a run as far as the table lacks it; returns its row.

    Raises:
        InputError: the clips are not prepared, or the test part has none of the signs.
    """
    row = find_row(read_table(table), run.key)
    tested = row is not None and not np.isnan(row["test_clips"])
    if row is not None and not again and (tested or not test):
        print(f"{run.title}: in the table already")
        return row
    task, trained = run.task(), {name: np.nan if row is None else row[name] for name in TRAINED}
    if run.checkpoint is None and (again or not weights_of(run).is_file()):
        trained = dict(zip(TRAINED, (code(run.model), round(train_run(run, task).seconds, 1), device(),
                                     torch.get_num_threads()), strict=True))
    model, metrics = load_run(run, task)
    parts = [part for part, wanted in ((VAL, len(task.rows(VAL))), (TEST, test or tested)) if wanted]
    if test and not len(task.rows(TEST)):
        raise InputError(f"{run.data_set.clips}: the test part of fold {run.fold} has no clip of these signs.")
    measured = [measure(model, task, part) for part in parts]
    clips = table.parent / "models" / f"{run.title}.csv"
    write_table(pd.concat([rows for _, rows in measured]), clips)
    row = {**run.key, "date": time.strftime("%Y-%m-%d %H:%M"), **trained, "parameters": count_parameters(model),
           "epoch": metrics["epoch"], "train_clips": len(task.rows(TRAIN)), "clips": clips.name}
    for figures, _ in measured:
        row |= {name: round(float(value), 3) for name, value in figures.items()}
    with locked(table):  # others may have written meanwhile
        write_table(put_row(read_table(table), row, run.key), table)
    return row


def device() -> str:
    """What trains here: the GPU's name, or `cpu`."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def code(model: str) -> str:
    """Hash of the source that decides about a run of a model."""
    digest = hashlib.sha256(code_digest().encode())
    if model != OURS:
        module = sys.modules[REFERENCES[model].module.__module__]
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()[:8]


def main(arguments: list[str] | None = None) -> int:
    """Command line; prints an InputError's sentence alone and returns 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=(OURS, *REFERENCES))
    parser.add_argument("--dataset", default="wlasl_hands", help="name or YAML file (default: %(default)s)")
    parser.add_argument("--signs", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--fold", nargs="+", default=["0"], help="folds, or `all` (default: 0)")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="one or several (default: 0)")
    parser.add_argument("--epochs", type=int, help="default: params.yaml's, more for few clips")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float, help="default: the model's own, as for augmentation")
    parser.add_argument("--augmentation", help="none, weak or strong")
    parser.add_argument("--refit", action="store_true", help="train on the validation part too (with --name)")
    parser.add_argument("--test", action="store_true", help="meet the test part")
    parser.add_argument("--again", action="store_true", help="train anew and replace the row")
    parser.add_argument("--checkpoint", help="measure this trained recogniser instead (with --name and --seed)")
    parser.add_argument("--start", help="train on from this checkpoint (with --name)")
    parser.add_argument("--name", help="in the table (default: the model's)")
    parser.add_argument("--table", action="store_true", help="print the table, and write it to reports/models.md")
    options = parser.parse_args(arguments)
    if not options.table and not options.model:
        parser.error("give --model or --table")
    try:
        table = find_project() / "reports" / "models.csv"
        for run in plan(options) if options.model else ():
            row = carry_out(run, table, options.test, options.again)
            part = TEST if options.test else VAL
            print(f"{run.title}: {part} top-1 {row[f'{part}_top1']:.1f}, top-5 {row[f'{part}_top5']:.1f}")
        if options.table:
            text = render(read_table(table), table.parent / "models", tuple(REFERENCES))
            (table.parent / "models.md").write_text(text, encoding="utf-8")
            print(text, end="")
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    spin_briefly()
    sys.exit(main())
