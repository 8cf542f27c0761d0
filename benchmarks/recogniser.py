"""Speed and size of the recogniser beside the repaired predecessor, all in one run: `make bench-recogniser`.

Two threads, 128 frames, 1000 signs, the holistic skeleton's chosen points; landmarks of the procedural signer
(SYNTHETIC: figures of cost, none of recognition), weights untrained.

- train_clips_per_s: whole training steps on batches at hand, every clip of 128 frames. Of ours with the batch size of
  params.yaml. Of the predecessor at batch 8, as published, and at its best of several batch sizes; the ratio takes the
  best, which is the more favourable to it. Both in the faster of bf16 and fp32; in fp32 alone where the processor would
  only emulate bf16, which takes up to 28 times as long.
- forward_ms: the network alone, one clip, fp32, by torch.
- clip_ms: landmarks [128, 543, 3] in memory -> top five, one clip, all preprocessing included, by the recogniser of an
  export with weights of 8 bits; float32_clip_ms: by that of an export that computes torch's logits; engine: of both.
- preprocess_ms: landmarks [150, 543, 3] with NaN -> model input, a clip's share of a batch of 256. Ours and the
  predecessor's in a fresh process each: half and more of what the predecessor takes is the system's clearing of memory
  for its arrays, which differs with what a process did before, and from minute to minute.

All but training is the median of five turns, in which ours and the predecessor's are measured one after the other; the
one-clip figures for half a second each at least, for a shared host's cores change their pace within less.

The last line printed is one JSON object; `ratios` are ours over the predecessor's (clip: its forward pass over our
whole way from landmarks to the top five), each with the `bar` that it must reach.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from compare_models import OURS, recipe_of
from references import REFERENCES, build_reference
from references.predecessor_preprocessing import POINTS, preprocess
from slr_lib.batches import Batch, collate_landmarks
from slr_lib.checkpoint import Checkpoint, save_checkpoint
from slr_lib.clips import ClipSettings
from slr_lib.demo import demo_signs, make_signer, synthetic_landmarks
from slr_lib.fitting import TrainSettings
from slr_lib.landmark_store import ClipLandmarks
from slr_lib.losses import recognition_loss
from slr_lib.memory import keep_memory
from slr_lib.model import ModelConfig, Recognition, build, count_parameters
from slr_lib.onnx_export import export_onnx
from slr_lib.optimiser import make_optimiser
from slr_lib.packed_clips import Statistics
from slr_lib.precision import computes_bf16
from slr_lib.recogniser import Recogniser
from slr_lib.skeleton import HOLISTIC
from slr_lib.tasks import MAX_FRAMES
from threads import spin_briefly

SIGNS, THREADS, FPS = 1000, 2, 30.0
LONG, BATCH = 150, 256  # frames and clips of the preprocessing's measurement
PUBLISHED_BATCH = 8
BARS = {"training": 40.0, "clip": 30.0, "preprocessing": 130.0}


@dataclass(frozen=True)
class Effort:
    """How much to measure. batches: the predecessor's batch sizes; steps: timed ones of a training; passes: timed ones
    of one clip, in each turn, more where they take less than `seconds`; clips: of the preprocessing; turns: of ours and
    the predecessor's, all but training."""

    batches: tuple[int, ...] = (PUBLISHED_BATCH, 16, 32)
    steps: int = 5
    passes: int = 8
    seconds: float = 0.5
    clips: int = BATCH
    turns: int = 5


def landmarks(frames: int, count: int) -> list[np.ndarray]:
    """Clips of the procedural signer, float32 [frames, 543, 3]; a hand may be missing, never both (such frames would be
    dropped, and the clips shorter than said)."""
    hands = [list(part.points) for part in HOLISTIC.hands]
    drawn = []
    for number, sign in enumerate(demo_signs(min(count, 8))):
        points = synthetic_landmarks(frames, number, sign, make_signer(number, 0))
        seen = ~np.isnan(points[:, hands, 0]).all(2)  # T, 2
        last = np.maximum.accumulate(np.where(seen.any(1), np.arange(frames), 0))
        last = np.where(seen[last].any(1), last, np.flatnonzero(seen.any(1))[0])
        drawn.append(points[last])
    return [drawn[number % len(drawn)].copy() for number in range(count)]


def seconds_of(work: Callable[[], object], times: int, least: float = 0) -> float:
    """Median time of a call, of as many and for `least` seconds at least, after one that is not counted."""
    work()
    taken = []
    while len(taken) < times or sum(taken) < least:
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def train_rate(model: nn.Module, settings: TrainSettings, batch: Batch, bf16: bool, steps: int) -> float:
    """Clips a second of training steps on one batch, as slr_lib.fitting takes them."""
    optimiser = make_optimiser(model, settings.optimiser, 1e-5, settings.weight_decay)
    model.train()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            outputs = model.outputs(batch.points, batch.mask, batch.frames, batch.times)
            loss = recognition_loss(outputs, batch.labels, settings.label_smoothing, settings.focal_gamma,
                                    settings.auxiliary_weight)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimiser.step()
        optimiser.zero_grad()

    return len(batch.labels) / seconds_of(step, steps)


@torch.inference_mode()
def forward(model: nn.Module, batch: Batch) -> Tensor:
    """One forward pass."""
    return model(batch.points, batch.mask, batch.frames, batch.times)


def first_clips(batch: Batch, count: int) -> Batch:
    """The first clips of a batch."""
    return Batch(*(tensor[:count] for tensor in batch))


