"""Rehearsal at Slovo's size: the pipeline's memory, time and disk, measured without Slovo's 16 GB of videos.

Slovo's real table (20,400 clips, 1,026,563 frames, true lengths, signs and signers), with landmarks of the procedural
signer instead of its videos, goes through the code of the stages corpus, prepare_clips and train: an index, a landmark
store of the true size, packed clips, parts and statistics, one epoch of training for each class count. The landmarks
are SYNTHETIC: the figures tell what the pipeline costs, and nothing about how well signs are recognised.

Every step runs in a process of its own, whose memory is measured with its children's. A run that was killed goes on
with the step at which it was; figures of a step are those of the process that finished it. `make bench-rehearsal`;
the last line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import yaml
from tqdm import tqdm

from slr_lib.annotations import read_annotations
from slr_lib.data_sets import DataSet, load_data_set
from slr_lib.errors import InputError
from slr_lib.index import accepted, read_index, read_rows, rejected, write_table
from slr_lib.inventory import record, write_json
from slr_lib.landmark_store import ClipLandmarks, LandmarkStore, require_space
from slr_lib.notebook import read_params
from slr_lib.signs import choose_signs, read_signs
from slr_lib.skeleton import load_skeleton
from threads import spin_briefly

PROJECT = Path(__file__).resolve().parents[1]
TABLE = PROJECT / os.environ.get("SLR_SHARED", "../shared") / "data/slovo_annotations/annotations.csv"
NOTE = "synthetic landmarks of the procedural signer: figures of cost, none of recognition"
MEMORY_LIMIT = 6_000_000_000  # bytes
SAMPLED = 0.1  # seconds between two looks at a step's memory
NAME, MARK = "rehearsal", "rehearsal.json"

_FPS = 30.0
_LEAST_NO_EVENT = 6
_PIECE = 50  # clips that a process draws at once


def thin_out(listed: pd.DataFrame, clips: int, no_event: str) -> pd.DataFrame:
    """About `clips` rows of a table's list of clips: whole signs from its beginning, and no_event in proportion."""
    usable = listed[listed["reason"] == ""]
    nothing = usable[usable["gloss"] == no_event]
    signs = usable[usable["gloss"] != no_event]
    kept = min(len(nothing), max(_LEAST_NO_EVENT, round(clips * len(nothing) / len(usable))))
    sizes = signs["gloss"].value_counts(sort=False).cumsum()
    taken = sizes.index[: max(2, int((sizes <= clips - kept).sum()))]
    evenly = nothing.iloc[np.linspace(0, len(nothing) - 1, kept).round().astype(int)] if kept else nothing
    return pd.concat([signs[signs["gloss"].isin(taken)], evenly]).sort_values("row")


