"""Scores of a recogniser on a part of a data set: in per cent, with an interval, by sign, by signer, by confusion.

Averages over signs go over those that occur in the part measured (a test split need not hold every sign). Shapes:
n clips, N signs, R resamples, S signers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from slr_lib.errors import InputError

RESAMPLES = 2000
FEWEST_SIGNERS = 10  # below, resampling signers says little: resample clips, and say so
FEWEST_CLIPS = 30  # below, the clips of unseen signers get no figures of their own


def evaluate_predictions(
    scores: np.ndarray,
    labels: np.ndarray,
    signers: Sequence[str] | None = None,
    unseen: np.ndarray | None = None,
    glosses: Sequence[str] | None = None,
    seed: int = 0,
) -> dict:
    """All figures of one model on one part.

    Args:
        scores: [n, N] logits or probabilities; labels: int [n].
        signers: n names, '' where unknown; None where no signer is known.
        unseen: bool [n], the clip's signer is in no training clip; None where that is unknown.
        glosses: N names, checked against the scores' width; seed: of the bootstrap.

    Returns:
        n_test, mean_accuracy (over signs; with mean_accuracy_low and _high, its 95 % bootstrap percentile interval),
        top1, top5 (over clips), macro_precision, macro_recall, macro_f1, all in per cent; interval_over: `signers` or
        `clips`, what was resampled; unseen_signers: the same keys, and `signs`, the number of signs that occur, over
        the clips of unseen signers, or None where these are fewer than 30 or unknown.

    Raises:
        InputError: no clips, shapes that disagree, labels without a score, or scores that are no numbers.
    """
    scores, labels = _check(scores, labels, glosses)
    names = None if signers is None else np.asarray(signers, dtype=str)
    if names is not None and len(names) != len(labels):
        raise InputError(f"{len(labels)} clips, but {len(names)} signers; give one signer a clip.")
    figures = _figures(scores, labels, names, seed)
    figures["unseen_signers"] = None
    if unseen is not None:
        chosen = np.asarray(unseen, dtype=bool)
        if chosen.sum() >= FEWEST_CLIPS:
            part = _figures(scores[chosen], labels[chosen], None if names is None else names[chosen], seed)
            figures["unseen_signers"] = {**part, "signs": len(np.unique(labels[chosen]))}
    return figures


def quick_figures(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """top1 and mean_accuracy as in `evaluate_predictions`, without the interval: for every epoch of a training."""
    scores, labels = _check(scores, labels, None)
    _, n, hits, _ = _counts(scores.argmax(1), labels, scores.shape[1])
    return float(100 * hits.sum() / n.sum()), float(100 * (hits / n).mean())


def per_sign_table(scores: np.ndarray, labels: np.ndarray, glosses: Sequence[str]) -> pd.DataFrame:
    """gloss, n, accuracy (per cent), precision and f1 (per cent), a row for every sign that occurs, in class order."""
    scores, labels = _check(scores, labels, glosses)
    found, n, hits, predicted = _counts(scores.argmax(1), labels, scores.shape[1])
    precision, recall, f1 = _rates(n, hits, predicted)
    return pd.DataFrame({
        "gloss": [glosses[i] for i in found], "n": n, "accuracy": 100 * recall, "precision": 100 * precision,
        "f1": 100 * f1,
    })


def per_signer_table(
    scores: np.ndarray, labels: np.ndarray, signers: Sequence[str], unseen: np.ndarray | None = None
) -> pd.DataFrame:
    """signer, n, accuracy (of his clips, per cent), seen (in training; True where unknown), sorted by name."""
    scores, labels = _check(scores, labels, None)
    table = pd.DataFrame({
        "signer": np.asarray(signers, dtype=str), "hit": scores.argmax(1) == labels,
        "seen": True if unseen is None else ~np.asarray(unseen, dtype=bool),
    })
    grouped = table.groupby("signer", sort=True)
    return pd.DataFrame({"n": grouped.size(), "accuracy": 100 * grouped["hit"].mean(), "seen": grouped["seen"].first()}
                        ).reset_index()


def confusion_table(scores: np.ndarray, labels: np.ndarray, glosses: Sequence[str]) -> pd.DataFrame:
    """gloss, taken_for, count, share (of the gloss's clips, 0 to 1): every pair confused, the most frequent first."""
    scores, labels = _check(scores, labels, glosses)
    predicted = scores.argmax(1)
    wrong = predicted != labels
    pairs, count = np.unique(np.stack([labels[wrong], predicted[wrong]], 1), axis=0, return_counts=True)
    n = np.bincount(labels, minlength=scores.shape[1])
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -count))
    pairs, count = pairs[order], count[order]
    return pd.DataFrame({
        "gloss": [glosses[i] for i in pairs[:, 0]], "taken_for": [glosses[i] for i in pairs[:, 1]], "count": count,
        "share": count / np.maximum(n[pairs[:, 0]], 1),
    })


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Place of the true sign among the scores, int [n], 0 is first; ties go to the lower class, as in arg-max."""
    own = np.take_along_axis(scores, labels[:, None], 1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(1)


def bootstrap_interval(
    hits: np.ndarray, labels: np.ndarray, groups: np.ndarray | None, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % percentile interval of the mean accuracy over signs, as a share.

    Args:
        hits: bool [n]; labels: int [n]; groups: what is resampled, int [n] (a signer's clips stay together), or None
        for single clips. A sign that a resample misses is left out of that resample's average.
    """
    random = np.random.default_rng(seed)
    order = np.argsort(labels, kind="stable")
    hits = hits[order].astype(np.float32)
    starts = np.flatnonzero(np.r_[True, np.diff(labels[order]) > 0])
    count = len(labels) if groups is None else int(groups.max()) + 1
    means = []
    for _ in range(0, resamples, 250):  # by 250, or 20,000 clips would take a gigabyte
        drawn = random.multinomial(count, np.full(count, 1 / count), size=250).astype(np.float32)
        weight = drawn[:, order] if groups is None else drawn[:, groups[order]]
        n = np.add.reduceat(weight, starts, axis=1)
        right = np.add.reduceat(weight * hits, starts, axis=1)
        share = np.divide(right, n, out=np.zeros_like(n), where=n > 0)
        means.append(share.sum(1) / np.maximum((n > 0).sum(1), 1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def _check(scores: np.ndarray, labels: np.ndarray, glosses: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores), np.asarray(labels, dtype=np.int64)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise InputError(f"scores {list(scores.shape)} and labels {list(labels.shape)} do not fit; give scores [n, N] "
                         "and labels [n] of at least one clip.")
    if not np.isfinite(scores).all():
        raise InputError("the scores hold values that are no numbers; their model is damaged, train it again.")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        odd = labels.min() if labels.min() < 0 else labels.max()
        raise InputError(f"label {odd} has no score among {scores.shape[1]}; number labels by the model's own glosses.")
    if glosses is not None and len(glosses) != scores.shape[1]:
        raise InputError(f"{len(glosses)} glosses for {scores.shape[1]} scores; give the model's own list of signs.")
    return scores, labels


def _counts(predicted: np.ndarray, labels: np.ndarray, signs: int) -> tuple[np.ndarray, ...]:
    """Of each sign that occurs: its class, clips, hits and predictions."""
    n = np.bincount(labels, minlength=signs)
    hits = np.bincount(labels[predicted == labels], minlength=signs)
    taken = np.bincount(predicted, minlength=signs)
    found = np.flatnonzero(n)
    return found, n[found], hits[found], taken[found]


def _rates(n: np.ndarray, hits: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision (0 where a sign was never predicted), recall and F1 of each sign."""
    return hits / np.maximum(predicted, 1), hits / n, 2 * hits / (n + predicted)


def _figures(scores: np.ndarray, labels: np.ndarray, signers: np.ndarray | None, seed: int) -> dict:
    place = ranks(scores, labels)
    _, *counts = _counts(scores.argmax(1), labels, scores.shape[1])
    precision, recall, f1 = (float(100 * rate.mean()) for rate in _rates(*counts))
    groups = None
    if signers is not None and (signers != "").all():
        names, groups = np.unique(signers, return_inverse=True)
        if len(names) < FEWEST_SIGNERS:
            groups = None
    low, high = bootstrap_interval(place == 0, labels, groups, seed)
    return {
        "n_test": len(labels),
        "mean_accuracy": recall, "mean_accuracy_low": 100 * low, "mean_accuracy_high": 100 * high,
        "top1": float(100 * (place == 0).mean()), "top5": float(100 * (place < 5).mean()),
        "macro_precision": precision, "macro_recall": recall, "macro_f1": f1,
        "interval_over": "clips" if groups is None else "signers",
    }