def measure(effort: Effort) -> dict:
    """All figures; the report."""
    torch.set_num_threads(THREADS)
    skeleton, _ = HOLISTIC.select()
    unit = unit_statistics()
    settings, _ = recipe_of(OURS)
    config = ModelConfig.for_skeleton(skeleton, SIGNS, dropout=settings.dropout, drop_path=settings.drop_path,
                                      head_dropout=settings.head_dropout)
    ours = build(config)
    theirs = build_reference("predecessor", skeleton, SIGNS, steps=1)
    rival = TrainSettings(**REFERENCES["predecessor"].settings)
    most = max(settings.batch_size, *effort.batches)
    shown = [ClipLandmarks(points, np.arange(MAX_FRAMES) / FPS) for points in landmarks(MAX_FRAMES, most)]
    batch, _ = collate_landmarks(shown, HOLISTIC, ClipSettings(), unit, MAX_FRAMES)
    if not batch.frames.all() or batch.frames.shape[1] != MAX_FRAMES:
        raise RuntimeError("a clip lost frames on its way")
    batch = batch._replace(labels=torch.arange(most) % SIGNS)

    autocasts = (True, False) if computes_bf16("cpu") else (False,)
    bar = tqdm(total=6 * effort.turns + len(autocasts) * (1 + len(effort.batches)), desc="measuring", unit="figure")

    def counted(figure: float) -> float:
        bar.update()
        return figure

    one = first_clips(batch, 1)
    recognisers = exported(ours, unit)
    ways = [*(partial(forward, model.eval(), one) for model in (ours, theirs)),
            *(partial(by.recognise_landmarks, shown[0]) for by in recognisers)]
    turns = [[*(counted(1000 * seconds_of(way, effort.passes, effort.seconds)) for way in ways),
              *(counted(1000 * alone(way, effort.clips)) for way in (preprocessing, predecessor_preprocessing))]
             for _ in range(effort.turns)]
    forward_ms, their_forward_ms, clip_ms, float32_clip_ms, prepared_ms, their_prepared_ms = (
        statistics.median(figures) for figures in zip(*turns))
    keep_memory()  # as slr_lib.training does; for the predecessor too
    trained = max(counted(train_rate(ours, settings, first_clips(batch, settings.batch_size), bf16, effort.steps))
                  for bf16 in autocasts)
    rates = {size: max(counted(train_rate(theirs, rival, first_clips(batch, size), bf16, effort.steps))
                       for bf16 in autocasts) for size in effort.batches}
    bar.close()
    fastest = max(rates, key=rates.get)
    ratios = {"training": trained / rates[fastest], "clip": their_forward_ms / clip_ms,
              "preprocessing": their_prepared_ms / prepared_ms}
    return {
        "benchmark": "recogniser", "landmarks": "synthetic", "frames": MAX_FRAMES, "signs": SIGNS,
        "points": len(skeleton.points), "threads": THREADS, "cores": os.cpu_count(), "batch_size": settings.batch_size,
        "train_clips_per_s": round(trained, 2), "forward_ms": round(forward_ms, 3), "clip_ms": round(clip_ms, 3),
        "float32_clip_ms": round(float32_clip_ms, 3), "engine": recognisers[0].engine.name,
        "preprocess_ms": round(prepared_ms, 4), "parameters": count_parameters(ours),
        "predecessor": {
            "train_clips_per_s": round(rates[fastest], 3), "batch_size": fastest,
            "train_clips_per_s_by_batch_size": {str(size): round(rate, 3) for size, rate in rates.items()},
            "forward_ms": round(their_forward_ms, 3), "preprocess_ms": round(their_prepared_ms, 4),
            "parameters": count_parameters(theirs),
        },
        "ratios": {name: round(value, 1) for name, value in ratios.items()}, "bars": BARS,
        "bars_reached": {name: value >= BARS[name] for name, value in ratios.items()},
    }


def exported(model: Recognition, unit: Statistics) -> list[Recogniser]:
    """The recognisers of a model's exports, as a user has them: with weights of 8 bits, and exact."""
    checkpoint = Checkpoint(
        weights=model.state_dict(), config=model.config, glosses=tuple(str(i) for i in range(model.config.signs)),
        skeleton=HOLISTIC, statistics=unit.as_plain(), clips={**asdict(ClipSettings()), "max_frames": MAX_FRAMES},
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_checkpoint(path, checkpoint)
        return [Recogniser.load(export_onnx(path, int8=int8)) for int8 in (True, False)]


def alone(measurement: Callable[[int], float], clips: int) -> float:
    """A measurement in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measurement, clips).result()


def preprocessing(clips: int) -> float:
    """Seconds a clip, of clips that go into one batch, as the recogniser makes it."""
    torch.set_num_threads(THREADS)
    shown = [ClipLandmarks(points, np.arange(LONG) / FPS) for points in landmarks(LONG, clips)]
    return seconds_of(lambda: collate_landmarks(shown, HOLISTIC, ClipSettings(), unit_statistics(), MAX_FRAMES),
                      5) / clips


def predecessor_preprocessing(clips: int) -> float:
    """Seconds a clip, one by one, as the predecessor has it."""
    torch.set_num_threads(THREADS)
    mean, std = torch.zeros(len(POINTS), 2), torch.ones(len(POINTS), 2)
    given = landmarks(LONG, clips)
    return seconds_of(lambda: [preprocess(points, mean, std) for points in given], 1) / clips


def unit_statistics() -> Statistics:
    """Those that change nothing, for the holistic skeleton's chosen points."""
    points = len(HOLISTIC.select()[0].points)
    return Statistics(np.zeros((points, 3), np.float32), np.ones((points, 3), np.float32))


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions, for a look: figures are rough")
    options = parser.parse_args(arguments)
    quick = Effort(batches=(PUBLISHED_BATCH,), steps=1, passes=5, seconds=0, clips=8, turns=1)
    print(json.dumps(measure(quick if options.quick else Effort())))
    return 0


if __name__ == "__main__":
    spin_briefly()
    sys.exit(main())