def make_workspace(folder: Path, table: Path, clips: int | None, seed: int = 0) -> None:
    """Make `folder` a project of its own for the data set `rehearsal`: links to the pipeline, the YAML, the table.

    Args:
        clips: about how many clips to take from the table; None for all.

    Raises:
        InputError: the table is absent or malformed, or the folder holds something else or another rehearsal.
    """
    listed = read_annotations(table)
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    mark = {"table_sha256": digest, "clips": clips, "seed": seed}
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).is_file():
            raise InputError(f"{folder} holds other files; name an empty or a new folder with --folder.")
        if json.loads((folder / MARK).read_text(encoding="utf-8")) != mark:
            raise InputError(f"{folder} holds a rehearsal with other settings; delete it or name another --folder.")
    write_json(mark, folder / MARK)
    for name in ("dvc.yaml", "params.yaml", "notebooks"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(PROJECT / name)
    slovo = yaml.safe_load((PROJECT / "data_sets" / "slovo.yaml").read_text(encoding="utf-8"))
    counts = slovo["class_counts"]
    if clips is not None:
        rows = thin_out(listed, clips, slovo["no_event"])
        signs = rows["gloss"].nunique() - int(slovo["no_event"] in set(rows["gloss"]))
        counts = sorted({max(2, signs // 2), signs})
        header, lines = read_rows(table, "\t", "")
        chosen = set(rows["row"])
        table = folder / "annotations.csv"
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n")
            writer.writerows([header, *(values for row, values, _ in lines if row in chosen)])
    described = {**slovo, "title": "Slovo's table, synthetic landmarks", "path": str(table), "synthetic": True,
                 "class_counts": counts}
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(described, allow_unicode=True), encoding="utf-8")


def list_table(data_set: DataSet) -> dict:
    """The stage corpus, but for the videos: index, signs, rejects."""
    listed = read_annotations(data_set.root)
    signs = choose_signs(listed, data_set)
    index = accepted(listed, data_set)
    print(record("corpus", data_set, listed, index, rejected(listed), signs, {"synthetic": True}))
    return {"clips": len(index), "frames": int(index["frames"].sum()), "written": str(data_set.index)}


def needed_space(data_set: DataSet) -> int:
    """Bytes that landmarks, packed clips and checkpoints of a listed data set will take, and a little more."""
    index, skeleton = read_index(data_set), load_skeleton(data_set.skeleton_source)
    frames = sum(index["frames"])
    landmarks = frames * (12 * len(skeleton.points) + 8) + 6000 * len(index)
    clips = frames * (7 * len(skeleton.select()[0].points) + 4)
    return int(1.03 * (landmarks + clips)) + 300_000_000


def fill_store(data_set: DataSet, seed: int, workers: int | None = None) -> dict:
    """Write the landmarks of every clip of the index that are not there yet, each of its true length.

    Args:
        workers: processes; None for one a core.
    """
    index, store = read_index(data_set), LandmarkStore(data_set.landmarks)
    classes = {gloss: number for number, gloss in enumerate(read_signs(data_set))}
    signers = {name: number for number, name in enumerate(sorted(set(index["signer"])))}
    present = set(store.clips())
    jobs = [
        (clip, int(frames), classes.get(gloss), signers[signer], int(width), int(height), [seed, row])
        for row, (clip, frames, gloss, signer, width, height) in enumerate(
            zip(*(index[name] for name in ("clip", "frames", "gloss", "signer", "width", "height")))
        ) if clip not in present
    ]
    require_space(store.folder, needed_space(data_set) - disk_use(store.folder))
    store.prepare()
    pieces = [jobs[first : first + _PIECE] for first in range(0, len(jobs), _PIECE)]
    with tqdm(total=len(index), initial=len(present), desc="synthetic landmarks", unit="clip") as bar:
        for count in _drawn(store.folder, pieces, min(workers or os.cpu_count() or 1, len(pieces))):
            bar.update(count)
    frames = sum(job[1] for job in jobs)
    return {"clips": len(jobs), "frames": frames, "clips_of_earlier_runs": len(present), "written": str(store.folder)}


def _drawn(folder: Path, pieces: list[list[tuple]], workers: int) -> Iterator[int]:
    if workers <= 1:
        yield from (_draw(folder, piece) for piece in pieces)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_draw, folder, piece) for piece in pieces]):
            yield done.result()


def _draw(folder: Path, jobs: list[tuple]) -> int:
    from slr_lib.demo import demo_signs, make_signer, synthetic_landmarks

    store = LandmarkStore(folder)
    signs = demo_signs(1 + max((job[2] for job in jobs if job[2] is not None), default=0))
    for clip, frames, sign, signer, width, height, seed in jobs:
        shown = None if sign is None else signs[sign]
        points = synthetic_landmarks(frames, np.random.default_rng(seed), shown, make_signer(signer, 0))
        info = {"width": width, "height": height, "synthetic": True}
        store.write(clip, ClipLandmarks(points, np.arange(frames) / _FPS, info))
    return len(jobs)


