"""One task of a data set: N signs on one fold. Which packed clips train, validate and test it, and their classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict

import numpy as np

from slr_lib.augment import AugmentSettings, augmentation
from slr_lib.batches import Batch, ClipBatches
from slr_lib.data_sets import DataSet
from slr_lib.packed_clips import PackedClips, Statistics
from slr_lib.parts import STATISTICS, clip_settings, parts_of
from slr_lib.signs import read_signs, task_glosses
from slr_lib.skeleton import load_skeleton
from slr_lib.splits import TEST, TRAIN, VAL

MAX_FRAMES = 128  # of a batch; longer clips are thinned out


class Task:
    """The clips of one task, as slr_lib.training asks for them.

    glosses: N names, their places the class ids; skeleton: of the packed points, selected from source_skeleton, that
    of the landmarks; statistics, settings: plain values for the checkpoint; parts: of every packed clip, train, val,
    test or ''.

    Args:
        signs: N without no_event. strength: of the training's augmentation: strong, weak, none or settings of its own.
        statistics: plain values to normalise by; those that a start was trained with, else the fold's own. refit: the
        validation part is training's too, once all has been chosen on it.

    Raises:
        InputError: the clips are not prepared, or there are fewer signs, or no such fold or strength.
    """

    def __init__(
        self, data_set: DataSet, signs: int, fold: str = "0", *, batch_size: int = 32,
        strength: str | AugmentSettings = "none", seed: int = 0, statistics: dict | None = None,
        refit: bool = False,
    ):
        self.packed = PackedClips(data_set.clips)
        self.data_set, self.fold = data_set.name, fold
        self.glosses = tuple(task_glosses(read_signs(data_set), signs, data_set.no_event))
        self.source_skeleton = load_skeleton(data_set.skeleton_source)
        self.skeleton, _ = self.source_skeleton.select()
        self.settings = {**asdict(clip_settings(data_set)), "max_frames": MAX_FRAMES}
        self.statistics = statistics or json.loads((data_set.clips / STATISTICS).read_text(encoding="utf-8"))[fold]
        self.parts = parts_of(self.packed, fold)
        if refit:
            self.parts = np.where(self.parts == VAL, TRAIN, self.parts)
        classes = {gloss: number for number, gloss in enumerate(self.glosses)}
        self._classes = self.packed.table["gloss"].map(classes).fillna(-1).to_numpy(np.int64)
        self._unmirrored = [classes[gloss] for gloss in data_set.no_mirror if gloss in classes]
        self._batch_size, self._seed = batch_size, seed
        self._augmented = augmentation(strength) if isinstance(strength, str) else strength
        self._training = self._batches(TRAIN, self._augmented, shuffle=True)

    def rows(self, part: str) -> np.ndarray:
        """Rows of the packed table that are in a part (train, val, test) and show one of the signs: int64 [n]."""
        return np.flatnonzero((self.parts == part) & (self._classes >= 0))

    def labels(self, part: str) -> np.ndarray:
        """Classes of `rows`: int64 [n]."""
        return self._classes[self.rows(part)]

    @property
    def fingerprint(self) -> str:
        """Hash of the clips, their parts, classes and statistics, and of how batches are made of them."""
        digest = hashlib.sha256(self.packed.points)  # memory-mapped: never in memory as a whole
        described = [self.glosses, self.statistics, self.settings, self._batch_size, self._seed, self._unmirrored,
                     asdict(self._augmented) if self._augmented else None,
                     [[part, self.rows(part).tolist()] for part in (TRAIN, VAL)]]
        digest.update(json.dumps(described, ensure_ascii=False).encode())
        return digest.hexdigest()

    def train_batches(self, epoch: int, rank: int = 0, ranks: int = 1) -> Iterable[Batch]:
        """The epoch's batches of the training part, mixed and augmented; their number is the same in every epoch.

        Args:
            rank, ranks: the share of one of several processes (slr_lib.batches.ClipBatches).
        """
        if (self._training.rank, self._training.ranks) != (rank, ranks):
            self._training = self._batches(TRAIN, self._augmented, shuffle=True, rank=rank, ranks=ranks)
        return _Epoch(self._training, epoch)

    def val_batches(self, rank: int = 0, ranks: int = 1) -> ClipBatches | None:
        """The validation part's batches, every clip once; None where nothing was carved."""
        return self._batches(VAL, rank=rank, ranks=ranks) if len(self.rows(VAL)) else None

    def test_batches(self) -> ClipBatches:
        """The test part's batches, every clip once."""
        return self._batches(TEST)

    def _batches(self, part: str, augmented=None, shuffle: bool = False, **share: int) -> ClipBatches:
        return ClipBatches(
            self.packed, self.rows(part), self.labels(part), Statistics.from_plain(self.statistics), self.skeleton,
            self._batch_size, self.settings["max_frames"], augmented, self._unmirrored, self._seed, shuffle,
            **share,
        )


class _Epoch:
    """One epoch of some batches, which knows its length."""

    def __init__(self, batches: ClipBatches, epoch: int):
        self.batches, self.epoch = batches, epoch

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches.of_epoch(self.epoch)
