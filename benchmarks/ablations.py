"""Change one choice of the recogniser's recipe at a time, and put what the validation part says of it into one table.

    python benchmarks/ablations.py                                  # every variation, three seeds
    python benchmarks/ablations.py --only "no depth" "no noise" --seed 0 1 2
    python benchmarks/ablations.py --table

The recipe is the section `train` of params.yaml with a shortened schedule (--epochs). Nothing is picked: a figure is
the mean over the last ten epochs. The test part is not met. A run is one row of reports/ablations.csv; rows that
are there are not computed again (--again: they are), a killed training goes on from its last epoch, several commands
may write at once. --table prints the table, and writes it to reports/ablations.md. The clips must be prepared:
`python -m slr_lib.pipeline --dataset NAME -- repro prepare_clips`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from model_table import find_row, locked, put_row
from slr_lib.augment import STRENGTHS, AugmentSettings
from slr_lib.data_sets import DataSet, find_project, load_data_set
from slr_lib.errors import InputError, exit_status
from slr_lib.index import write_table
from slr_lib.model import ModelConfig, Recognition, build
from slr_lib.notebook import read_params
from slr_lib.packed_clips import PackedClips
from slr_lib.parts import check_parts
from slr_lib.pretraining import train_recipe
from slr_lib.tasks import Task
from slr_lib.training import Trained, code_digest, fit
from threads import spin_briefly

RECIPE = "the recipe"
LAST = 10  # epochs whose mean is the figure
KEY = ("variation", "data_set", "signs", "epochs", "seed", "recipe")
FIGURES = ("val_top1", "val_mean_accuracy", "val_loss", "train_loss")


@dataclass(frozen=True)
class Variation:
    """What differs from the recipe: fields of TrainSettings, of AugmentSettings and of ModelConfig; a change of the
    network; settings of another strength of augmentation instead of the recipe's."""

    settings: dict = field(default_factory=dict)
    augmentation: dict = field(default_factory=dict)
    shape: dict = field(default_factory=dict)
    alter: Callable[[Recognition], None] | None = None
    strength: str | None = None


class Silent(nn.Module):
    """PartFeatures of which some rows are zero.

    Args:
        kinds: of `place`, `relative`, `speed`, `change` (a row a point each), `bones` and `share`.
    """

    def __init__(self, features: nn.Module, kinds: tuple[str, ...]):
        super().__init__()
        self.inner, self.rows = features, features.rows
        self.kept = []
        for size, bones in zip(features.sizes, features.bones, strict=True):
            counts = {"place": size, "relative": size, "speed": size, "change": size, "bones": bones, "share": 1}
            kept = [float(kind not in kinds) for kind, count in counts.items() for _ in range(count)]
            self.kept.append(torch.tensor(kept).repeat_interleave(features.coordinates))

    def forward(self, *arguments: Tensor) -> tuple[list[Tensor], Tensor]:
        """As PartFeatures."""
        rows, present = self.inner(*arguments)
        return [values * kept.to(values) for values, kept in zip(rows, self.kept, strict=True)], present


def without(*kinds: str) -> Callable[[Recognition], None]:
    """The network without some kinds of features."""
    def alter(model: Recognition) -> None:
        model.features = Silent(model.features, kinds)

    return alter


def without_mixer(model: Recognition) -> None:
    """The network whose parts do not look at each other before they are joined."""
    model.mixer = nn.Identity()


def without_query(model: Recognition) -> None:
    """The network whose learned query prefers no frame: a second mean."""
    nn.init.zeros_(model.query.score.weight)
    nn.init.zeros_(model.query.score.bias)
    model.query.score.requires_grad_(False)


def without_channel_attention(model: Recognition) -> None:
    """The network whose local blocks gate no channel."""
    for block in model.locals:
        block.attention = _Ungated()