def pack(data_set: DataSet) -> dict:
    """The stage prepare_clips, its first half: landmarks to packed clips."""
    from slr_lib.packed_clips import PackedClips, pack_clips
    from slr_lib.parts import clip_settings

    index, store = read_index(data_set), LandmarkStore(data_set.landmarks)
    skeleton = load_skeleton(data_set.skeleton_source)
    rejects = pack_clips(index, store, skeleton, data_set.clips, clip_settings(data_set))
    write_table(rejects, data_set.reports("prepare_clips") / "rejects.csv")
    packed = PackedClips(data_set.clips)
    return {"clips": len(index), "frames": int(index["frames"].sum()), "packed_clips": len(packed),
            "packed_frames": int(packed.frames.sum()), "points": packed.points.shape[1], "rejects": len(rejects),
            "written": str(data_set.clips)}


def settle_parts(data_set: DataSet) -> dict:
    """The stage prepare_clips, its second half: train, validation and test part, statistics of the training part."""
    from slr_lib.packed_clips import PackedClips
    from slr_lib.parts import write_parts

    params = read_params("prepare_clips")
    packed = PackedClips(data_set.clips)
    report = write_parts(data_set, packed, **params)[0]
    return {"clips": len(packed), "parts": report["clips"], "signs_of_parts": report["signs"],
            "signers_of_parts": report["signers"], "signers_in_train_and_test": report["signers_in_train_and_test"],
            "unseen_test_clips": report["unseen_test_clips"], "validation": report["validation"]}


def train_once(data_set: DataSet, signs: int) -> dict:
    """The stage train for one epoch, validation included, with the settings of params.yaml."""
    from slr_lib.fitting import TrainSettings
    from slr_lib.tasks import Task
    from slr_lib.training import train

    params = {**read_params("train"), "epochs": 1, "least_steps": 0}
    names = {field.name for field in fields(TrainSettings)}
    settings = TrainSettings(**{key: value for key, value in params.items() if key in names})
    task = Task(data_set, signs, "0", batch_size=settings.batch_size, strength=params["augmentation"],
                seed=settings.seed)
    folder, curves = data_set.models(signs), data_set.reports("train") / f"{signs}-0" / "curves"
    trained = train(task, settings, folder / "base.safetensors", curves)
    row = trained.curves.iloc[-1]
    return {"classes": len(task.glosses), "clips": len(task.rows("train")), "validation_clips": len(task.rows("val")),
            "parameters": trained.metrics["parameters"], "batch_size": settings.batch_size,
            "epochs": len(trained.curves), "epoch_seconds": round(trained.seconds, 2),
            "train_loss": round(float(row["train_loss"]), 4),
            "clips_per_second": round(trained.clips_per_second, 2), "written": str(folder)}


def run_step(step: str, data_set: DataSet, seed: int) -> dict:
    """One step by its name: corpus, landmarks, clips, parts, train_<signs>. Returns its own figures."""
    if step.startswith("train_"):
        return train_once(data_set, int(step.removeprefix("train_")))
    if step == "landmarks":
        return fill_store(data_set, seed)
    return {"corpus": list_table, "clips": pack, "parts": settle_parts}[step](data_set)


