"""Made-up results of the stages before compare, of realistic shapes, for the tests of charts and report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from slr_lib.curves import open_curves

WORDS = ("Ё", "добрый вечер", "Привет", "электрификация", "мать", "no_event", "я", "день рождения", "молоко", "лес")


def glosses(count: int) -> list[str]:
    """Cyrillic glosses, some long, some with spaces; no two alike."""
    return [WORDS[i] if i < len(WORDS) else f"{WORDS[i % len(WORDS)]} {i // len(WORDS)}" for i in range(count)]


def make_metrics(class_counts: tuple[int, ...], unseen: bool = True) -> dict:
    """metrics.json of the stage evaluate: round_2 picked."""
    metrics = {}
    for signs in class_counts:
        models = {}
        for place, model in enumerate(("base", "round_1", "round_2")):
            mean = 40.0 + 7 * place - signs / 100
            models[model] = {
                "model": model, "n_test": 5 * signs, "mean_accuracy": mean, "mean_accuracy_low": mean - 6.5,
                "mean_accuracy_high": mean + 5.5, "top1": mean + 1, "top5": mean + 22, "macro_precision": mean + 2,
                "macro_recall": mean, "macro_f1": mean - 1.5, "interval_over": "signers",
                "unseen_signers": None if not unseen else {
                    "n_test": 2 * signs, "mean_accuracy": mean - 5, "mean_accuracy_low": mean - 14,
                    "mean_accuracy_high": mean + 3, "top1": mean - 4, "top5": mean + 15, "macro_precision": mean - 4,
                    "macro_recall": mean - 5, "macro_f1": mean - 6, "signs": signs,
                },
            }
        metrics[f"{signs}_signs"] = {"headline": models["round_2"], **models}
    return metrics


def make_tables(signs: int, signers: int, seed: int = 0) -> dict[str, pd.DataFrame]:
    """per_sign, per_signer and confusions of one class count."""
    random = np.random.default_rng(seed)
    names = glosses(signs)
    pairs = [(a, b) for a, b in zip(random.permutation(names), random.permutation(names)) if a != b]
    counts = np.sort(random.integers(1, 6, len(pairs)))[::-1]
    return {
        "per_sign": pd.DataFrame({"gloss": names, "n": 5, "accuracy": random.integers(0, 6, signs) * 20.0}),
        "per_signer": pd.DataFrame({
            "signer": [f"{random.integers(16**12):012x}{'9' * 20}" for _ in range(signers)],
            "n": random.integers(1, 300, signers), "accuracy": random.uniform(10, 90, signers).round(2),
            "seen": np.arange(signers) % 2 == 0,
        }),
        "confusions": pd.DataFrame(
            {"gloss": [a for a, _ in pairs], "taken_for": [b for _, b in pairs], "count": counts, "share": counts / 5}
        ),
    }


def make_curves(epochs: int, validation: bool = True, seed: int = 0) -> pd.DataFrame:
    """Curves of one training, as of slr_lib.training.Trained."""
    random = np.random.default_rng(seed)
    t = np.arange(epochs)
    fall = np.exp(-t / max(epochs / 4, 1))
    table = pd.DataFrame({"epoch": t, "train_loss": 0.6 + 3 * fall + random.normal(0, 0.03, epochs)})
    table["val_loss"] = 1.4 + 2 * fall + random.normal(0, 0.08, epochs) if validation else np.nan
    table["val_top1"] = 62 * (1 - fall) + random.normal(0, 1, epochs).clip(-1, 1) + 1 if validation else np.nan
    table["val_mean_accuracy"] = table["val_top1"] - 2 if validation else np.nan
    table["learning_rate"] = 1e-3 * np.cos(t / epochs * np.pi / 2)
    return table


def write_results(reports: Path, class_counts=(10, 20), folds=("0",), validation=True, signers=8, unseen=True) -> None:
    """reports/<data set>/ as the stages before compare leave it."""
    _json(reports / "evaluate" / "metrics.json", make_metrics(class_counts, unseen))
    for signs in class_counts:
        for name, table in make_tables(signs, signers).items():
            folder = reports / "evaluate" / "tables" / f"{signs}_signs"
            folder.mkdir(parents=True, exist_ok=True)
            table.to_csv(folder / f"{name}.csv", index=False)
        for place, fold in enumerate(folds):
            for run, epochs in (("", 40), ("-round_1", 15), ("-round_2", 15)):
                folder = reports / ("finetune" if run else "train") / f"{signs}-{fold}{run}"
                rows = make_curves(epochs, validation, seed=place).to_dict("records")
                open_curves(folder / "curves", rows).end()
    _json(reports / "corpus" / "metrics.json", {"clips": 160, "signers": signers, "rejects": 1})
    _json(reports / "extract_landmarks" / "metrics.json", {"clips": 159, "rejects": 1, "hand_found": 0.953})
    (reports / "extract_landmarks" / "rejects.csv").write_text(
        "clip,reason\nab12,the file breaks off after 3 of 40 frames; copy it again\n", encoding="utf-8"
    )
    (reports / "train" / f"03_train-{class_counts[0]}-0.html").write_text("<html></html>", encoding="utf-8")


def _json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