class Cosines(nn.Module):
    """Logits that are cosines between a clip's vector and each sign's, times a learned scale, zero at first.

    Args:
        width: of a vector; signs: N.
    """

    def __init__(self, width: int, signs: int):
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(signs, width))
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, N]."""
        return 16 * self.scale * functional.linear(functional.normalize(x), functional.normalize(self.vectors))


def with_cosines(model: Recognition) -> None:
    """The network whose logits are cosines."""
    model.head = Cosines(model.head.in_features, model.head.out_features)


class _Ungated(nn.Module):
    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        return x


class Unplaced(nn.Module):
    """A merging after which all frames lie at one time, for the rotary positions to say nothing."""

    def __init__(self, merging: nn.Module):
        super().__init__()
        self.merging = merging

    def forward(self, x: Tensor, frames: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As PairMerging."""
        x, frames, positions = self.merging(x, frames, positions)
        return x, frames, torch.zeros_like(positions)


def without_positions(model: Recognition) -> None:
    """The network whose global blocks do not know when a frame was."""
    model.merging = Unplaced(model.merging)


class Unmerged(nn.Module):
    """A linear layer in the place of PairMerging that leaves each frame by itself.

    Args:
        width: D.
    """

    def __init__(self, width: int):
        super().__init__()
        self.linear, self.norm = nn.Linear(width, width), nn.LayerNorm(width)

    def forward(self, x: Tensor, frames: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, D] -> the same shape, its frames and positions."""
        return self.norm(self.linear(x)), frames, positions


def without_merging(model: Recognition) -> None:
    """The network whose global blocks see as many frames as its local blocks."""
    model.merging = Unmerged(model.config.width)


class Unseen(nn.Module):
    """Zeros in the place of the first numbers of a vector.

    Args:
        count: of the numbers.
    """

    def __init__(self, count: int):
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> the same shape."""
        return functional.pad(x[:, self.count :], (self.count, 0))


def without_local_pooling(model: Recognition) -> None:
    """The network whose head sees the global blocks' frames alone, not those of the local blocks."""
    model.pooled.insert(0, Unseen(2 * model.config.width))