def measure(command: list[str], folder: Path, env: dict | None = None) -> tuple[int, dict]:
    """Run a command; its exit status, and seconds, cpu_seconds and peak_memory_bytes of it and its children.

    The peak is the largest sum of resident memory seen every tenth of a second, pages shared or mapped from files
    included for each process, and not less than the largest of any single process as the system recorded it.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=env)
    peak = 0
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, _resident(process.pid), _high_water(process.pid))
            time.sleep(SAMPLED)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, {
        "seconds": round(time.perf_counter() - started, 2), "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_memory_bytes": peak,
    }


def _high_water(pid: int) -> int:
    """The most bytes that one process has held so far. (Its resource usage would count what its parent held, too.)"""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _resident(pid: int) -> int:
    total = 0
    try:
        parent = psutil.Process(pid)
        processes = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def disk_use(path: Path) -> int:
    """Bytes that a file, or all files of a folder, take on the disk; 0 where there is none."""
    files = [path] if path.is_file() else [entry for entry in path.rglob("*") if entry.is_file()]
    return sum(entry.stat().st_blocks * 512 for entry in files)


def rehearse(folder: Path, seed: int) -> dict:
    """All steps of a workspace that are not finished, each in its process; returns the report.

    Raises:
        InputError: a step failed.
    """
    data_set = load_data_set(folder / f"{NAME}.yaml")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    steps = {}
    for step in ("corpus", "landmarks", "clips", "parts", *(f"train_{count}" for count in data_set.class_counts)):
        done = folder / "steps" / f"{step}.json"
        if done.is_file():
            print(f"{step}: finished by an earlier run", flush=True)
            steps[step] = {**json.loads(done.read_text(encoding="utf-8")), "of_an_earlier_run": True}
            continue
        print(f"{step} ...", flush=True)
        draft = done.with_name(f"{step}.part")
        command = [sys.executable, __file__, "--folder", str(folder), "--seed", str(seed), "--step", step]
        status, cost = measure(command, folder, env)
        if status:
            raise InputError(f"The step {step} failed (exit status {status}); what is finished is kept in {folder}, "
                             "and the same command goes on from there.")
        found = json.loads(draft.read_text(encoding="utf-8"))
        written = found.pop("written", None)
        size = {"bytes_on_disk": disk_use(Path(written))} if written else {}
        figures = {**cost, **size, "clips_per_second": round(found["clips"] / cost["seconds"], 2), **found}
        steps[step] = figures
        print(f"{step}: {cost['seconds']:.0f} s, {cost['peak_memory_bytes'] / 1e9:.2f} GB of memory", flush=True)
        write_json(steps[step], done)
        draft.unlink()
    peak = max(figures["peak_memory_bytes"] for figures in steps.values())
    return {
        "benchmark": "rehearsal", "landmarks": NOTE, "clips": steps["corpus"]["clips"],
        "frames": steps["corpus"]["frames"], "class_counts": list(data_set.class_counts),
        "seconds": round(sum(figures["seconds"] for figures in steps.values()), 1), "peak_memory_bytes": peak,
        "memory_limit_bytes": MEMORY_LIMIT, "within_memory_limit": peak < MEMORY_LIMIT,
        "bytes_on_disk": disk_use(folder / "data" / NAME), "cores": os.cpu_count(), "steps": steps,
    }


def main(arguments: list[str] | None = None) -> int:
    """Command line; 1 and one sentence where the input is at fault or a step takes too much memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=TABLE, help="Slovo's annotations.csv (default: %(default)s)")
    parser.add_argument("--clips", type=int, help="about how many clips, for a smaller rehearsal (default: all)")
    parser.add_argument("--folder", type=Path, default=PROJECT / "data" / NAME,
                        help="where to work, removed at the end (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="do not remove the folder")
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic landmarks")
    parser.add_argument("--step", help=argparse.SUPPRESS)  # how the rehearsal calls itself
    options = parser.parse_args(arguments)
    folder = options.folder.absolute()
    try:
        if options.step:
            figures = run_step(options.step, load_data_set(folder / f"{NAME}.yaml"), options.seed)
            write_json(figures, folder / "steps" / f"{options.step}.part")
            return 0
        make_workspace(folder, options.table.resolve(), options.clips, options.seed)
        print(f"Rehearsal in {folder}: {NOTE}.")
        report = rehearse(folder, options.seed)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    if not options.keep:
        shutil.rmtree(folder)
    if not report["within_memory_limit"]:
        print(f"A step took {report['peak_memory_bytes'] / 1e9:.1f} GB of memory, more than "
              f"{MEMORY_LIMIT / 1e9:.0f} GB.", file=sys.stderr)
    print(json.dumps(report, ensure_ascii=False))
    return 0 if report["within_memory_limit"] else 1


if __name__ == "__main__":
    spin_briefly()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # by way of `measure`, which ends its step
    sys.exit(main())
