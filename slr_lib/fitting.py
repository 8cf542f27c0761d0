"""One epoch after another: what a training does at each step, on Lightning.

B batch, N signs. Every epoch seeds itself from (seed, epoch), and all else that a training remembers is in
`Fitting.state`, so that a run resumed from the end of an epoch is the run. (Lightning's own state would not do: resumed
from the end of an epoch, Lightning 2.6 leaves out the next epoch's start.)
"""

from __future__ import annotations

import copy
import math
import sys
from dataclasses import dataclass
from typing import Literal

import lightning.pytorch as lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from tqdm import tqdm

from slr_lib.losses import focal_cross_entropy, recognition_loss
from slr_lib.metrics import quick_figures
from slr_lib.mixup import draw_pairs, mix
from slr_lib.model import Outputs
from slr_lib.optimiser import make_optimiser
from slr_lib.processes import gather_rows, share_of_step

MOST_EPOCHS = 240  # that least_steps may ask for
_RANK_SEEDS = 1_000_000_007


@dataclass(frozen=True)
class TrainSettings:
    """How to train. Shares lie between 0 and 1.

    epochs; least_steps: a training part so small that its epochs are fewer optimiser steps gets more of them, up to
    three times as many and MOST_EPOCHS; batch_size: of the loader, kept with the checkpoint; optimiser: `muon` for the
    hidden layers' matrices with `adamw` for all else, or `adamw` alone; learning_rate: the highest; weight_decay: on
    matrices only; warmup_share: of all steps, linear, then a cosine down to 0;
    label_smoothing; focal_gamma: 0 is plain cross-entropy; auxiliary_weight: of the auxiliary heads; mixup: clips
    of a batch are mixed in pairs by shares of Beta(mixup, mixup), 0: not at all; dropout, drop_path: inside the
    blocks; head_dropout, before the last layer, rises to late_head_dropout over the second half of the training;
    ema: train on, but validate and keep the running mean of the weights, of which each step replaces 1 - ema_decay;
    clip_norm: of the gradients; precision: `bf16`, `32`, or `auto`: bf16 where the processor or GPU computes in it;
    strategy, devices: `auto` trains in this process on one device; `ddp` in `devices` processes, on a GPU each
    where there are any, each with batch_size clips a step; seed.
    """

    epochs: int = 160
    least_steps: int = 0
    batch_size: int = 128
    optimiser: Literal["muon", "adamw"] = "muon"
    learning_rate: float = 5e-3
    weight_decay: float = 0.05
    warmup_share: float = 0.1
    label_smoothing: float = 0.1
    focal_gamma: float = 0.0
    auxiliary_weight: float = 0.2
    mixup: float = 0.0
    dropout: float = 0.0
    drop_path: float = 0.2
    head_dropout: float = 0.4
    late_head_dropout: float = 0.4
    ema: bool = False
    ema_decay: float = 0.995
    clip_norm: float = 1.0
    precision: Literal["auto", "bf16", "32"] = "auto"
    strategy: Literal["auto", "ddp"] = "auto"
    devices: int = 1
    seed: int = 0


def enough_epochs(settings: TrainSettings, steps: int) -> int:
    """How many epochs of `steps` optimiser steps to train: `epochs`, or what `least_steps` makes of it."""
    wanted = math.ceil(settings.least_steps / steps)
    return max(settings.epochs, min(wanted, 3 * settings.epochs, MOST_EPOCHS))


def learning_rate_share(step: int, steps: int, warmup_share: float) -> float:
    """The schedule: share of the highest learning rate at optimiser step `step` (from 0) of `steps`.

    Linear from 1 / warm-up steps to 1, then half a cosine towards 0, reached one step after the last.
    """
    warmup = round(warmup_share * steps)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


