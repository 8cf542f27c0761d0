"""Packed clips -> batches: buckets of like length (after augmentation), augmented, padded, normalised.

The same seed and epoch give the same bytes. Nothing depends on which epochs or batches were made before,
so that a resumed training sees what it would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from slr_lib import loops
from slr_lib.augment import AugmentSettings, Batch, augment, changed_lengths
from slr_lib.clips import FARTHEST, ClipSettings, evenly, find_clip, flat, make_usual
from slr_lib.errors import InputError
from slr_lib.memory import reused
from slr_lib.packed_clips import PackedClips, Statistics
from slr_lib.skeleton import Skeleton

if TYPE_CHECKING:
    from slr_lib.landmark_store import ClipLandmarks

MULTIPLE = 8  # frames of a batch: fewer shapes for the compiler and the memory allocator
_BUCKETS = 16  # batches whose clips are sorted by length among themselves

__all__ = ["Batch", "ClipBatches", "collate_landmarks", "padded"]


class ClipBatches:
    """The batches of some clips; iterating runs over `epoch` (0 at first), `of_epoch` over any.

    Args:
        packed: the clips. rows: their numbers in the packed table. labels: a class for each row.
        statistics: of the training part. skeleton: the selected one, of the packed points.
        batch_size: clips of a batch (the last of an epoch may have fewer). max_frames: longer clips are thinned out
        evenly to as many.
        augmentation: None for validation and test; then clips are not mixed either, and every one comes.
        no_mirror: classes that are never mirrored.
        shuffle: mix the clips anew every epoch; by default where there is augmentation.
        rank, ranks: this process's share (DDP): a step's batch_size x ranks clips are those of one process with
        batches as large, dealt out by turns, so that all processes get as many batches of like length. A process for
        which the last step has no clip gets another's, with the label -1: to be counted nowhere.

    Raises:
        InputError: no clip, or the skeleton has another number of points than the clips.
    """

    def __init__(self, packed: PackedClips, rows: Sequence[int], labels: Sequence[int], statistics: Statistics,
                 skeleton: Skeleton, batch_size: int, max_frames: int = 128,
                 augmentation: AugmentSettings | None = None, no_mirror: Sequence[int] = (), seed: int = 0,
                 shuffle: bool | None = None, rank: int = 0, ranks: int = 1):
        self.packed, self.skeleton = packed, skeleton
        self.rows, self.labels = np.asarray(rows, np.int64), np.asarray(labels, np.int64)
        if not len(self.rows):
            raise InputError(f"{packed.folder}: no clip for these batches; check the split and the number of signs.")
        if packed.points.shape[1] != len(skeleton.points):
            raise InputError(f"{packed.folder}: clips of {packed.points.shape[1]} points, the skeleton {skeleton.name} "
                             f"has {len(skeleton.points)}; run the stage prepare_clips again.")
        self.mean, self.std = torch.from_numpy(statistics.mean), torch.from_numpy(statistics.std)
        self.batch_size, self.max_frames, self.augmentation = batch_size, max_frames, augmentation
        self.shuffle = augmentation is not None if shuffle is None else shuffle
        self.seed, self.rank, self.ranks, self.epoch = seed, rank, ranks, 0
        self._order: tuple[int, list[np.ndarray]] | None = None
        self._draws: tuple[int, Tensor] | None = None
        self.lengths = np.minimum(packed.frames[self.rows], max_frames)
        self.mirrored = ~np.isin(self.labels, np.asarray(no_mirror, np.int64))
        # clips of a sign, one behind the other, to draw partners from
        self.by_sign = np.argsort(self.labels, kind="stable")
        self.sign_first = np.searchsorted(self.labels[self.by_sign], self.labels)
        self.sign_count = np.bincount(self.labels)[self.labels]

    def __len__(self) -> int:
        """Batches of an epoch, on each rank."""
        return math.ceil(len(self.rows) / (self.batch_size * self.ranks))

    def __iter__(self) -> Iterator[Batch]:
        return self.of_epoch(self.epoch)

    def __getitem__(self, number: int) -> Batch:
        """Batch of the current epoch: so a DataLoader(batch_size=None, num_workers=...) may spread them over processes.

        Raises IndexError beyond the last.
        """
        if not 0 <= number < len(self):
            raise IndexError(number)
        return next(self.of_epoch(self.epoch, number))

    def set_epoch(self, epoch: int) -> None:
        """The epoch that iterating runs over from now on."""
        self.epoch = epoch

    def of_epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from the number `start` on."""
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self.order(epoch)
        order = self._order[1]
        for number in range(start, len(self)):
            places = order[number][self.rank :: self.ranks]
            made = self.batch(places if len(places) else order[number][:1], epoch, number * self.ranks + self.rank)
            yield made if len(places) else made._replace(labels=torch.full_like(made.labels, -1))

    def order(self, epoch: int) -> list[np.ndarray]:
        """Places (in `rows`) of the clips of every step of an epoch, those of all ranks together."""
        count, size = len(self.rows), self.batch_size * self.ranks
        if not self.shuffle:
            places = np.argsort(self.lengths, kind="stable")
            return [places[i : i + size] for i in range(0, count, size)]
        random = np.random.default_rng((self.seed, epoch))
        places = random.permutation(count)
        group = np.arange(count) // (size * _BUCKETS)
        lengths = self.lengths
        if self.augmentation is not None:  # by the lengths that tempo will give them: half as much padding
            tempo, crop = self.augmentation.tempo, self.augmentation.crop
            lengths = changed_lengths(torch.from_numpy(lengths), tempo, crop, self._tempo(epoch), self.max_frames)[2]
            lengths = lengths.numpy()
        places = places[np.lexsort((lengths[places], group))]
        batches = [places[i : i + size] for i in range(0, count, size)]
        return [batches[i] for i in random.permutation(len(batches))]

    def batch(self, places: np.ndarray, epoch: int = 0, number: int = 0) -> Batch:
        """The clips at some places of `rows`, augmented by the seed of (seed, epoch, number)."""
        lengths = self.lengths[places]
        made = self._read(places, lengths)
        if self.augmentation is not None:
            seed = np.random.SeedSequence((self.seed, epoch, number)).generate_state(2, np.uint64)
            generator = torch.Generator().manual_seed(int(seed[0] >> np.uint64(1)))
            partners = None
            if self.augmentation.exchange and any(part.kind == "face" for part in self.skeleton.parts):
                drawn = np.random.default_rng(int(seed[1])).integers(self.sign_count[places])
                partners = self._read(self.by_sign[self.sign_first[places] + drawn], lengths)
            mirrored = torch.from_numpy(self.mirrored[places])
            draws = self._tempo(epoch)[:, torch.from_numpy(places)]
            made = augment(made, self.skeleton, self.augmentation, mirrored, generator, self.max_frames, draws,
                           partners)
        return _normalised(padded(made), self.mean, self.std)

    def _tempo(self, epoch: int) -> Tensor:
        """The draws of an epoch for augment.change_tempo: [3, clips]."""
        if self._draws is None or self._draws[0] != epoch:
            random = np.random.default_rng((self.seed, epoch, 0, 1))
            self._draws = epoch, torch.from_numpy(random.random((3, len(self.rows)), np.float32))
        return self._draws[1]

    def _read(self, places: np.ndarray, lengths: np.ndarray) -> Batch:
        """Clips thinned out or stretched, by the nearest frame, to `lengths`."""
        rows = self.rows[places]
        frame = evenly(self.packed.frames[rows], lengths)
        frames = np.arange(frame.shape[1]) < lengths[:, None]
        at = self.packed.first[rows][:, None] + frame
        points = torch.from_numpy(self.packed.points[at]).float()
        mask = torch.from_numpy(self.packed.mask[at])
        times = torch.from_numpy(self.packed.times[at])
        frames = torch.from_numpy(frames)
        mask &= frames[..., None]
        points.mul_(frames[..., None, None])
        return Batch(points, mask, frames, times * frames, torch.from_numpy(self.labels[places]))


