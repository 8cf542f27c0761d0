"""A corpus of drawn clips in Slovo's own layout, with the truth of every frame."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import multiprocessing
import os
import re
import uuid
import zlib
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from slr_lib.demo.camera import frame_signer
from slr_lib.demo.drawing import draw_frames
from slr_lib.demo.figure import body_joints
from slr_lib.demo.motion import Timing, no_event_pose, plan_timing, sign_pose
from slr_lib.demo.signers import Signer, make_signer, vary
from slr_lib.demo.signs import NO_EVENT, Sign, demo_signs
from slr_lib.demo.truth import hide_outside, holistic_points
from slr_lib.errors import InputError
from slr_lib.video import write_video

COLUMNS = ("attachment_id", "text", "user_id", "height", "width", "length", "train", "begin", "end")
_FOLDERS = {"train": ".mp4", "test": ".mp4", "truth": ".npz"}
_RECORD = "drawing.json"
# the modules of this package that decide a clip's bytes, beside video.py
_DRAWING = ("camera", "corpus", "drawing", "face", "figure", "head", "limbs", "motion", "scenery", "signers", "signs",
            "truth")
_NAMESPACE = uuid.UUID("6f1d8a2c-0f57-5d0c-9a55-2f1c1b0e7d34")


@dataclass(frozen=True)
class Recording:
    """One clip to draw: what, by whom, and how."""

    clip: str
    sign: Sign | None
    signer: int
    take: int
    train: bool
    height: int
    fps: float
    seed: int

    @property
    def gloss(self) -> str:
        """The sign's gloss, or `no_event`."""
        return NO_EVENT if self.sign is None else self.sign.gloss

    def cast(self) -> tuple[Signer, Timing, np.random.Generator]:
        """The signer in this take, the timing, and the generator that goes on from there."""
        rng = np.random.default_rng([self.seed, 5, zlib.crc32(self.gloss.encode()), self.signer, self.take])
        signer = vary(make_signer(self.signer, self.seed), rng)
        return signer, plan_timing(signer, rng, self.fps), rng


def draw_corpus(folder: str | Path, *, signs: int = 20, signers: int = 8, test_signers: int = 2, takes: int = 1,
                height: int = 256, fps: float = 15.0, seed: int = 0, workers: int | None = None,
                progress: bool = True) -> int:
    """Draw `signs` signs and no_event by `signers` signers, `takes` times each; the last `test_signers` are the test.

    Writes annotations.csv (tab-separated, Slovo's columns), train/<id>.mp4, test/<id>.mp4 and truth/<id>.npz: points
    float32 [T, 543, 3] in MediaPipe Holistic's order and coordinates (NaN outside the picture), hand_visible bool
    [T, 2] (left, right), signing bool [T] (the stroke), signing_hand (0 left, 1 right), size (width, height) and
    hand_length in pixels. Clips that are there already, drawn by the same code with the same seed, height and fps, are
    kept; other clips that this function drew here before are removed. The same arguments give the same bytes, whatever
    the number of `workers` (processes; default: one a core).

    Returns:
        The number of clips drawn now.

    Raises:
        InputError: an argument is out of its range, or the folder holds a corpus that this function did not draw.
    """
    folder = Path(folder)
    _check(folder, signs, signers, test_signers, takes, height, fps)
    plan = plan_corpus(signs=signs, signers=signers, test_signers=test_signers, takes=takes, height=height, fps=fps,
                       seed=seed)
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    _settle(folder, plan, {"seed": seed, "height": height, "fps": fps, "code": _code()})
    missing = [recording for recording in plan if not all(path.is_file() for path in _files(folder, recording))]
    workers = min(workers or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
                  max(len(missing), 1))
    with tqdm(total=len(missing), desc="drawing", unit="clip", disable=not progress) as bar:
        if workers == 1:
            for recording in missing:
                draw_clip(folder, recording)
                bar.update()
        else:
            # spawned, not forked: the caller may have threads
            with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
                for done in as_completed([pool.submit(draw_clip, folder, recording) for recording in missing]):
                    done.result()
                    bar.update()
    _write_table(folder / "annotations.csv", plan)
    return len(missing)