class Fitting(lightning.LightningModule):
    """Trains a model on batches (slr_lib.batches.Batch); `curves` and `best` hold the outcome.

    Args:
        model: with `outputs` and `head_dropout` as Recognition has them; settings; steps: optimiser steps of an epoch;
        state: of an earlier process of this training.
    """

    def __init__(self, model: nn.Module, settings: TrainSettings, steps: int, state: dict | None = None):
        super().__init__()
        self.model, self.settings, self.steps = model, settings, steps
        self.average = copy.deepcopy(model).requires_grad_(False) if settings.ema else None
        self.curves: list[dict] = []
        self.best: dict = {}
        self.clips_seen = 0
        self.first_epoch = 0
        self._losses: list[Tensor] = []
        self._validated: list[tuple[Tensor, Tensor]] = []
        self._resumed = state
        if state is not None:
            self.first_epoch, self.curves, self.best = state["epochs"], state["curves"], state["best"]
            self.model.load_state_dict(state["model"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])

    @property
    def epoch(self) -> int:
        """The epoch at hand, from 0, over all processes of this training."""
        return self.first_epoch + self.current_epoch

    def state(self) -> dict:
        """All that the epochs to come depend on, when an epoch is over: tensors and plain values."""
        return {
            "epochs": self.epoch + 1, "curves": self.curves, "best": self.best, "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "optimiser": self.optimizers().optimizer.state_dict(), "schedule": self.lr_schedulers().state_dict(),
        }

    @property
    def together(self) -> bool:
        """Whether other processes train with this one."""
        return self.trainer.world_size > 1

    @property
    def kept(self) -> nn.Module:
        """The model that is validated and kept: the running mean of the weights where there is one."""
        return self.average or self.model

    def configure_optimizers(self):
        """The settings' optimiser with the schedule of `learning_rate_share`, counted by step."""
        s = self.settings
        optimiser = make_optimiser(self.model, s.optimiser, s.learning_rate, s.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: learning_rate_share(step, s.epochs * self.steps, s.warmup_share)
        )
        if self._resumed is not None:
            optimiser.load_state_dict(self._resumed["optimiser"])
            schedule.load_state_dict(self._resumed["schedule"])
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Seed the epoch, on each process otherwise; let dropout rise over the second half."""
        s = self.settings
        torch.manual_seed(s.seed * 1_000_003 + self.epoch + _RANK_SEEDS * self.global_rank)
        self._random = np.random.default_rng((s.seed, self.epoch, self.global_rank))
        late = max(0.0, 2 * self.epoch / max(1, s.epochs - 1) - 1)
        self.model.head_dropout.p = s.head_dropout + late * (s.late_head_dropout - s.head_dropout)

    def training_step(self, batch, _) -> Tensor:
        """Loss of a batch, kept for the curves."""
        loss = self.loss(batch)
        if self.together:
            loss = loss * share_of_step(batch.labels)
        self._losses.append(loss.detach())
        self.clips_seen += len(batch.labels)
        return loss

    def loss(self, batch) -> Tensor:
        """What a step minimises; pretraining minimises something else."""
        s = self.settings
        targets = [(batch.labels, None)]
        if s.mixup:
            batch, others, share = mix(batch, *draw_pairs(len(batch.labels), s.mixup, self._random))
            targets = [(batch.labels, share), (others, 1 - share)]
        outputs = self.outputs(batch)
        # clamped: labels of -1 are told by share_of_step
        return sum(recognition_loss(outputs, labels.clamp_min(0), s.label_smoothing, s.focal_gamma, s.auxiliary_weight,
                                    weights) for labels, weights in targets)

    def outputs(self, batch) -> Outputs:
        """What the model says of a batch in training."""
        return self.model.outputs(batch.points, batch.mask, batch.frames, batch.times)

    def configure_gradient_clipping(self, *_, **__) -> None:
        """Clip by norm. (Lightning's own clipping refuses the fused optimiser under mixed precision.)"""
        if self.settings.clip_norm > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)

    @torch.no_grad()
    def on_train_batch_end(self, _outputs, _batch, place: int) -> None:
        """Follow the weights with their running mean; faster at first, or it would remember the random start."""
        if self.average is not None:
            replaced = max(1 - self.settings.ema_decay, 1 / (2 + self.epoch * self.steps + place))
            pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
            averages, weights = (list(p) for p in zip(*pairs, strict=True))
            torch._foreach_lerp_(averages, weights, replaced)
            for average, followed in zip(self.average.buffers(), self.model.buffers(), strict=True):
                average.copy_(followed)  # running means themselves, of batch norm

    def validation_step(self, batch, _) -> None:
        """Keep logits and labels; in full precision, as the recogniser computes them."""
        with torch.autocast(self.device.type, enabled=False):
            logits = self.kept(batch.points, batch.mask, batch.frames, batch.times)
        self._validated.append((logits.float().cpu(), batch.labels.cpu()))

    def on_train_epoch_end(self) -> None:
        """A row of the curves; the best weights so far by mean accuracy (then by loss) on the validation part."""
        losses = torch.stack(self._losses).double()
        if self.together:
            losses = gather_rows(losses, self.device)
        loss = losses.mean().item()
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss of epoch {self.epoch} is {loss}; lower the learning rate")
        figures = dict.fromkeys(("val_loss", "val_top1", "val_mean_accuracy"), math.nan)
        if self._validated:
            logits, labels = (torch.cat(parts) for parts in zip(*self._validated, strict=True))
            if self.together:
                logits, labels = gather_rows(logits, self.device), gather_rows(labels, self.device)
                logits, labels = logits[labels >= 0], labels[labels >= 0]
            top1, mean_accuracy = quick_figures(logits.numpy(), labels.numpy())
            figures = {"val_loss": focal_cross_entropy(logits, labels).item(), "val_top1": top1,
                       "val_mean_accuracy": mean_accuracy}
        rate = self.optimizers().param_groups[0]["lr"]
        self.curves.append({"epoch": self.epoch, "train_loss": loss, **figures, "learning_rate": rate})
        score = [figures["val_mean_accuracy"], -figures["val_loss"]]
        if not self._validated or not self.best or score > self.best["score"]:
            weights = {name: value.detach().cpu().clone() for name, value in self.kept.state_dict().items()}
            self.best = {"epoch": self.epoch, "score": score, "weights": weights}
        self._losses.clear()
        self._validated.clear()


class ProgressBar(Callback):
    """A tqdm bar over all clips of the training, resumed ones included, with the last epoch's figures behind it."""

    def __init__(self, title: str):
        self.title = title
        self.bar: tqdm | None = None

    def on_train_start(self, trainer, module) -> None:
        """Open the bar where the run stands."""
        self.bar = tqdm(total=module.settings.epochs * module.steps, initial=module.first_epoch * module.steps,
                        desc=self.title, unit="step", mininterval=1 if sys.stderr.isatty() else 15)

    def on_train_batch_end(self, *_) -> None:
        """One step."""
        self.bar.update()

    def on_train_epoch_end(self, trainer, module) -> None:
        """The epoch's figures. (The module writes its row after the callbacks: these are of the epoch before.)"""
        if module.curves:
            row = module.curves[-1]
            validated = row["val_mean_accuracy"]
            validation = "no validation part" if math.isnan(validated) else f"validation {validated:.1f} %"
            self.bar.set_postfix_str(f"epoch {row['epoch']}: loss {row['train_loss']:.2f}, {validation}", refresh=False)

    def on_train_end(self, *_) -> None:
        """Close it."""
        self.bar.close()
