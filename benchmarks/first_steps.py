"""Whether two versions of the code train a reference alike, bit for bit: the first steps of a run, told by hashes.

    python benchmarks/first_steps.py --model gru --dataset wlasl_hands --signs 100 --seed 0 --steps 60

The column `code` of reports/models.csv changes with every change of the source, also of a comment or for time alone.
Whether a row still stands for the present code, two checkouts tell: run this in either (copied into an older one), on
one machine and on as many threads, after `python -m slr_lib.pipeline --dataset NAME -- repro prepare_clips` there. The
last line printed is one JSON object; where it is the same but for `code`, so are the losses of these steps, all weights
after them, validated epochs between them included, and what these weights say of the validation clips. Writes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from compare_models import Run, code, recipe_of
from references import REFERENCES, build_reference
from slr_lib.data_sets import load_data_set
from slr_lib.errors import exit_status
from slr_lib.evaluation import predict
from slr_lib.fitting import Fitting
from slr_lib.notebook import read_params
from slr_lib.packed_clips import PackedClips
from slr_lib.parts import check_parts
from slr_lib.training import fit
from threads import spin_briefly


class Over(Exception):
    """The steps are done."""


def first_steps(run: Run, steps: int) -> dict:
    """Train the first steps of a reference's run; what came of them.

    Args:
        steps: of the optimiser, at least 1; a shorter training is carried out whole.

    Returns:
        The run's key; steps taken; threads; code; loss: of the first and the last step; losses, weights, logits:
        `digest` of the steps' losses, of all weights afterwards, and of what these say of the validation clips.
    """
    task, losses = run.task(), []
    model = build_reference(run.model, task.skeleton, len(task.glosses), len(task.train_batches(0)), run.settings.seed)

    class FirstSteps(Fitting):
        """Training that raises Over after the last of the steps."""

        def on_train_batch_end(self, outputs, batch, place: int) -> None:
            super().on_train_batch_end(outputs, batch, place)
            losses.append(outputs["loss"].item())
            if len(losses) == steps:
                raise Over

    with tempfile.TemporaryDirectory() as folder, suppress(Over):
        fit(model, task, run.settings, Path(folder) / run.title, "first steps", lambda _: None, fitting=FirstSteps)
    weights = [tensor.numpy() for _, tensor in sorted(model.cpu().state_dict().items())]
    logits = predict(model.eval(), task.val_batches())
    return {**run.key, "steps": len(losses), "threads": torch.get_num_threads(), "code": code(run.model),
            "loss": [losses[0], losses[-1]], "losses": digest([np.array(losses)]), "weights": digest(weights),
            "logits": digest([logits])}


def digest(arrays: Iterable[np.ndarray]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of arrays' bytes."""
    made = hashlib.sha256()
    for array in arrays:
        made.update(np.ascontiguousarray(array).tobytes())
    return made.hexdigest()[:16]


def main(arguments: list[str] | None = None) -> int:
    """Command line; an InputError's sentence and 1 on bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=tuple(REFERENCES), required=True)
    parser.add_argument("--dataset", default="wlasl_hands", help="name or YAML file (default: %(default)s)")
    parser.add_argument("--signs", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--fold", default="0", help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=60, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error("--steps must be at least 1")

    def told() -> str:
        data_set, (settings, augmented) = load_data_set(options.dataset), recipe_of(options.model)
        check_parts(data_set, PackedClips(data_set.clips), options.fold, **read_params("prepare_clips"))
        run = Run(options.model, options.model, data_set, options.signs, options.fold,
                  replace(settings, seed=options.seed), augmented)
        return json.dumps(first_steps(run, options.steps))

    return exit_status(told)


if __name__ == "__main__":
    spin_briefly()
    sys.exit(main())
