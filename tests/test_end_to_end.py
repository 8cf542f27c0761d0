"""The whole pipeline on tiny data: `dvc repro` from videos, and from landmarks that a stranger brings."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from slr_lib.demo import demo_signs, make_signer, synthetic_landmarks

pytestmark = pytest.mark.slow

TINY = """
title: Tiny
kind: videos
path: data/tiny/corpus
synthetic: true
demo: {signs: 3, signers: 4, test_signers: 1, height: 192}
class_counts: [2, 3]
no_event: no_event
"""
BROUGHT = """
title: Brought along
kind: landmarks
path: brought
skeleton: holistic
class_counts: [3]
split: leave_one_signer_out
import:
  format: npy
  index: table.csv
  columns: {clip: id, gloss: word, signer: who, split: null}
"""


def repro(project, *arguments):
    command = [sys.executable, "-m", "slr_lib.pipeline", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=project, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def quick(project):
    """The project with a training of a few epochs."""
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["train"].update(epochs=2, batch_size=4)
    params["finetune"].update(epochs=1, batch_size=4)
    path.write_text(yaml.safe_dump(params), encoding="utf-8")
    return project


def test_from_videos_to_the_report_and_nothing_twice(quick):
    (quick / "tiny.yaml").write_text(TINY, encoding="utf-8")
    first = repro(quick, "--dataset", "tiny.yaml")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "synthetic" in first.stdout and "2 signs" in first.stdout and "reports/tiny/index.html" in first.stdout
    metrics = json.loads((quick / "reports/tiny/evaluate/metrics.json").read_text(encoding="utf-8"))
    assert set(metrics) == {"2_signs", "3_signs"}
    for task, models in metrics.items():
        assert set(models) == {"headline", "base", "round_1", "round_2"}
        assert models["headline"]["n_test"] == int(task[0]) + 1  # the test signer signs each once, and no_event
        assert models["headline"]["unseen_signers"] is None  # too few clips
    page = (quick / "reports/tiny/index.html").read_text(encoding="utf-8")
    assert "ynthetic" in page and "Tiny" in page
    for name in ("extract_landmarks/01_extract_landmarks.html", "train/03_train-2-0.html", "compare/06_compare.html",
                 "finetune/04_finetune-3-0-round_2-round_1.html", "evaluate/05_evaluate.html"):
        assert (quick / "reports/tiny" / name).stat().st_size > 10_000
    found = json.loads((quick / "reports/tiny/extract_landmarks/metrics.json").read_text(encoding="utf-8"))
    assert found["clips"] == 16 and found["truth"]["signing_hand_found"] > 50

    command = [sys.executable, "-m", "slr_lib.notebook", "explore", "--dataset", "data_sets/tiny.yaml"]
    explored = subprocess.run(command, cwd=quick / ".workspaces/tiny", capture_output=True, text=True, check=False)
    assert explored.returncode == 0, explored.stdout + explored.stderr
    assert (quick / "reports/tiny/explore/00_explore.html").stat().st_size > 100_000, "it shows pictures"

    second = repro(quick, "--dataset", "tiny.yaml")
    assert second.returncode == 0 and "Running stage" not in second.stdout

    # one clip lost: it alone is drawn and extracted again, to the same bytes
    store = quick / "data/tiny/landmarks"
    before = {path.name: path.read_bytes() for path in store.glob("*.npz")}
    victim = next(iter(before))
    (store / victim).unlink()
    third = repro(quick, "--dataset", "tiny.yaml")
    assert third.returncode == 0, third.stdout + third.stderr
    assert {path.name: path.read_bytes() for path in store.glob("*.npz")} == before
    assert "'train" not in [line for line in third.stdout.splitlines() if line.startswith("Running stage")]
    assert not (quick / "dvc.lock").exists(), "the lock of another data set is not the committed one"


def test_a_strangers_landmarks_run_without_code(quick):
    folder = quick / "brought"
    folder.mkdir()
    rows = []
    for number, sign in enumerate(demo_signs(3)):
        for take in range(10):
            clip, who = f"{sign.gloss}-{take}", take % 2
            np.save(folder / f"{clip}.npy", synthetic_landmarks(20, 100 * number + take, sign, make_signer(who)))
            rows.append({"id": clip, "word": sign.gloss, "who": f"signer {who}"})
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    (quick / "brought.yaml").write_text(BROUGHT, encoding="utf-8")
    result = repro(quick, "--dataset", "brought.yaml")
    assert result.returncode == 0, result.stdout + result.stderr
    figures = json.loads((quick / "reports/brought/evaluate/metrics.json").read_text(encoding="utf-8"))["3_signs"]
    assert figures["headline"]["n_test"] == 30 and len(figures["headline"]["folds"]) == 2
    assert figures["headline"]["unseen_signers"]["n_test"] == 30
    assert figures["headline"]["picked_by"] == "fixed beforehand: no validation part"  # of two signers one is tested
