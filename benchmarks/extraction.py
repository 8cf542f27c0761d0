"""How near extraction comes to the machine's limit: decoding and Holistic each alone, then a folder of clips by Dask.

In one run, for each picture size, with a process for every core and bound to it throughout: CPU seconds a frame of
decoding to RGB and of Holistic with a fresh instance a clip, each measured alone; `limit_fps` = cores / (the sum of the
two); `ours_fps` = frames of the folder over the seconds from the start of the process that extracts it to its end;
`fraction_of_limit` = ours_fps / limit_fps, which may exceed 1, for extraction loads its models once a process and not
once a clip. The parts are measured in turns with the extraction, which is stopped meanwhile, and its clock with it:
what others do on the host makes a core 5 % slower for some minutes, and both must see it alike. `standard_error` of
the fraction tells how far two runs may differ.
`bare_fps` is Holistic on frames in memory, from its CPU seconds. `cpu_fraction` compares CPU seconds instead of times,
and so says something on a busy machine too. Holistic is bare throughout (BARE); what the project's own search for hands
adds to a frame is `better_hands_cpu_ms`.

Clips are the real ones of SLR_SHARED where they are, else the drawn signer's. `make bench-extraction`; the last line
printed is one JSON object. Its figures at the top are those of the first size, all others stand under `sizes`.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, pairwise
from pathlib import Path
from statistics import fmean
from unittest.mock import patch

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
REAL = PROJECT / os.environ.get("SLR_SHARED", "../shared") / "data" / "real_clips"
SIZES = ("720x1280", "1080x1920")
TURNED_TOO = ("720x1280",)  # sizes whose landscape clips are taken as well: there is one portrait clip only
HEADLINE = ("bare_fps", "limit_fps", "ours_fps", "fraction_of_limit", "decode_cpu_ms", "holistic_cpu_ms",
            "better_hands_cpu_ms")
BARE = {"min_hand_confidence": 0.5, "second_look": False}
EVERY = 2  # seconds of extraction between two turns of its parts, which take half as long
DRAWN = 8  # clips a size, where no real ones are


def gather_clips(size: str, folder: Path) -> tuple[list[Path], str]:
    """Videos of a size, and where they are from: the real ones, else drawn into the folder."""
    width, height = map(int, size.split("x"))
    wanted = {(width, height), (height, width)} if size in TURNED_TOO else {(width, height)}
    found = []
    for part in ("slovo_official", "rsl"):
        table = REAL / part / "annotations.csv"
        if table.is_file():
            with table.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file, delimiter="\t")
                        if (int(float(row["width"])), int(float(row["height"]))) in wanted]
            found += [REAL / part / ("train" if row["train"] == "True" else "test") / f"{row['attachment_id']}.mp4"
                      for row in rows]
    if found:
        return found, f"{len(found)} real clips, {size}{' and its landscape' if size in TURNED_TOO else ''}"
    folder.mkdir(parents=True)
    return draw_clips(folder, width, height), f"{DRAWN} clips of the drawn signer, {size} (synthetic)"


def draw_clips(folder: Path, width: int, height: int) -> list[Path]:
    """The procedural signer, whose own camera is 3:4, scaled to a picture of another shape."""
    from slr_lib.demo.camera import frame_signer
    from slr_lib.demo.corpus import plan_corpus
    from slr_lib.demo.drawing import draw_frames
    from slr_lib.demo.figure import body_joints
    from slr_lib.demo.motion import sign_pose
    from slr_lib.video import write_video

    paths = []
    for recording in plan_corpus(signs=DRAWN, signers=2, test_signers=1, takes=1, height=height, fps=30)[:2 * DRAWN:2]:
        signer, timing, rng = recording.cast()
        pose = sign_pose(recording.sign, signer, timing, rng)
        camera = frame_signer(signer, height)
        ratio = width / camera.width
        x, y = (ratio * value for value in camera.origin)
        camera = replace(camera, width=width, scale=ratio * camera.scale, origin=(x, y + height * (1 - ratio) / 2))
        paths.append(folder / f"{recording.clip}.mp4")
        write_video(paths[-1], draw_frames(body_joints(pose, signer), pose, signer, camera), recording.fps)
    return paths


def measure_parts(paths: list[str]) -> None:
    """CPU seconds of this process for every part, each alone; runs in a process of its own until it is killed.

    Prints a line of JSON for every clip: all parts in the first round, then those of the limit, round after round.
    """
    from slr_lib import landmarks, video
    from slr_lib.memory import keep_memory

    spent = Counter()

    def timed(part: str, call):
        def run(*arguments):
            start = time.process_time()
            result = call(*arguments)
            spent[part] += time.process_time() - start
            return result
        return run

    def decode(path: str) -> None:
        with video.read_video(path) as pictures:
            for _ in pictures:
                pass

    def measure_limit(path: str) -> list[np.ndarray]:
        timed("decode", decode)(path)
        with video.read_video(path) as opened:
            pictures = [picture for _, picture in opened]
        timed("holistic", landmarks.extract_landmarks)(pictures, settings)
        spent["frames"] = len(pictures)
        return pictures

    def say(path: str) -> None:
        print(json.dumps({"clip": path, **spent}), flush=True)
        spent.clear()

    keep_memory()
    settings = landmarks.HolisticSettings(**BARE)
    measure_limit(paths[0])  # imports and warms up
    spent.clear()
    for path in paths:
        pictures = measure_limit(path)
        with patch.object(video.Video, "_picture", timed("convert", video.Video._picture)):
            decode(path)
        timed("copy", lambda pictures: [picture.copy().shape for picture in pictures])(pictures)
        with landmarks._quiet():
            timed("instance", lambda: landmarks._holistic(settings).close())()
        timed("searching", landmarks.extract_landmarks)(pictures, landmarks.HolisticSettings())
        say(path)
    for path in cycle(paths):
        measure_limit(path)
        say(path)


class PartsOnAllCores:
    """`measure_parts` in a process a core, bound to it, each of all clips; to be closed whatever happens."""

    def __init__(self, paths: list[Path], cores: list[int]):
        self.paths, self.processes, self.said = paths, [], []
        for number, core in enumerate(cores):
            start = number * len(paths) // len(cores)  # not all at the same clip at once
            clips = map(str, paths[start:] + paths[:start])
            self.processes.append(subprocess.Popen(
                [sys.executable, __file__, "--core", str(core), "--parts", *clips], stdout=subprocess.PIPE, text=True,
                env=environment()))

    def first_round(self) -> PartSeconds:
        """What they measure in their first round; then they stand still. Raises SystemExit where one of them fails."""
        lines = [process.stdout.readline() for process in self.processes for _ in self.paths]
        if "" in lines:
            raise SystemExit("a process that measures the parts failed; its message stands above")
        self._signal(signal.SIGSTOP)
        self.said = [json.loads(line) for line in lines]
        return PartSeconds(self.said)

    def run(self, seconds: float) -> None:
        """Let them go on for some seconds."""
        self._signal(signal.SIGCONT)
        time.sleep(seconds)
        self._signal(signal.SIGSTOP)

    def close(self) -> PartSeconds:
        """End them; all that they measured."""
        self._signal(signal.SIGKILL)
        said = [line for process in self.processes for line in process.stdout.read().splitlines(True)]
        return PartSeconds(self.said + [json.loads(line) for line in said if line.endswith("\n")])

    def _signal(self, number: int) -> None:
        for process in self.processes:
            process.send_signal(number)


def standard_error(seconds: dict[str, list[float]]) -> float:
    """Of the mean of clips that were each measured several times, as a share of it: from how times of a clip differ."""
    shares = [value / fmean(values) - 1 for values in seconds.values() for value in values]
    return (sum(share ** 2 for share in shares) / max(1, len(shares) - len(seconds)) / len(shares)) ** 0.5


class PartSeconds:
    """Means of what `measure_parts` printed: of every clip over its rounds first, for a core goes over cheap ones more.

    frames: of all clips once.
    """

    def __init__(self, said: list[dict]):
        self.clips = defaultdict(list)
        for line in said:
            self.clips[line["clip"]].append(line)
        self.frames = sum(lines[0]["frames"] for lines in self.clips.values())

    def a_clip(self, part: str) -> float:
        """CPU seconds of a part, the mean of the clips."""
        return fmean(fmean(line[part] for line in lines if part in line) for lines in self.clips.values())

    def a_frame(self, part: str) -> float:
        """CPU seconds of a part a frame."""
        return self.a_clip(part) * len(self.clips) / self.frames

    def limits(self) -> dict[str, list[float]]:
        """CPU seconds of the limit's parts together, of every clip in each round."""
        return {clip: [line["decode"] + line["holistic"] for line in lines] for clip, lines in self.clips.items()}


