"""What "better" is measured against: three recognisers written anew from their descriptions, trained by the project's
own code on the same tasks. Each takes the tensors of a Batch (slr_lib.augment) and has `outputs` and `head_dropout` as
slr_lib.model.Recognition has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from references.gislr_first_place import AUGMENTATION, HEAD_DROPOUT, LATE_EPOCH, FirstPlace
from references.gru import Gru
from references.predecessor import Predecessor
from slr_lib.augment import STRENGTHS, AugmentSettings
from slr_lib.skeleton import Skeleton


@dataclass(frozen=True)
class Reference:
    """A reference and how its description trains it.

    module: made of a selected skeleton and the number of signs. settings: of slr_lib.fitting.TrainSettings, but for
    the seed. augmentation: of its training.
    """

    module: type[nn.Module]
    settings: dict
    augmentation: AugmentSettings = STRENGTHS["strong"]


# stated, not left to TrainSettings' defaults: a change of the project's own recipe must not change a reference. Steps
# are no fewer than the recogniser's; epochs are, since as many would take three times as long.
_COMMON = {"epochs": 50, "least_steps": 8000, "batch_size": 32, "optimiser": "adamw", "weight_decay": 0.05,
           "warmup_share": 0.1, "label_smoothing": 0.1, "focal_gamma": 0.0, "ema": False, "clip_norm": 1.0}
# learning rates for batches of 32 clips; none is tuned to a data set
REFERENCES = {
    "gislr": Reference(
        FirstPlace,
        {**_COMMON, "learning_rate": 1e-3, "weight_decay": 0.1, "head_dropout": HEAD_DROPOUT,
         "late_head_dropout": HEAD_DROPOUT},
        AUGMENTATION,
    ),
    "gru": Reference(
        Gru, {**_COMMON, "learning_rate": 1e-3, "head_dropout": 0.4, "late_head_dropout": 0.4}
    ),
    # its auxiliary heads weigh 0.05, 0.1 and 0.2, here a third of the sum each
    "predecessor": Reference(
        Predecessor,
        {**_COMMON, "learning_rate": 3e-4, "focal_gamma": 2.0, "auxiliary_weight": 0.35, "head_dropout": 0.1,
         "late_head_dropout": 0.1},
    ),
}


def build_reference(name: str, skeleton: Skeleton, signs: int, steps: int, seed: int = 0) -> nn.Module:
    """A reference with fresh weights that depend on the seed alone.

    Args:
        skeleton: the selected one, of the batches' points; steps: optimiser steps of an epoch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = REFERENCES[name].module(skeleton, signs)
    if isinstance(model, FirstPlace):
        model.head_dropout.start = LATE_EPOCH * steps
    return model
