"""Figures against scikit-learn, the interval against a plain loop, tables against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from slr_lib.errors import InputError
from slr_lib.metrics import (
    bootstrap_interval,
    confusion_table,
    evaluate_predictions,
    per_sign_table,
    per_signer_table,
)

KEYS = {"n_test", "mean_accuracy", "mean_accuracy_low", "mean_accuracy_high", "top1", "top5", "macro_precision",
        "macro_recall", "macro_f1", "interval_over"}


def made_up(n: int, signs: int, seed: int, occurring: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, occurring or signs, n)
    scores = random.normal(size=(n, signs))
    scores[np.arange(n), labels] += 1.5
    return scores, labels


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(6, 12), st.integers(1, 6), st.integers(0, 999))
def test_figures_are_those_of_scikit_learn(n, signs, occurring, seed):
    scores, labels = made_up(n, signs, seed, occurring)
    figures = evaluate_predictions(scores, labels, glosses=[str(i) for i in range(signs)])
    predicted, found = scores.argmax(1), np.unique(labels)
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        labels, predicted, labels=found, average="macro", zero_division=0
    )
    expected = {"macro_precision": precision, "macro_recall": recall, "macro_f1": f1, "mean_accuracy": recall,
                "top1": sklearn.metrics.accuracy_score(labels, predicted),
                "top5": sklearn.metrics.top_k_accuracy_score(labels, scores, k=5, labels=np.arange(signs))}
    for name, share in expected.items():
        assert figures[name] == pytest.approx(100 * share), name
    assert set(figures) == KEYS | {"unseen_signers"}
    assert figures["n_test"] == n
    assert figures["mean_accuracy_low"] <= figures["mean_accuracy_high"]


def test_equal_scores_count_by_class_as_in_argmax():
    figures = evaluate_predictions(np.zeros((2, 10)), np.array([4, 5]))
    assert figures["top1"] == 0 and figures["top5"] == 50


def test_interval_is_the_bootstrap_of_a_plain_loop_over_signers():
    random = np.random.default_rng(1)
    labels, groups = random.integers(0, 8, 120), random.integers(0, 12, 120)
    hits = random.random(120) < 0.3 + 0.05 * groups
    means = []
    for _ in range(1500):
        drawn = random.integers(0, 12, 12)
        clips = np.concatenate([np.flatnonzero(groups == g) for g in drawn])
        means.append(np.mean([hits[clips][labels[clips] == s].mean() for s in np.unique(labels[clips])]))
    expected = np.percentile(means, [2.5, 97.5])
    assert bootstrap_interval(hits, labels, groups, seed=0) == pytest.approx(expected, abs=0.02)
    low, high = bootstrap_interval(hits, labels, None, seed=0)
    assert high - low < expected[1] - expected[0]  # clips of one signer are alike


def test_what_is_resampled_is_said():
    scores, labels = made_up(60, 6, 0)
    ten = [f"s{i % 10}" for i in range(60)]
    assert evaluate_predictions(scores, labels, ten)["interval_over"] == "signers"
    assert evaluate_predictions(scores, labels, [f"s{i % 9}" for i in range(60)])["interval_over"] == "clips"
    assert evaluate_predictions(scores, labels, ["", *ten[1:]])["interval_over"] == "clips"
    assert evaluate_predictions(scores, labels, ten) == evaluate_predictions(scores, labels, ten)


def test_unseen_signers_have_figures_of_their_own():
    scores, labels = made_up(80, 6, 0)
    unseen = np.arange(80) < 30
    figures = evaluate_predictions(scores, labels, unseen=unseen)
    part = evaluate_predictions(scores[unseen], labels[unseen])
    assert {**figures["unseen_signers"], "unseen_signers": None} == {**part, "signs": len(np.unique(labels[:30]))}
    assert set(figures["unseen_signers"]) == KEYS | {"signs"}
    assert evaluate_predictions(scores, labels, unseen=np.arange(80) < 29)["unseen_signers"] is None


def test_tables_count():
    glosses = ["мама", "да", "нет"]
    labels = np.array([0, 0, 0, 1, 1])
    scores = np.eye(3)[[0, 1, 1, 1, 2]]
    signs = per_sign_table(scores, labels, glosses)
    assert signs["gloss"].tolist() == ["мама", "да"] and signs["n"].tolist() == [3, 2]
    assert signs["accuracy"].tolist() == pytest.approx([100 / 3, 50])
    assert signs["precision"].tolist() == pytest.approx([100, 100 / 3])
    signers = per_signer_table(scores, labels, ["b", "a", "a", "b", "b"], np.array([0, 1, 1, 0, 0], bool))
    assert signers.to_dict("list") == {"signer": ["a", "b"], "n": [2, 3], "accuracy": pytest.approx([0, 200 / 3]),
                                       "seen": [False, True]}
    confused = confusion_table(scores, labels, glosses)
    assert confused.to_dict("list") == {"gloss": ["мама", "да"], "taken_for": ["да", "нет"], "count": [2, 1],
                                        "share": pytest.approx([2 / 3, 1 / 2])}
    assert confusion_table(np.eye(3), np.arange(3), glosses).empty


@pytest.mark.parametrize("scores, labels, word", [
    (np.zeros((0, 3)), np.zeros(0), "at least one"), (np.zeros((2, 3)), [0, 3], "label 3"),
    (np.full((1, 3), np.nan), [0], "damaged"), (np.zeros((2, 3)), [0], "do not fit"),
])
def test_bad_input_is_named(scores, labels, word):
    with pytest.raises(InputError, match=word):
        evaluate_predictions(scores, np.array(labels))