def collate_landmarks(landmarks: Sequence[ClipLandmarks], skeleton: Skeleton, settings: ClipSettings | None,
                      statistics: Statistics, max_frames: int = 128) -> tuple[Batch, dict[int, str]]:
    """A batch as `ClipBatches` makes it of these clips, prepared, without augmentation; for the recogniser.

    On as many threads as torch has; each clip goes all its way while it lies in a core's cache.

    Returns:
        The batch, labels -1, and the reasons {number: reason} of clips of which nothing can be made and which it
        leaves out.

    Raises:
        InputError: landmarks of another skeleton.
    """
    longest = max(len(given.times) for given in landmarks)
    slots = _Slots(len(landmarks), min(longest, max_frames), skeleton, settings, statistics)
    lengths = np.zeros(len(landmarks), np.int64)
    reasons = {}

    def fill(numbers: range) -> None:
        for number in numbers:
            made = slots.put(number, landmarks[number])
            if isinstance(made, str):
                reasons[number] = made
            else:
                lengths[number] = made

    loops.in_threads(fill, len(landmarks), torch.get_num_threads())
    batch = slots.batch(lengths.max())
    if reasons:
        batch = Batch(*(tensor[torch.from_numpy(lengths > 0)] for tensor in batch))
    return batch, dict(sorted(reasons.items()))


