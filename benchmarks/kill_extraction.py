"""Kill a whole extraction by SIGKILL at random moments, start it again each time, and see what came of it.

The clips are the drawn signer's. One run is left undisturbed; another, of the same clips into another store, loses all
its processes `--kills` times. Then both stores must hold the same bytes, no clip that was finished at a kill may have
been computed again (its file would be another one, with another time), and neither partial files nor the workers'
scratch folders may have been left. The last line printed is one JSON object; the exit status is 1 where a claim fails.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def extract(corpus: Path, folder: Path) -> None:
    """Extract the drawn corpus into a store; runs in a process of its own."""
    import pandas as pd

    from slr_lib.extraction import extract_clips
    from slr_lib.landmark_store import LandmarkStore

    clips = sorted(corpus.glob("t[er]*/*.mp4"))  # train/ and test/
    table = pd.DataFrame({"clip": [path.stem for path in clips], "path": list(map(str, clips))})
    rejects = extract_clips(table, LandmarkStore(folder), progress=False)
    if len(rejects):
        raise SystemExit(f"{len(rejects)} clips failed, the first by: {rejects['reason'][0]}")


def start(corpus: Path, store: Path, scratch: Path) -> subprocess.Popen:
    """The same in a process group of its own, with its scratch folders where they can be counted."""
    env = {**os.environ, "TMPDIR": str(scratch),
           "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, __file__, "--extract", str(corpus), str(store)], env=env,
                            start_new_session=True, stderr=subprocess.DEVNULL)


def finish(process: subprocess.Popen) -> None:
    """Wait for a run that nobody kills."""
    if process.wait():
        raise SystemExit(f"the extraction failed with status {process.returncode}")


def finished(store: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of writing of every finished clip's file."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(store.glob("*.npz"))}


def wait(process: subprocess.Popen, store: Path, before: int, moment: float, starting: float, a_clip: float) -> None:
    """Wait for a moment of a run, in seconds since its first clip (below 0: of its start) of a run as measured.

    The clips are counted, not the clock, for the machine may have become faster or slower since it was measured.

    Args:
        before: clips that were finished when the run was started.
    """
    if moment < 0:
        time.sleep(starting + moment)
        return
    whole, rest = divmod(moment, a_clip)
    while process.poll() is None and len(finished(store)) < before + 1 + whole:
        time.sleep(0.02)
    time.sleep(rest)


def kill_and_restart(corpus: Path, store: Path, scratch: Path, kills: int, starting: float, a_clip: float,
                     clips: int, seed: int) -> dict:
    """Kill `kills` runs at random moments, from their start to well into the clips; then let one come to its end.

    Args:
        starting: seconds that an undisturbed run took to its first clip.
        a_clip: seconds that it then took for each.
    """
    rng, kept, again, moments = random.Random(seed), {}, 0, []
    for number in range(kills):
        left = clips - len(kept)
        moment = rng.uniform(-starting, min(1.5 * left / (kills - number + 1), left - 2) * a_clip)
        begin, process = time.monotonic(), start(corpus, store, scratch)
        wait(process, store, len(kept), moment, starting, a_clip)
        if process.poll() is not None:
            raise SystemExit(f"run {number + 1} ended before it could be killed; ask for more signs or fewer kills")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        moments.append(time.monotonic() - begin)
        now = finished(store)
        again += sum(now.get(name) != place for name, place in kept.items())
        kept = now
        print(f"kill {number + 1} after {moments[-1]:5.1f} s: {len(now)} of {clips} clips finished", flush=True)
    finish(start(corpus, store, scratch))
    now = finished(store)
    return {"kills": kills, "killed_after_s": [round(moment, 1) for moment in moments],
            "finished_at_last_kill": len(kept),
            "computed_twice": again + sum(now.get(name) != place for name, place in kept.items())}


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="(default: %(default)s)")
    parser.add_argument("--signs", type=int, default=12, help="of 8 signers each, drawn (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--extract", nargs=2, type=Path, help=argparse.SUPPRESS)  # how the command calls itself
    options = parser.parse_args(arguments)
    if options.extract:
        extract(*options.extract)
        return 0
    from slr_lib.demo import draw_corpus

    with tempfile.TemporaryDirectory(prefix="kill-extraction-") as name:
        folder = Path(name)
        corpus, whole, killed, scratch = (folder / part for part in ("corpus", "whole", "killed", "scratch"))
        scratch.mkdir()
        clips = draw_corpus(corpus, signs=options.signs, progress=False)
        begin, process = time.monotonic(), start(corpus, whole, scratch)
        while process.poll() is None and not finished(whole):
            time.sleep(0.02)
        starting = time.monotonic() - begin
        finish(process)
        a_clip = (time.monotonic() - begin - starting) / clips
        print(f"undisturbed: {clips} clips, the first after {starting:.1f} s, then {a_clip:.2f} s each", flush=True)
        report = kill_and_restart(corpus, killed, scratch, options.kills, starting, a_clip, clips, options.seed)
        files = [{path.name: path.read_bytes() for path in store.iterdir()} for store in (whole, killed)]
        report |= {"clips": clips, "same_bytes": files[0] == files[1] and len(files[0]) == clips,
                   "left_in_scratch": sorted(path.name for path in scratch.rglob("*") if "worker-" in path.name)}
    held = report["same_bytes"] and not report["computed_twice"] and not report["left_in_scratch"]
    print(json.dumps({"benchmark": "kill_extraction", "held": held, **report}))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
