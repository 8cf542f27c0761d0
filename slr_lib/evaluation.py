"""The test split, met once: every model of a data set measured, the headline picked by validation beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from slr_lib.batches import Batch, ClipBatches
from slr_lib.checkpoint import Checkpoint, load_checkpoint
from slr_lib.data_sets import DataSet
from slr_lib.errors import InputError
from slr_lib.index import read_index
from slr_lib.metrics import confusion_table, evaluate_predictions, per_sign_table, per_signer_table
from slr_lib.splits import TEST, folds, unseen_signers
from slr_lib.tasks import Task
from slr_lib.views import mean_logits

MODELS = ("base", "round_1", "round_2")  # the training, and the rounds of fine-tuning that continue from it
HEADLINE = "headline"


@dataclass(frozen=True)
class Predictions:
    """Scores of one model, or of one a fold, on n test clips.

    scores: float32 [n, N] logits; labels: int64 [n]; signers: str [n], '' where unknown; unseen: bool [n], the signer
    is in no training or validation clip, or None where that is unknown.
    """

    scores: np.ndarray
    labels: np.ndarray
    signers: np.ndarray
    unseen: np.ndarray | None

    @classmethod
    def joined(cls, parts: list[Predictions]) -> Predictions:
        """The folds' predictions, one after another."""
        columns = [[getattr(part, name) for part in parts] for name in ("scores", "labels", "signers", "unseen")]
        return cls(*(None if any(value is None for value in column) else np.concatenate(column) for column in columns))

    def figures(self, glosses: tuple[str, ...], seed: int) -> dict:
        """metrics.evaluate_predictions of them."""
        signers = self.signers if (self.signers != "").any() else None
        return evaluate_predictions(self.scores, self.labels, signers, self.unseen, glosses, seed)


@torch.inference_mode()
def predict(model: nn.Module, batches: ClipBatches) -> np.ndarray:
    """Logits float32 [n, N] of some batches' clips, seen as slr_lib.views says, in the order of `batches.rows`."""

    def network(batch: Batch) -> np.ndarray:
        return model(batch.points, batch.mask, batch.frames, batch.times).numpy()

    logits = [mean_logits(network, batch, batches.skeleton, batches.mean, batches.std, batches.max_frames)
              for batch in batches]
    scores = np.empty((len(batches.rows), logits[0].shape[1]), np.float32)
    scores[np.concatenate(batches.order(0))] = np.concatenate(logits)
    return scores


def pick(candidates: dict[str, Checkpoint], without_validation: str) -> tuple[str, str]:
    """The model with the best mean accuracy on the validation part (the earlier one of equals), and why.

    Args:
        candidates: name -> checkpoint. without_validation: the name to take where no validation part was carved.

    Raises:
        InputError: `without_validation` is no candidate.
    """
    if without_validation not in candidates:
        raise InputError(
            f"params.yaml: evaluate.pick_without_validation is {without_validation!r}; "
            f"choose one of {', '.join(candidates)}."
        )
    scores = {name: checkpoint.metrics.get("val_mean_accuracy") for name, checkpoint in candidates.items()}
    if any(score is None for score in scores.values()):
        return without_validation, "fixed beforehand: no validation part"
    best = max(scores, key=scores.get)
    return best, "best mean accuracy on the validation part"


def evaluate_task(
    data_set: DataSet, signs: int, without_validation: str, seed: int = 0
) -> tuple[dict, dict[str, pd.DataFrame]]:
    """Measure the models of one class count on the test part; of several folds, on all their test parts together.

    Returns:
        Metrics: name of a model, or `headline` -> figures (metrics.evaluate_predictions), and of the headline also
        `model`, `picked_by`, and where there are several folds their mean accuracies, `folds`. Tables of the headline:
        per_sign, per_signer, confusions.

    Raises:
        InputError: a checkpoint is missing or was made for other signs, or the test part has none of the signs.
    """
    numbers = folds(data_set, read_index(data_set))
    measured, picks, reasons = [], [], []
    for fold in tqdm(numbers, desc=f"{signs} signs", unit="fold"):
        folder = data_set.models(signs, fold)
        checkpoints = {name: load_checkpoint(folder / f"{name}.safetensors") for name in MODELS}
        chosen, reason = pick(checkpoints, without_validation)
        picks.append(chosen)
        reasons.append(reason)
        measured.append(_measure(checkpoints, Task(data_set, signs, fold)))
    glosses = checkpoints[MODELS[0]].glosses
    models = {name: Predictions.joined([fold[name] for fold in measured]) for name in MODELS}
    best = Predictions.joined([fold[name] for fold, name in zip(measured, picks)])
    headline = {
        "model": picks[0] if len(set(picks)) == 1 else "by fold",
        "picked_by": reasons[0],
        **best.figures(glosses, seed),
    }
    if len(numbers) > 1:
        chosen = {fold: part[name] for fold, part, name in zip(numbers, measured, picks)}
        headline["folds"] = {fold: part.figures(glosses, seed)["mean_accuracy"] for fold, part in chosen.items()}
    tables = {
        "per_sign": per_sign_table(best.scores, best.labels, glosses),
        "per_signer": per_signer_table(best.scores, best.labels, best.signers, best.unseen),
        "confusions": confusion_table(best.scores, best.labels, glosses),
    }
    return {HEADLINE: headline, **{name: part.figures(glosses, seed) for name, part in models.items()}}, tables


def _measure(checkpoints: dict[str, Checkpoint], task: Task) -> dict[str, Predictions]:
    """Each model on the task's test part."""
    rows = task.rows(TEST)
    if not len(rows):
        raise InputError(f"{task.packed.folder}: the test part of fold {task.fold} has no clip of these signs; "
                         "the table of rejects tells which clips could not be used.")
    signers = task.packed.table["signer"].to_numpy(dtype=str)[rows]
    unseen = unseen_signers(task.packed.table, task.parts)
    found = {}
    for name, checkpoint in checkpoints.items():
        if checkpoint.glosses != task.glosses:
            raise InputError(f"the checkpoint {name} of {len(checkpoint.glosses)} signs was trained on another list of "
                             "signs; run the stage train again.")
        scores = predict(checkpoint.model(), task.test_batches())
        found[name] = Predictions(scores, task.labels(TEST), signers, None if unseen is None else unseen[rows])
    return found
