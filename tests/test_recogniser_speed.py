"""The benchmarks of speed and scale: what they measure is what they say, on few clips."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import recogniser
import scale
from references.predecessor_preprocessing import FRAMES, POINTS, preprocess
from slr_lib.skeleton import HOLISTIC

MEAN, STD = torch.zeros(len(POINTS), 2), torch.ones(len(POINTS), 2)


@pytest.mark.slow
def test_the_benchmark_of_the_recogniser_ends_in_its_figures(capsys):
    threads = torch.get_num_threads()
    try:
        assert recogniser.main(["--quick"]) == 0
    finally:
        torch.set_num_threads(threads)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    theirs = report["predecessor"]
    for figures in (report, theirs):
        assert all(figures[name] > 0 for name in ("train_clips_per_s", "forward_ms", "preprocess_ms"))
    assert report["parameters"] < 4e6 and theirs["parameters"] == pytest.approx(30.33e6, rel=0.005)
    assert report["clip_ms"] > 0 and report["float32_clip_ms"] > 0 and report["engine"] == "onnxruntime"
    assert report["ratios"]["clip"] == pytest.approx(theirs["forward_ms"] / report["clip_ms"], abs=0.1)
    assert (report["frames"], report["signs"], report["points"], report["threads"]) == (128, 1000, 108, 2)


def test_clips_of_the_benchmark_keep_all_their_frames_and_miss_hands():
    hands = [list(part.points) for part in HOLISTIC.hands]
    for points in recogniser.landmarks(40, 10):
        assert points.shape == (40, 543, 3)
        missing = np.isnan(points[:, hands]).all((2, 3))
        assert missing.any() and not missing.all(1).any()


def test_the_predecessors_preprocessing_of_short_and_long_clips():
    points = np.full((6, 543, 3), np.nan, np.float32)
    points[:4, list(POINTS)] = np.arange(1, 5, dtype=np.float32)[:, None, None]
    points[1, HOLISTIC.part("lips").points[0]] = np.nan  # in a frame with hands
    made, places = preprocess(points, MEAN, STD)
    assert made.shape == (FRAMES, len(POINTS), 2)
    assert places[:5].tolist() == [0, 1, 2, 3, -1]  # the frames without a hand are gone
    assert made[:5, 50, 0].tolist() == [1, 2, 3, 4, 0] and made[1, 0, 0] == 0

    long = np.repeat(np.linspace(0.5, 3.5, 150, dtype=np.float32)[:, None, None], 543, 1).repeat(3, 2)
    long[10:20, :468] = np.nan
    made, places = preprocess(long, MEAN, STD)
    assert made.shape == (FRAMES, len(POINTS), 2) and (np.diff(made[:, 50, 0]) >= 0).all()
    assert made[0, 50, 0] == pytest.approx(0.5, abs=0.02) and made[-1, 50, 0] == pytest.approx(3.5, abs=0.02)
    assert places[0] == pytest.approx(0, abs=0.5) and places[-1] == pytest.approx(149, abs=0.5)
    assert (made[:, 0] == 0).all(1).sum() > 5  # lips missing throughout a window


def test_scale_measures_resumes_and_frees_the_disk(project, monkeypatch, capsys):
    monkeypatch.setattr(scale, "SIZES", (40, 80))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert scale.main(["--most", "40"]) == 0
    monkeypatch.setattr(scale, "measure", lambda folder, clips, real=scale.measure: real(folder, clips))
    assert scale.main([]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["clips"] for row in report["sizes"]] == [40, 80]
    for row in report["sizes"]:
        assert row["prepare_ms"] > 0 and row["batches_ms"] > 0 and row["private_mb"] > 50
        assert 20 * row["clips"] < row["frames"] < 85 * row["clips"]
    assert (project / "reports" / "scale.png").is_file() and not (project / "data" / "scale").exists()
    measured = []
    monkeypatch.setattr(scale, "measure", lambda *arguments: measured.append(arguments))
    assert scale.main([]) == 0 and not measured


def test_a_disk_too_small_is_one_sentence(project, monkeypatch, capsys):
    monkeypatch.setattr(scale, "BYTES", 10**15)
    assert scale.main(["--most", "1000"]) == 1
    assert "free" in capsys.readouterr().err


def test_own_memory_is_told_from_that_of_files(tmp_path):
    np.save(tmp_path / "mapped.npy", np.ones(100_000_000, np.uint8))
    script = """
import sys, numpy as np
print(flush=True)
sys.stdin.readline()
held = np.ones(100_000_000, np.uint8) if sys.argv[1] == "own" else np.load(sys.argv[1], mmap_mode="r")
print(held.sum(), flush=True)
sys.stdin.readline()
"""
    for kind, grown in (("own", (100_000, 0)), (str(tmp_path / "mapped.npy"), (0, 100_000))):
        with subprocess.Popen([sys.executable, "-c", script, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True, bufsize=1) as process:
            process.stdout.readline()
            before = scale.memory(process.pid)
            process.stdin.write("go\n")
            assert process.stdout.readline().strip() == "100000000"
            after = scale.memory(process.pid)
            process.stdin.write("go\n")
        assert np.subtract(after, before) == pytest.approx(grown, abs=20_000)