def extract_folder(index: Path, folder: Path) -> None:
    """Extract an index's clips into folder/landmarks as anyone would; runs in a process of its own."""
    import pandas as pd

    from slr_lib import extraction
    from slr_lib.landmark_store import LandmarkStore
    from slr_lib.landmarks import HolisticSettings

    def logged(task, store, *rest):
        """A worker's task, which also notes when it ran and what its parts took."""
        import importlib
        import json
        import os
        import time
        from unittest.mock import patch

        from slr_lib import extraction
        from slr_lib.landmark_store import LandmarkStore

        def timed(part, call):
            def run(*arguments):
                start = time.perf_counter()
                result = call(*arguments)
                note[part] += time.perf_counter() - start
                return result
            return run

        note = {"clip": task.path, "begin": time.time(), "importing": 0.0, "writing": 0.0, "hashing": 0.0}
        timed("importing", importlib.import_module)("mediapipe")
        with (patch.object(extraction, "_source", timed("hashing", extraction._source)),
              patch.object(LandmarkStore, "write", timed("writing", LandmarkStore.write))):
            extraction.extract_clip(task, store, *rest)
        note["end"] = time.time()
        with (folder / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(note) + "\n")

    extraction.extract_clip = logged
    table = pd.read_csv(index, keep_default_na=False)
    rejects = extraction.extract_clips(table, LandmarkStore(folder / "landmarks"), HolisticSettings(**BARE))
    if len(rejects):
        raise SystemExit(f"{len(rejects)} clips failed, the first by: {rejects['reason'][0]}")


