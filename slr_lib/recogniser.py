"""A checkpoint and a clip -> the likeliest signs. The one loader for notebooks, service and export.

`python -m slr_lib.recogniser CLIP… [--checkpoint FILE]` prints the top five of each video. Where `slr_lib.onnx_export`
has exported the checkpoint, ONNX Runtime computes the network, else torch: same signs, same probabilities.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from slr_lib.batches import Batch, collate_landmarks
from slr_lib.checkpoint import Checkpoint, load_checkpoint
from slr_lib.clips import ClipSettings
from slr_lib.data_sets import find_project
from slr_lib.engines import OnnxEngine, TorchEngine, export_of
from slr_lib.errors import InputError
from slr_lib.landmark_store import ClipLandmarks
from slr_lib.packed_clips import Statistics
from slr_lib.skeleton import HOLISTIC
from slr_lib.views import mean_logits


class Guess(NamedTuple):
    """A sign and how likely the model holds it, from 0 to 1."""

    gloss: str
    share: float


class Recogniser:
    """A trained model with all that leads from landmarks to its input.

    Args:
        checkpoint: as `slr_lib.checkpoint.load_checkpoint` reads it. path: its file, for messages. engine: computes the
        network; None: torch, with the checkpoint's weights.
    """

    def __init__(self, checkpoint: Checkpoint, path: str | os.PathLike = "checkpoint",
                 engine: TorchEngine | OnnxEngine | None = None):
        self.checkpoint, self.path = checkpoint, Path(path)
        self.glosses, self.skeleton = checkpoint.glosses, checkpoint.skeleton
        self.engine = TorchEngine(checkpoint) if engine is None else engine
        try:
            settings = dict(checkpoint.clips)
            self.max_frames = settings.pop("max_frames")
            self.settings = ClipSettings(**settings)
            self.statistics = Statistics.from_plain(checkpoint.statistics)
            self._mean, self._std = torch.from_numpy(self.statistics.mean), torch.from_numpy(self.statistics.std)
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: the checkpoint does not tell how its clips were made ({error}); train again."
                             ) from error

    @classmethod
    def load(cls, path: str | os.PathLike | None = None) -> Recogniser:
        """The recogniser of a checkpoint file or of its export (.onnx); of the project's newest where none is named.

        A checkpoint's own export beside it is used where there is one.

        Raises:
            InputError: there is none, or it is damaged.
        """
        path = Path(newest_checkpoint() if path is None else path)
        if path.suffix == ".onnx":
            engine = OnnxEngine(path)
            return cls(engine.checkpoint, path, engine)
        return cls(load_checkpoint(path), path, export_of(path))

    def probabilities(self, batch: Batch) -> np.ndarray:
        """Float32 [B, N], rows that sum to 1, of clips seen as slr_lib.views says."""
        logits = mean_logits(self.engine.logits, batch, self.skeleton, self._mean, self._std, self.max_frames)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return shares / shares.sum(1, keepdims=True)

    def recognise_landmarks(self, landmarks: ClipLandmarks, k: int = 5, name: str = "the clip") -> list[Guess]:
        """The k likeliest signs of one clip, the likeliest first.

        Args:
            landmarks: of the checkpoint's skeleton, all its points, NaN where not detected. name: for messages.

        Raises:
            InputError: the clip has too few frames with a hand, or landmarks of another skeleton.
        """
        batch, reasons = collate_landmarks([landmarks], self.skeleton, self.settings, self.statistics, self.max_frames)
        if reasons:
            raise InputError(f"{name}: {reasons[0]}; show the signer's hands in the picture for the whole sign.")
        shares = self.probabilities(batch)[0]
        best = np.argsort(-shares, kind="stable")[:k]
        return [Guess(self.glosses[place], float(shares[place])) for place in best]

    def recognise_video(self, path: str | os.PathLike, k: int = 5) -> list[Guess]:
        """The k likeliest signs of a video file of one sign, the likeliest first.

        Raises:
            InputError: the file cannot be read, shows nobody, or the checkpoint's points are none of MediaPipe's.
        """
        points = self._holistic_points()
        found = video_landmarks(path)
        return self.recognise_landmarks(ClipLandmarks(found.points[:, points], found.times, found.info), k, str(path))

    def _holistic_points(self) -> list[int]:
        """Where the skeleton's points are among Holistic's: hands alone have the same names there."""
        try:
            return [HOLISTIC.index(point) for point in self.skeleton.points]
        except KeyError as error:
            raise InputError(f"{self.path}: made for the skeleton {self.skeleton.name}, whose {error} MediaPipe does "
                             "not find in a video; use a checkpoint of a set of videos.") from None


def video_landmarks(path: str | os.PathLike) -> ClipLandmarks:
    """MediaPipe Holistic's landmarks of a video file, [T, 543, 3].

    Raises:
        InputError: the file cannot be read, or holds no frame.
    """
    # slow to import, and not needed where landmarks are at hand
    from slr_lib.landmarks import extract_landmarks
    from slr_lib.video import read_video

    times: list[float] = []
    with read_video(path) as video:

        def frames():
            for seconds, picture in video:
                times.append(seconds)
                yield picture

        points = extract_landmarks(frames())
        return ClipLandmarks(points, np.array(times), {"width": video.width, "height": video.height})


def newest_checkpoint(project: Path | None = None) -> Path:
    """The checkpoint written last under data/*/models of the project.

    Raises:
        InputError: there is none.
    """
    project = project or find_project()
    found = sorted(project.glob("data/*/models/*/*.safetensors"), key=lambda path: (path.stat().st_mtime, str(path)))
    if not found:
        raise InputError(f"{project / 'data'}: no checkpoint yet; train one (`make repro`) or name one.")
    return found[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status, 1 where a clip could not be recognised (the others are)."""
    parser = argparse.ArgumentParser(prog="python -m slr_lib.recogniser", description="The top five signs of videos.")
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="video file of one sign")
    parser.add_argument("--checkpoint", help="file to use; the newest under data/*/models by default")
    parser.add_argument("--top", type=int, default=5, help="how many signs to print")
    options = parser.parse_args(arguments)
    status = 0
    try:
        recogniser = Recogniser.load(options.checkpoint)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    source = f"{recogniser.path} ({len(recogniser.glosses)} signs of {recogniser.checkpoint.data_set})"
    print(f"checkpoint: {source}, computed by {recogniser.engine.name}", file=sys.stderr)
    for clip in options.clips:
        try:
            guesses = recogniser.recognise_video(clip, options.top)
        except InputError as error:
            print(error, file=sys.stderr)
            status = 1
            continue
        print(clip)
        for guess in guesses:
            print(f"  {100 * guess.share:5.1f} %  {guess.gloss}")
    return status


if __name__ == "__main__":
    sys.exit(main())
