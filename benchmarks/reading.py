"""Reads files in a process of its own and says what came of each and what it cost: `python reading.py FILE…`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import av

from slr_lib.errors import InputError
from slr_lib.video import read_video


@dataclass(frozen=True)
class Reading:
    """What a process of its own got from a file: frames, size, why it was refused or is damaged ('' if not), cost."""

    frames: int
    size: tuple[int, int]
    refused: str
    damage: str
    seconds: float
    peak_mb: float


def measure(paths: Iterable[Path]) -> list[Reading]:
    """Read files in a fresh process, one after the other; each peak is that of the process so far.

    Raises subprocess.CalledProcessError where the process dies.
    """
    done = subprocess.run([sys.executable, __file__, *map(str, paths)], check=True, stdout=subprocess.PIPE, text=True,
                          encoding="utf-8")
    return [Reading(**json.loads(line)) for line in done.stdout.splitlines()]


def read(path: str) -> Reading:
    """Read a file in this process; its name is left out of the reason."""
    begin, frames, size, refused, damage = time.perf_counter(), 0, (0, 0), "", ""
    try:
        with read_video(path) as video:
            for _ in video:
                frames += 1
            size, damage = (video.width, video.height), video.damage.text if video.damage else ""
    except InputError as error:
        refused = str(error).removeprefix(f"{path}: ")
    seconds = time.perf_counter() - begin
    # not ru_maxrss, which a child inherits from its parent
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return Reading(frames, size, refused, damage, round(seconds, 3), round(int(peak.split()[1]) * 1024 / 1e6, 1))


if __name__ == "__main__":
    av.logging.set_level(None)  # a broken file makes FFmpeg say much
    for name in sys.argv[1:]:
        print(json.dumps(asdict(read(name)), ensure_ascii=False), flush=True)
