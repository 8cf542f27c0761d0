"""Extraction over processes of a Dask cluster, and runs that lose some or all of them: the bytes stay the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import PROJECT

from slr_lib.demo import draw_corpus
from slr_lib.extraction import extract_clips
from slr_lib.landmark_store import LandmarkStore

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")]


def run(*command: str, **options) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, *command], env=env, stderr=subprocess.DEVNULL, **options)


@pytest.fixture
def cluster(tmp_path):
    """A scheduler's address, its two workers (their processes), each begun as on a cluster's machines."""
    record = tmp_path / "scheduler.json"
    scheduler = run("-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                    "--scheduler-file", str(record))
    workers = [run("-m", "dask", "worker", "--scheduler-file", str(record), "--nthreads", "1", "--no-nanny",
                   "--no-dashboard", "--local-directory", str(tmp_path)) for _ in range(2)]
    try:
        deadline = time.monotonic() + 300
        while not record.is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield json.loads(record.read_text())["address"], workers
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_worker_that_is_killed_changes_no_byte(tmp_path, cluster):
    address, workers = cluster
    draw_corpus(tmp_path / "corpus", signs=2, signers=2, test_signers=1, height=128, progress=False)
    clips = sorted((tmp_path / "corpus").glob("t*/*.mp4"))
    index = pd.DataFrame({"clip": [path.stem for path in clips], "path": list(map(str, clips))})
    index.to_csv(tmp_path / "index.csv", index=False)
    script = tmp_path / "extract.py"
    script.write_text(f"""
import pandas as pd
from slr_lib.extraction import extract_clips
from slr_lib.landmark_store import LandmarkStore
index = pd.read_csv({str(tmp_path / "index.csv")!r})
rejects = extract_clips(index, LandmarkStore({str(tmp_path / "killed")!r}), scheduler={address!r}, progress=False)
raise SystemExit(len(rejects))
""")
    extraction = run(str(script))
    killed, deadline = LandmarkStore(tmp_path / "killed"), time.monotonic() + 300
    while len(killed.clips()) < 2 and extraction.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 2 <= len(killed.clips()) < len(clips) and extraction.poll() is None, "it is to be killed in the middle"
    workers[0].send_signal(signal.SIGKILL)
    assert extraction.wait(300) == 0
    assert workers[0].poll() == -signal.SIGKILL and workers[1].poll() is None

    undisturbed = LandmarkStore(tmp_path / "undisturbed")
    assert extract_clips(index, undisturbed, workers=2, progress=False).empty
    assert len(undisturbed.clips()) == len(clips)
    assert contents(killed.folder) == contents(undisturbed.folder)


def test_whole_runs_killed_at_random_moments_compute_nothing_twice(capfd):
    command = run("benchmarks/kill_extraction.py", "--kills", "2", "--signs", "1", cwd=PROJECT)
    assert command.wait(600) == 0
    report = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert report["same_bytes"] and report["computed_twice"] == 0 and report["left_in_scratch"] == []
    assert report["kills"] == 2 and 0 < report["finished_at_last_kill"] < report["clips"]
