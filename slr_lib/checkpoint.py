"""A trained recogniser in one file: weights and all that is needed to use them, as safetensors; no pickle anywhere.

The metadata's key `recogniser` holds one JSON object: format, config (of the model), glosses (a gloss's place is its
class), statistics and clips (how landmarks become a batch), skeleton (written out in full), data_set, epoch, metrics,
training. Equal content gives equal bytes.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from slr_lib.errors import InputError
from slr_lib.model import ModelConfig, Recognition
from slr_lib.skeleton import Part, Skeleton

KEY, FORMAT = "recogniser", 1


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    weights: of the model, on the CPU; config; glosses: N names; skeleton: of the landmarks that go in, whose selection
    is the model's points; statistics, clips: normalisation and clip settings, plain values; data_set: its name; epoch:
    of these weights, from 0; metrics: on the validation part (per cent), or empty; training: settings and where the
    weights come from.
    """

    weights: dict[str, Tensor]
    config: ModelConfig
    glosses: tuple[str, ...]
    skeleton: Skeleton
    statistics: dict = field(default_factory=dict)
    clips: dict = field(default_factory=dict)
    data_set: str = ""
    epoch: int = 0
    metrics: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)

    def model(self) -> Recognition:
        """The model with these weights, in evaluation mode."""
        model = Recognition(self.config)
        model.load_state_dict(self.weights)
        return model.eval()


def save_checkpoint(path: str | os.PathLike, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    text = description(checkpoint)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(checkpoint.weights.items())}
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.part")
    with draft.open("wb") as file:
        file.write(save(weights, metadata={KEY: text}))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(target)


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: it is absent, damaged, or was not written by `save_checkpoint`; names the file and the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; train one (`make repro`) or name another file.")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            text = (file.metadata() or {}).get(KEY)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: the checkpoint is damaged ({error}); train again or restore the file.") from error
    if text is None:
        raise InputError(f"{path}: weights without a description; only checkpoints of this project can be used.")
    checkpoint = read_description(text, weights, path)
    try:
        checkpoint.model()
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _misfit(path, error) from error
    return checkpoint


def description(checkpoint: Checkpoint) -> str:
    """All but the weights, as JSON text; `read_description` reads it."""
    described = {
        "format": FORMAT, "config": checkpoint.config.as_plain(), "glosses": list(checkpoint.glosses),
        "skeleton": asdict(checkpoint.skeleton), "statistics": checkpoint.statistics, "clips": checkpoint.clips,
        "data_set": checkpoint.data_set, "epoch": checkpoint.epoch, "metrics": checkpoint.metrics,
        "training": checkpoint.training,
    }
    return json.dumps(described, ensure_ascii=False, sort_keys=True)


def read_description(text: str, weights: dict[str, Tensor], path: str | os.PathLike) -> Checkpoint:
    """The checkpoint of a description and its weights (none where another engine holds them); path: for messages.

    Raises:
        InputError: the description is of another version, or contradicts itself.
    """
    try:
        described = json.loads(text)
        if described["format"] != FORMAT:
            raise InputError(f"{path}: format {described['format']}, this version reads {FORMAT}; train again.")
        checkpoint = Checkpoint(
            weights=weights, config=ModelConfig.from_plain(described["config"]), glosses=tuple(described["glosses"]),
            skeleton=_skeleton(described["skeleton"]),
            **{key: described[key] for key in ("statistics", "clips", "data_set", "epoch", "metrics", "training")},
        )
    except InputError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise _misfit(path, error) from error
    if len(checkpoint.glosses) != checkpoint.config.signs:
        raise InputError(f"{path}: {len(checkpoint.glosses)} glosses for {checkpoint.config.signs} signs; train again.")
    return checkpoint


def _misfit(path: str | os.PathLike, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{path}: the checkpoint does not fit this version ({reason}); train again.")


def carry_weights(start: Checkpoint, model: Recognition, glosses: tuple[str, ...], path: str | os.PathLike) -> int:
    """Fill a fresh model with a checkpoint's weights. Where signs differ, the heads' rows of common glosses go too.

    Args:
        path: the checkpoint's file, for messages.

    Returns:
        How many glosses were known to the checkpoint.

    Raises:
        InputError: the models differ in more than their signs.
    """
    if not start.config.same_body(model.config):
        raise InputError(f"{path}: a model of another shape or skeleton than the one to train; train from the start, "
                         "or set the sizes to the checkpoint's.")
    weights = model.state_dict()
    known = {gloss: place for place, gloss in enumerate(start.glosses)}
    here = torch.tensor([i for i, gloss in enumerate(glosses) if gloss in known], dtype=torch.long)
    there = torch.tensor([known[gloss] for gloss in glosses if gloss in known], dtype=torch.long)
    for name, tensor in start.weights.items():
        if name.startswith(("head.", "auxiliary_heads.")):
            weights[name][here] = tensor[there]
        else:
            weights[name] = tensor
    model.load_state_dict(weights)
    return len(here)


def _skeleton(plain: dict) -> Skeleton:
    parts = tuple(Part(p["name"], tuple(p["points"]), p["side"], p["kind"]) for p in plain["parts"])
    lists = {key: tuple(value) for key, value in plain.items() if isinstance(value, list)}
    return Skeleton(**{**plain, **lists, "parts": parts, "edges": tuple((a, b) for a, b in plain["edges"])})