def plan_corpus(*, signs: int, signers: int, test_signers: int, takes: int, height: int = 256, fps: float = 15.0,
                seed: int = 0) -> list[Recording]:
    """All clips of a corpus, sign by sign in the list's order, no_event last."""
    plan = []
    for sign in [*demo_signs(signs), None]:
        gloss = NO_EVENT if sign is None else sign.gloss
        for signer in range(signers):
            for take in range(takes):
                clip = str(uuid.uuid5(_NAMESPACE, f"{seed}/{gloss}/{signer}/{take}"))
                plan.append(Recording(clip, sign, signer, take, signer < signers - test_signers, height, fps, seed))
    return plan


def draw_clip(folder: Path, recording: Recording) -> None:
    """Draw one clip and its truth; each file appears whole or not at all, the video last."""
    cv2.setNumThreads(1)  # the clips are what runs side by side
    signer, timing, rng = recording.cast()
    if recording.sign is None:
        pose = no_event_pose(signer, timing, rng)
        signing = np.zeros_like(timing.stroke)
    else:
        pose = sign_pose(recording.sign, signer, timing, rng)
        signing = timing.stroke
    camera = frame_signer(signer, recording.height)
    body = body_joints(pose, signer)
    points, visible = holistic_points(body, signer, camera)
    video, truth = _files(folder, recording)
    part = truth.with_name(f".{truth.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(
                file, points=hide_outside(points, visible), hand_visible=visible, signing=signing,
                signing_hand=np.int64(0 if signer.left_handed else 1), size=np.int64([camera.width, camera.height]),
                hand_length=np.float32(signer.hand * camera.scale))
        part.replace(truth)
    finally:
        part.unlink(missing_ok=True)
    write_video(video, draw_frames(body, pose, signer, camera), recording.fps)


def _files(folder: Path, recording: Recording) -> tuple[Path, Path]:
    part = "train" if recording.train else "test"
    return folder / part / f"{recording.clip}.mp4", folder / "truth" / f"{recording.clip}.npz"


def _settle(folder: Path, plan: list[Recording], settings: dict) -> None:
    """Remove what this corpus does not consist of (other clips, clips by other settings), then record the settings."""
    record = folder / _RECORD
    same = record.is_file() and record.read_text(encoding="utf-8") == _as_json(settings)
    kept = {path for recording in plan for path in _files(folder, recording)} if same else set()
    clip = re.compile(r"\.?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.(mp4|npz)(\.\d+\.part)?")
    for name in _FOLDERS:
        for path in sorted((folder / name).iterdir()):
            if path not in kept and clip.fullmatch(path.name):
                path.unlink()
    (folder / "annotations.csv").unlink(missing_ok=True)  # a table of half a corpus would be taken for a whole one
    if not same:
        part = record.with_suffix(".part")
        part.write_text(_as_json(settings), encoding="utf-8")
        part.replace(record)


def _write_table(path: Path, plan: list[Recording]) -> None:
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        for recording in plan:
            signer, timing, _ = recording.cast()
            camera = frame_signer(signer, recording.height)
            frames = len(timing.weight)
            writer.writerow([recording.clip, recording.gloss, signer.name, camera.height, camera.width, float(frames),
                             recording.train, 0, frames])
    part.replace(path)


def _check(folder: Path, signs: int, signers: int, test_signers: int, takes: int, height: int, fps: float) -> None:
    faults = {
        f"signs is {signs}; it must lie between 1 and 20000": not 1 <= signs <= 20_000,
        f"test_signers is {test_signers} of {signers} signers; both parts need one at least":
            not 1 <= test_signers < signers,
        f"takes is {takes}; it must be 1 or more": takes < 1,
        f"height is {height}; it must be an even number of pixels of 64 or more": height < 64 or height % 2 == 1,
        f"fps is {fps}; it must lie between 1 and 120": not 1 <= fps <= 120,
    }
    for fault, present in faults.items():
        if present:
            raise InputError(f"demo corpus: {fault}.")
    if (folder / "annotations.csv").exists() and not (folder / _RECORD).exists():
        raise InputError(f"{folder} holds a corpus that is not the demo's (annotations.csv without {_RECORD}); "
                         "choose another folder for the demo.")


def _code() -> str:
    """Changes with the code that draws and writes clips; comments and docstrings do not count."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in [*(here / f"{name}.py" for name in _DRAWING), here.parent / "video.py"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def _as_json(settings: dict) -> str:
    return json.dumps(settings, indent=2, sort_keys=True) + "\n"