_STILL = dict.fromkeys(("scale", "stretch", "shear", "shift", "rotation", "turn"), 0.0)
VARIATIONS = {
    RECIPE: Variation(),
    "no depth": Variation(shape={"coordinates": 2}),
    "no first and second differences": Variation(alter=without("speed", "change")),
    "no second differences": Variation(alter=without("change")),
    "no coordinates relative to the part": Variation(alter=without("relative")),
    "no coordinates relative to body or picture": Variation(alter=without("place")),
    "no bone directions": Variation(alter=without("bones")),
    "a table of weights for each hand": Variation(shape={"twins": None}),
    "no attention across parts": Variation(alter=without_mixer),
    "no channel attention": Variation(alter=without_channel_attention),
    "no learned query": Variation(alter=without_query),
    "no share of points seen": Variation(alter=without("share")),
    "no rotary positions": Variation(alter=without_positions),
    "no second merging of frames": Variation(alter=without_merging),
    "no pooling of the local blocks": Variation(alter=without_local_pooling),
    "local blocks alone": Variation(shape={"local_blocks": 5, "global_blocks": 0}),
    "global blocks alone": Variation(shape={"local_blocks": 0, "global_blocks": 5}),
    "kernel 5": Variation(shape={"kernel": 5}),
    "kernel 9": Variation(shape={"kernel": 9}),
    "four heads of attention across parts": Variation(shape={"part_heads": 4}),
    "width 128": Variation(shape={"width": 128}),
    "width 256": Variation(shape={"width": 256}),
    "no auxiliary heads": Variation({"auxiliary_weight": 0.0}),
    "no label smoothing": Variation({"label_smoothing": 0.0}),
    "focal loss, gamma 2": Variation({"focal_gamma": 2.0}),
    "MixUp 0.2": Variation({"mixup": 0.2}),
    "averaged weights": Variation({"ema": True}),
    "no drop-path": Variation({"drop_path": 0.0}),
    "logits from cosines": Variation(alter=with_cosines),
    "head dropout 0.6": Variation({"head_dropout": 0.6, "late_head_dropout": 0.6}),
    "head dropout 0.8 late": Variation({"late_head_dropout": 0.8}),
    "dropout 0.1 in the blocks": Variation({"dropout": 0.1}),
    "weight decay 0.3": Variation({"weight_decay": 0.3}),
    "AdamW alone, learning rate 1e-3": Variation({"optimiser": "adamw", "learning_rate": 1e-3}),
    "AdamW alone, learning rate 3e-3": Variation({"optimiser": "adamw", "learning_rate": 3e-3}),
    "learning rate 1e-2": Variation({"learning_rate": 1e-2}),
    "no warm-up": Variation({"warmup_share": 0.0}),
    "no clipping of gradients": Variation({"clip_norm": 0.0}),
    "learning rate 2.5e-3": Variation({"learning_rate": 2.5e-3}),
    "batches of 32": Variation({"batch_size": 32}),
    "32-bit floats": Variation({"precision": "32"}),
    "no augmentation": Variation(strength="none"),
    "weak augmentation": Variation(strength="weak"),
    "no change of tempo": Variation(augmentation={"tempo": 0.0, "crop": 0.0}),
    "no mirror": Variation(augmentation={"mirror": 0.0}),
    "no move, turn or scale": Variation(augmentation=_STILL),
    "moved, turned and scaled more": Variation(
        augmentation={"rotation": 30.0, "turn": 25.0, "shear": 0.25, "stretch": 0.4, "scale": 0.3}),
    "turned by up to 45 degrees": Variation(augmentation={"turn": 45.0}),
    "nothing hidden": Variation(augmentation={"hide_time": 0.0, "hide_part": 0.0}),
    "fingers as they are": Variation(augmentation={"bend": 0.0, "bones": 0.0}),
    "fingers bent twice as much": Variation(augmentation={"bend": 8.0, "bones": 0.16}),
    "no noise": Variation(augmentation={"noise": 0.0}),
}


@dataclass(frozen=True)
class Run:
    """One variation on one task with one seed."""

    name: str
    data_set: DataSet
    signs: int
    epochs: int
    seed: int
    recipe: str  # recipe_hash's when the command began

    @property
    def key(self) -> dict:
        """The table's columns KEY."""
        values = (self.name, self.data_set.name, self.signs, self.epochs, self.seed, self.recipe)
        return dict(zip(KEY, values, strict=True))

    def train(self) -> Trained:
        """Train; the weights are not kept.

        Raises:
            InputError: the clips are not prepared, or there is no validation part.
        """
        variation = VARIATIONS[self.name]
        settings, augmented = train_recipe(self.epochs)
        settings = replace(settings, seed=self.seed, **variation.settings)
        if variation.strength:
            augmented = STRENGTHS[variation.strength]
        augmented = replace(augmented or AugmentSettings(), **variation.augmentation)
        task = Task(self.data_set, self.signs, batch_size=settings.batch_size, strength=augmented, seed=self.seed)
        if task.val_batches() is None:
            raise InputError(f"{self.data_set.name}: no validation part, and nothing else may choose.")
        dropped = {name: getattr(settings, name) for name in ("dropout", "drop_path", "head_dropout")}
        config = ModelConfig.for_skeleton(task.skeleton, len(task.glosses), **dropped, **variation.shape)
        model = build(config, self.seed)
        if variation.alter:
            variation.alter(model)
        title = "-".join(str(value).replace(" ", "_") for value in self.key.values())
        # with a suffix, which the state for resuming takes the place of: else what follows the dot of "MixUp 0.2"
        target = self.data_set.data / "ablations" / f"{title}.safetensors"
        return fit(model, task, settings, target, [config.as_plain(), self.name], lambda trained: None,
                   find_project() / "reports" / "ablations" / title)


def recipe_hash() -> str:
    """Of all that the variations have in common: code and recipe."""
    settings, augmented = train_recipe()
    described = [code_digest(), asdict(settings), asdict(augmented or AugmentSettings())]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:8]