def run_ours(paths: list[Path], repeats: int, folder: Path, cores: int, meanwhile: Callable[[], object]) -> dict:
    """Extract every clip `repeats` times under different names; where the time of the cores went, in seconds.

    meanwhile: called every EVERY seconds with all of the extraction stopped; its time does not count.
    """
    folder.mkdir(parents=True)
    index = folder / "index.csv"
    rows = "".join(f"{number}-{path.stem},{path}\n" for number in range(repeats) for path in paths)
    index.write_text("clip,path\n" + rows, encoding="utf-8")
    before, start, pauses = children_cpu(), time.time(), []
    process = subprocess.Popen([sys.executable, __file__, "--run", str(index), str(folder)], env=environment(),
                               start_new_session=True)
    try:
        while process.poll() is None:
            try:
                process.wait(EVERY)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGSTOP)
                pause = time.time()
                meanwhile()
                pauses.append((pause, time.time()))
                os.killpg(process.pid, signal.SIGCONT)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    stop = time.time()
    if process.returncode:
        raise SystemExit("the extraction failed; its message stands above")

    def clock(moment: float) -> float:
        """Seconds of running since the start."""
        return moment - start - sum(max(0.0, min(moment, end) - begin) for begin, end in pauses)

    logs = [[json.loads(line) for line in log.read_text().splitlines()] for log in sorted(folder.glob("*.jsonl"))]
    total = {part: sum(note[part] for log in logs for note in log) for part in ("importing", "writing", "hashing")}
    seconds = defaultdict(list)
    for note in (note for log in logs for note in log[1:]):  # the first one's time is also that of importing
        seconds[note["clip"]].append(clock(note["end"]) - clock(note["begin"]))
    logs = [[(clock(note["begin"]), clock(note["end"])) for note in log] for log in logs]
    last = max(log[-1][1] for log in logs)
    busy = sum(end - begin for log in logs for begin, end in log)
    return {
        "clock": clock(stop),
        "cpu": children_cpu() - before,
        "standard_error": standard_error(seconds),
        "core_seconds": {
            "start_until_first_clip": sum(log[0][0] for log in logs),
            "cores_without_any_clip": (cores - len(logs)) * clock(stop),
            "importing_mediapipe": total["importing"],
            "computing": busy - sum(total.values()),
            "writing": total["writing"],
            "hashing_videos": total["hashing"],
            "between_clips": sum(begin - end for log in logs for (_, end), (begin, _) in pairwise(log)),
            "idle_at_the_end": sum(last - log[-1][1] for log in logs),
            "closing": len(logs) * (clock(stop) - last),
        },
    }