class _Slots:
    """Room for a batch of B clips of at most `frames` frames, to be filled clip by clip, by several threads at once."""

    def __init__(self, clips: int, frames: int, skeleton: Skeleton, settings: ClipSettings | None,
                 statistics: Statistics):
        padded, count = frames + -frames % MULTIPLE, len(statistics.mean)
        self.most, self.skeleton, self.settings = frames, skeleton, settings
        self.points = reused((clips, padded, count, 3), np.float32)
        self.mask = reused((clips, padded, count), bool)
        self.frames = np.zeros((clips, padded), bool)
        self.times = np.zeros((clips, padded), np.float32)
        self.mean, self.std = statistics.mean.reshape(-1), statistics.std.reshape(-1)

    @cached_property
    def nothing(self) -> np.ndarray:
        """Padding: 0 or -0, as `_normalised` leaves it."""
        return ((0 - self.mean) / self.std * 0).reshape(-1, 3)

    @cached_property
    def whole(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What loops.place_and_normalise takes of a clip of only the points wanted, in order and in the picture's
        proportions."""
        return np.arange(len(self.mean)), np.arange(0), np.ones(len(self.mean), np.float32)

    def put(self, number: int, landmarks: ClipLandmarks) -> int | str:
        """Write a clip; how many frames it has, or why there is none."""
        made, seen = flat(self.points[number]), self.mask[number]
        times = make_usual(landmarks, self.skeleton, self.settings, self.mean, self.std, made[: self.most],
                           seen[: self.most])
        if times is None:
            found = find_clip(landmarks, self.skeleton, self.settings, self.most)
            if isinstance(found, str):
                return found
            times = found.times
            found.points[~found.mask] = np.nan
            loops.place_and_normalise(flat(found.points), found.frames, *self.whole, np.float32(np.inf), found.origin,
                                      found.scale, FARTHEST, self.mean, self.std, made, seen)
        count = len(times)
        self.times[number, :count], self.frames[number, :count] = times, True
        if count < len(made):
            self.points[number, count:], self.mask[number, count:] = self.nothing, False
        return count

    def batch(self, frames: int) -> Batch:
        """The batch, of no more frames than its longest clip's."""
        frames += -frames % MULTIPLE
        arrays = (self.points, self.mask, self.frames, self.times)
        tensors = [torch.from_numpy(array[:, :frames]).contiguous() for array in arrays]
        return Batch(*tensors, torch.from_numpy(np.full(len(self.points), -1)))


def padded(batch: Batch) -> Batch:
    """Pad the frames to a multiple of MULTIPLE."""
    more = -batch.frames.shape[1] % MULTIPLE
    if not more:
        return batch
    pad = torch.nn.functional.pad
    return Batch(pad(batch.points, (0, 0, 0, 0, 0, more)), pad(batch.mask, (0, 0, 0, more)),
                 pad(batch.frames, (0, more)), pad(batch.times, (0, more)), batch.labels)


def _normalised(batch: Batch, mean: Tensor, std: Tensor) -> Batch:
    """By the statistics; missing points stay zero."""
    points = batch.points.sub_(mean).div_(std).mul_(batch.mask.float()[..., None])
    return batch._replace(points=points)
