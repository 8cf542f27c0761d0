"""What a clip costs, and what memory is needed, from 1,000 to 200,000 clips: `make bench-scale`.

For every size, in a process of its own: clips of the procedural signer (SYNTHETIC; a pool of drawn ones, one after
another) are prepared and packed, their statistics counted, and all batches of one epoch made, mixed and augmented as
for training. Reading landmarks from the store (a file a clip) and the network itself are left out: rehearsal.py and
recogniser.py measure these. Packed clips are memory-mapped: of a process's memory `private_mb` is its own, the
rest are pages of files, which the system takes back at will.

Writes reports/scale.csv, a row a size (sizes that are there are not measured again), and reports/scale.png. Takes up to
8 GB of disk for 200,000 clips, which is freed at once. The last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from slr_lib.data_sets import find_project
from slr_lib.errors import InputError
from slr_lib.index import write_table
from slr_lib.landmark_store import ClipLandmarks, require_space
from threads import spin_briefly

SIZES = (1000, 3000, 10_000, 30_000, 100_000, 200_000)
POOL, SIGNS, FPS = 64, 1000, 30.0
SHORTEST, LONGEST = 17, 85  # frames; Slovo's clips have 50 on average
BATCH_SIZE = 32
BYTES = 45_000  # of a packed clip, on average, with room to spare
SAMPLED = 0.05  # seconds between two looks at a process's memory


class DrawnClips:
    """In place of a landmark store: a pool of synthetic clips under as many names as wanted.

    folder: for messages.
    """

    folder = Path("synthetic landmarks")

    def __init__(self):
        from slr_lib.demo import demo_signs, make_signer, synthetic_landmarks

        signs = demo_signs(8)
        self.pool = []
        for number, frames in enumerate(np.linspace(SHORTEST, LONGEST, POOL).round().astype(int)):
            points = synthetic_landmarks(int(frames), number, signs[number % len(signs)], make_signer(number % 8, 0))
            self.pool.append(ClipLandmarks(points, np.arange(frames) / FPS))

    def __contains__(self, clip: str) -> bool:
        return clip.isdigit()

    def read(self, clip: str) -> ClipLandmarks:
        """The clip of a number."""
        return self.pool[int(clip) * 37 % POOL]  # lengths well mixed


def work(folder: Path, clips: int) -> dict:
    """Prepare, pack and pass once over `clips` clips; milliseconds a clip."""
    from slr_lib.augment import augmentation
    from slr_lib.batches import ClipBatches
    from slr_lib.packed_clips import PackedClips, pack_clips, statistics
    from slr_lib.skeleton import HOLISTIC

    numbers = np.arange(clips)
    index = pd.DataFrame({"clip": numbers.astype(str), "gloss": (numbers % SIGNS).astype(str), "signer": "",
                          "split": "train", "duplicates": ""})
    store, skeleton = DrawnClips(), HOLISTIC.select()[0]
    began = time.perf_counter()
    pack_clips(index, store, HOLISTIC, folder)
    packed = PackedClips(folder)
    found = statistics(packed, np.arange(len(packed)), skeleton)
    prepared = time.perf_counter()
    batches = ClipBatches(packed, np.arange(len(packed)), packed.table["gloss"].astype(int), found, skeleton,
                          BATCH_SIZE, augmentation=augmentation("strong"))
    seen = sum(len(batch.labels) for batch in batches)
    passed = time.perf_counter()
    if seen != clips:
        raise RuntimeError(f"{seen} clips came out of {clips}")
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"clips": clips, "frames": int(packed.frames.sum()), "packed_mb": round(size / 1e6, 1),
            "prepare_ms": round(1000 * (prepared - began) / clips, 4),
            "batches_ms": round(1000 * (passed - prepared) / clips, 4)}


def measure(folder: Path, clips: int) -> dict:
    """`work` in a process of its own, with the peaks of its memory.

    Raises:
        InputError: it failed, or the disk is too small.
    """
    folder.mkdir(parents=True, exist_ok=True)
    require_space(folder, BYTES * clips)
    try:
        process = subprocess.Popen([sys.executable, __file__, "--work", str(clips), "--folder", str(folder)],
                                   stdout=subprocess.PIPE, text=True)
        private = mapped = 0
        try:
            while process.poll() is None:
                held = memory(process.pid)
                private, mapped = max(private, held[0]), max(mapped, held[1])
                time.sleep(SAMPLED)
        finally:
            process.kill()
        if process.returncode:
            raise InputError(f"{clips} clips: the process failed (exit status {process.returncode}).")
        figures = json.loads(process.stdout.read())
    finally:
        shutil.rmtree(folder)
        with suppress(OSError):  # other sizes, or other files, may lie there
            folder.parent.rmdir()
    return {**figures, "private_mb": round(private / 1000, 1), "mapped_mb": round(mapped / 1000, 1)}


def memory(pid: int) -> tuple[int, int]:
    """Kilobytes that a process holds of its own, and of files."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0, 0
    held = {name: int(size) for name, size in re.findall(r"^Rss(\w+):\s+(\d+) kB", status, re.MULTILINE)}
    return held.get("Anon", 0) + held.get("Shmem", 0), held.get("File", 0)


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Cost and memory over the number of clips, written as `<path>.png`."""
    import matplotlib.pyplot as plt

    from slr_lib.charts import BLUE, ORANGE, save, style

    with style():
        _, (cost, held) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
        cost.plot(rows["clips"], rows["prepare_ms"], color=BLUE, marker="o", label="prepare, pack, statistics")
        cost.plot(rows["clips"], rows["batches_ms"], color=ORANGE, marker="s", label="batches of an epoch")
        cost.legend()
        held.plot(rows["clips"], rows["private_mb"], color=BLUE, marker="o")
        for axes, unit in ((cost, "ms a clip"), (held, "MB of memory of its own, peak")):
            axes.margins(y=0.3)
            axes.set(xscale="log", xlabel="clips (synthetic)", ylabel=unit)
            axes.set_ylim(bottom=0)
        save(cost, path, svg=False)


def main(arguments: list[str] | None = None) -> int:
    """Command line; 1 and one sentence where the disk is too small or a size failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=SIZES[-1], help="leave larger sizes out (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="measure all sizes anew")
    parser.add_argument("--folder", type=Path, help="where packed clips may lie for a while (default: data/scale)")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)  # how the benchmark calls itself
    options = parser.parse_args(arguments)
    if options.work:
        print(json.dumps(work(options.folder, options.work)))
        return 0
    project = find_project()
    folder, table = options.folder or project / "data" / "scale", project / "reports" / "scale.csv"
    rows = pd.read_csv(table) if table.is_file() and not options.again else pd.DataFrame({"clips": []})
    try:
        for clips in SIZES:
            if clips > options.most or clips in set(rows["clips"]):
                continue
            row = pd.DataFrame([measure(folder / str(clips), clips)])
            rows = pd.concat([rows, row]).sort_values("clips") if len(rows) else row
            write_table(rows, table)
            print(row.to_string(index=False), flush=True)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    draw(rows, table.with_suffix(""))
    print(json.dumps({"benchmark": "scale", "landmarks": "synthetic", "sizes": rows.to_dict("records")}))
    return 0


if __name__ == "__main__":
    spin_briefly()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # by way of `measure`, which frees the disk
    sys.exit(main())