def measure_size(size: str, seconds: float, folder: Path, cores: list[int]) -> dict:
    """All figures of one picture size, with about `seconds` of extraction by Dask."""
    paths, clips = gather_clips(size, folder / "clips")
    print(f"{size}: {clips}; the parts alone ...", flush=True)
    alone = PartsOnAllCores(paths, cores)
    try:
        first = alone.first_round()
        a_round = first.frames * (first.a_frame("decode") + first.a_frame("holistic"))
        repeats = max(1, round(seconds * len(cores) / a_round))
        print(f"{size}: {repeats} times {first.frames} frames by Dask, and the parts in turns ...", flush=True)
        ours = run_ours(paths, repeats, folder / "run", len(cores), lambda: alone.run(EVERY / 2))
    finally:
        parts = alone.close()
    frames = repeats * first.frames
    limit_cpu = parts.a_frame("decode") + parts.a_frame("holistic")
    spent = {part: round(value, 2) for part, value in ours["core_seconds"].items()}
    spent["computing_beyond_the_limit"] = round(ours["core_seconds"]["computing"] - frames * limit_cpu, 2)
    fraction = frames / ours["clock"] * limit_cpu / len(cores)
    return {
        "clips": clips, "frames": frames, "seconds": round(ours["clock"], 1),
        "bare_fps": round(len(cores) / parts.a_frame("holistic"), 2),
        "limit_fps": round(len(cores) / limit_cpu, 2),
        "ours_fps": round(frames / ours["clock"], 2),
        "fraction_of_limit": round(fraction, 4),
        "standard_error": round(fraction * math.hypot(ours["standard_error"], standard_error(parts.limits())), 4),
        "cpu_fraction": round(frames * limit_cpu / ours["cpu"], 4),
        "decode_cpu_ms": round(1e3 * parts.a_frame("decode"), 3),
        "of_it_colour_conversion_ms": round(1e3 * parts.a_frame("convert"), 3),
        "holistic_cpu_ms": round(1e3 * parts.a_frame("holistic"), 3),
        "better_hands_cpu_ms": round(1e3 * (first.a_frame("searching") - first.a_frame("holistic")), 3),
        "of_it_copy_of_the_picture_ms": round(1e3 * parts.a_frame("copy"), 3),
        "of_it_making_the_instance_ms_a_clip": round(1e3 * parts.a_clip("instance"), 1),
        "core_seconds": {"all": round(len(cores) * ours["clock"], 2), **spent},
    }


def children_cpu() -> float:
    """CPU seconds of this process's children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def environment() -> dict[str, str]:
    """For the child processes: this project's code first."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600,
                        help="of extraction by Dask, for each size (default: %(default)s)")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="(default: all)")
    parser.add_argument("--parts", nargs="+", help=argparse.SUPPRESS)  # these three: how the benchmark calls itself
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--run", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.parts:
        os.sched_setaffinity(0, {options.core})
        measure_parts(options.parts)
    if options.run:
        extract_folder(*options.run)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a stopped extraction does not outlive it
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="bench-extraction-") as folder:
        sizes = {size: measure_size(size, options.seconds, Path(folder) / size, cores) for size in options.sizes}
    for size, figures in sizes.items():
        print(f"\n{size}: where {len(cores)} cores' seconds went")
        for part, value in figures["core_seconds"].items():
            print(f"  {part.replace('_', ' '):28}{value:10.2f}")
    headline = {name: sizes[options.sizes[0]][name] for name in HEADLINE}
    print(json.dumps({"benchmark": "extraction", "headline_size": options.sizes[0], "cores": len(cores), **headline,
                      "sizes": sizes}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