def read_rows(table: Path) -> pd.DataFrame:
    """The rows written so far."""
    columns = [*KEY, *FIGURES, "parameters", "seconds"]
    return pd.read_csv(table, dtype={"recipe": str}) if table.is_file() else pd.DataFrame(columns=columns)


def carry_out(run: Run, table: Path, again: bool) -> dict:
    """Train a run that the table lacks; returns its row."""
    row = find_row(read_rows(table), run.key)
    if row is not None and not again:
        return row
    trained = run.train()
    last = trained.curves.tail(LAST)
    row = {**run.key, **{name: round(last[name].mean(), 4) for name in FIGURES},
           "parameters": trained.metrics["parameters"], "seconds": round(trained.seconds, 1)}
    with locked(table):  # others may have written meanwhile
        write_table(put_row(read_rows(table), row, run.key), table)
    return row


def render(rows: pd.DataFrame) -> str:
    """Markdown: for every task and schedule, each variation's means over its seeds and how far they are from the
    recipe's; a difference is the mean over the seeds that both have, behind ± its standard error."""
    lines = []
    for (data_set, signs, epochs, recipe), task in rows.groupby(["data_set", "signs", "epochs", "recipe"]):
        lines += [f"## {data_set}, {signs} signs, {epochs} epochs, recipe {recipe}", "",
                  "| variation | seeds | val top-1 | less the recipe's | val mean accuracy | less the recipe's "
                  "| val loss | train loss | minutes a run |", "|" + "---|" * 9]
        base = task[task["variation"] == RECIPE].set_index("seed")
        for name, runs in task.groupby("variation", sort=False):
            runs = runs.set_index("seed")
            cells = [name, len(runs)]
            for figure in ("val_top1", "val_mean_accuracy"):
                cells += [f"{runs[figure].mean():.1f}", _difference(runs[figure] - base[figure], name)]
            cells += [f"{runs[figure].mean():.3f}" for figure in ("val_loss", "train_loss")]
            cells.append(f"{runs['seconds'].mean() / 60:.1f}")
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        lines.append("")
    return "\n".join(lines) if lines else "No run yet.\n"


def _difference(values: pd.Series, name: str) -> str:
    values = values.dropna()
    if name == RECIPE or not len(values):
        return ""
    error = f" ± {values.std() / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
    return f"{values.mean():+.1f}{error}"


def run(options: argparse.Namespace) -> str:
    """Carry out what the command line asks for; returns the table."""
    table = find_project() / "reports" / "ablations.csv"
    if not options.table:
        data_set, recipe = load_data_set(options.dataset), recipe_hash()
        check_parts(data_set, PackedClips(data_set.clips), "0", **read_params("prepare_clips"))
        for seed in options.seed:
            for name in options.only:
                row = carry_out(Run(name, data_set, options.signs, options.epochs, seed, recipe), table, options.again)
                print(f"{name}, seed {seed}: validation top-1 {row['val_top1']:.1f}, mean accuracy "
                      f"{row['val_mean_accuracy']:.1f}, loss {row['val_loss']:.3f}", flush=True)
    text = render(read_rows(table))
    table.with_suffix(".md").write_text(text, encoding="utf-8")
    return text


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="VARIATION", choices=tuple(VARIATIONS), default=tuple(VARIATIONS),
                        help="these variations: " + ", ".join(VARIATIONS))
    parser.add_argument("--dataset", default="wlasl_hands", help="name or YAML file (default: %(default)s)")
    parser.add_argument("--signs", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=40, help="of the shortened schedule (default: %(default)s)")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--again", action="store_true", help="train anew and replace the row")
    parser.add_argument("--table", action="store_true", help="the table of what is there, no training")
    options = parser.parse_args(arguments)
    return exit_status(lambda: run(options))


if __name__ == "__main__":
    spin_briefly()
    sys.exit(main())
