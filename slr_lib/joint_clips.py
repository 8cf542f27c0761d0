"""The training parts of several data sets together, for pretraining: less whatever would give away a test clip.

A validation or test clip of any set involved, and every copy of it, is trained on in no set. An id means the same clip
in all sets (the same video stands in WLASL100 and WLASL1000); groups of copies count within one source, the folder that
sets share. Where the split is official, all of the set's own table counts, also signs that no task has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from slr_lib.annotations import list_clips
from slr_lib.augment import AugmentSettings, Batch
from slr_lib.batches import ClipBatches
from slr_lib.data_sets import OFFICIAL, DataSet
from slr_lib.errors import InputError
from slr_lib.landmark_store import LandmarkStore
from slr_lib.packed_clips import TABLE, PackedClips, joint_statistics, pack_clips
from slr_lib.parts import clip_settings, parts_of
from slr_lib.signs import read_signs, task_glosses
from slr_lib.skeleton import Skeleton, load_skeleton
from slr_lib.splits import TEST, TRAIN, UNUSED, VAL
from slr_lib.tasks import MAX_FRAMES

_SOURCE = "source.txt"


@dataclass(frozen=True)
class FoldOf:
    """A data set and one of its folds."""

    data_set: DataSet
    fold: str = "0"

    def packed(self) -> pd.DataFrame:
        """Of every packed clip: clip, duplicates ('' or its group of copies), part.

        Raises:
            InputError: the clips are not prepared.
        """
        packed = PackedClips(self.data_set.clips)
        return packed.table[["clip", "duplicates"]].assign(part=parts_of(packed, self.fold))

    def listed(self) -> pd.DataFrame:
        """As `packed`, and the other clips of the set's table, whose part is what an official split says ('' else).

        Raises:
            InputError: the clips are not prepared, or the table is absent.
        """
        rows, listed = self.packed(), list_clips(self.data_set)
        others = listed[~listed["clip"].isin(rows["clip"])]
        part = others["split"] if self.data_set.split == OFFICIAL else UNUSED
        return pd.concat([rows, others[["clip", "duplicates"]].assign(part=part)])


def withheld(all_folds: Sequence[FoldOf]) -> set[str]:
    """Clips never to be trained on: of the validation or test part of any fold, and all that are copies of these."""
    tables = []
    for one in all_folds:
        rows = one.listed()
        group = rows["duplicates"].where(rows["duplicates"] == "", f"{one.data_set.root} " + rows["duplicates"])
        tables.append(rows.assign(group=group))
    rows = pd.concat(tables)
    held = set(rows["clip"][rows["part"].isin((VAL, TEST))])
    while True:
        groups = set(rows["group"][rows["clip"].isin(held)]) - {""}
        more = set(rows["clip"][rows["group"].isin(groups)]) - held
        if not more:
            return held
        held |= more  # a clip may bring a group of another source along


def held_out(all_folds: Sequence[FoldOf]) -> dict[str, str]:
    """`<data set> <fold>` -> hash of the ids of its validation and test clips. What was pretrained keeps it, so that it
    can be told later for which tasks."""
    found = {}
    for one in all_folds:
        table = one.packed()
        clips = sorted(table["clip"][table["part"].isin((VAL, TEST))])
        found[f"{one.data_set.name} {one.fold}"] = hashlib.sha256("\n".join(clips).encode()).hexdigest()
    return found


class JointClips:
    """Training parts of several sets, as slr_lib.training.fit asks for them; no validation part.

    A batch is of one set; the sets' batches alternate, each set's evenly over the epoch, in which every clip comes
    once. Points are normalised by the statistics of all the clips together: one body reads one scale.

    glosses: of all sets, one set's after the other's, those after the first with the set's name in front; ranges: of
    each set its first class and the one after its last; left_out: of each set its training clips that are withheld.
    Without labels there is one gloss, '', that all clips have; it is no sign's name.

    Args:
        sets: to train on. targets: what for; their points are used and their validation and test clips held out.
        labelled: take the clips of the set's largest task, else all.
        augmented: settings of the augmentation; None for none.

    Raises:
        InputError: clips are not prepared, a set lacks points of the first target (of the first set, if there is no
            target), or no clip is left.
    """

    def __init__(self, sets: Sequence[FoldOf], targets: Sequence[FoldOf] = (), *, labelled: bool = True,
                 batch_size: int = 32, augmented: AugmentSettings | None = None, seed: int = 0):
        names = [one.data_set.name for one in sets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"data set {twice[0]} is named twice to pretrain on; name it once.")
        first = (*targets, *sets)[0].data_set
        self.source_skeleton = load_skeleton(first.skeleton_source)
        self.skeleton, _ = self.source_skeleton.select()
        self.settings = {**asdict(clip_settings(first)), "max_frames": MAX_FRAMES}
        self.data_set = sets[0].data_set.name
        self.held_out = held_out([*sets, *targets])
        held = withheld([*sets, *targets])
        glosses: list[str] = []
        self.ranges: list[tuple[int, int]] = []
        self.left_out: dict[str, int] = {}
        chosen = []
        for one in sets:
            names = _glosses(one.data_set) if labelled else [""]
            start = len(glosses) if labelled else 0
            packed, rows, labels = self._training(one, held, names if labelled else None)
            chosen.append((packed, rows, labels + start, [start + names.index(gloss) for gloss in one.data_set.no_mirror
                                                          if gloss in names]))
            if labelled or not glosses:
                glosses += names if not glosses else [f"{one.data_set.name}: {gloss}" for gloss in names]
                self.ranges.append((start, len(glosses)))
        self.glosses = tuple(glosses)
        pooled = joint_statistics([(packed, rows) for packed, rows, _, _ in chosen], self.skeleton)
        self.statistics = pooled.as_plain()
        self._described = [self.glosses, self.ranges, self.statistics, self.settings, batch_size, seed,
                           asdict(augmented) if augmented else None]
        self._batches = [
            ClipBatches(packed, rows, labels, pooled, self.skeleton, batch_size, MAX_FRAMES, augmented, still, seed,
                        shuffle=True)
            for packed, rows, labels, still in chosen
        ]

    def _training(self, one: FoldOf, held: set[str], glosses: list[str] | None
                  ) -> tuple[PackedClips, np.ndarray, np.ndarray]:
        """A set's clips, the numbers of those to train on, and their classes within the set."""
        packed = clips_of(one.data_set, self.skeleton)
        parts = one.packed().set_index("clip")["part"]
        clips = packed.table["clip"]
        rows = clips.map(parts).eq(TRAIN)
        labels = pd.Series(0, index=clips.index)
        if glosses is not None:
            labels = packed.table["gloss"].map({gloss: place for place, gloss in enumerate(glosses)})
            rows &= labels.notna()
        free = rows & ~clips.isin(held)
        self.left_out[one.data_set.name] = int(rows.sum() - free.sum())
        if not free.any():
            raise InputError(f"{one.data_set.clips}: no training clip is left to pretrain on; leave the set out.")
        chosen = np.flatnonzero(free)
        return packed, chosen, labels.to_numpy()[chosen].astype(np.int64)

    @property
    def counts(self) -> list[int]:
        """Clips of each set."""
        return [len(batches.rows) for batches in self._batches]

    @property
    def fingerprint(self) -> str:
        """Hash of the clips, classes and statistics, and of how batches are made of them."""
        digest = hashlib.sha256(json.dumps(self._described, ensure_ascii=False).encode())
        for batches in self._batches:
            digest.update(batches.packed.points)
            for array in (batches.rows, batches.labels, batches.mirrored):
                digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()

    def train_batches(self, epoch: int) -> _Alternating:
        """The epoch's batches, mixed and augmented; their number is the same in every epoch."""
        return _Alternating(self._batches, epoch)

    def val_batches(self) -> None:
        """None: nothing is picked."""
        return None


class _Alternating:
    """One epoch of several sets' batches, each set's spread evenly over it."""

    def __init__(self, sets: Sequence[ClipBatches], epoch: int):
        self.sets, self.epoch = sets, epoch

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    def __iter__(self) -> Iterator[Batch]:
        running = [batches.of_epoch(self.epoch) for batches in self.sets]
        places = [((place + 0.5) / len(batches), number)
                  for number, batches in enumerate(self.sets) for place in range(len(batches))]
        for _, number in sorted(places):
            yield next(running[number])


def clips_of(data_set: DataSet, skeleton: Skeleton) -> PackedClips:
    """A set's clips with the points of `skeleton` alone: the prepared ones where they have just these, else packed from
    the landmark store into data/<name>/clips_<skeleton>, as a set of these points alone would be (origin and unit of
    length of hands without a body are their own). Only clips that were prepared are packed.

    Raises:
        InputError: the set has not all of the points.
    """
    source, whole = load_skeleton(data_set.skeleton_source), PackedClips(data_set.clips)
    if source.select()[0].points == skeleton.points:
        return whole
    lacking = [point for point in skeleton.points if point not in source.points]
    if lacking:
        raise InputError(f"data set {data_set.name}: its skeleton {source.name} has no {lacking[0]}, which is one of "
                         f"the {len(skeleton.points)} points to pretrain on; leave the set out.")
    narrowed = replace(source, selection=tuple(source.index(point) for point in skeleton.points))
    folder = data_set.data / f"clips_{skeleton.name}"
    mark = hashlib.sha256(json.dumps([asdict(narrowed), asdict(clip_settings(data_set))], sort_keys=True).encode())
    mark.update((whole.folder / TABLE).read_bytes())
    mark.update(whole.points)
    path = folder / _SOURCE
    if not (path.is_file() and path.read_text() == mark.hexdigest()):
        path.unlink(missing_ok=True)
        pack_clips(whole.table, LandmarkStore(data_set.landmarks), narrowed, folder, clip_settings(data_set))
        path.write_text(mark.hexdigest())
    return PackedClips(folder)


def _glosses(data_set: DataSet) -> list[str]:
    """Of the set's largest task."""
    return task_glosses(read_signs(data_set), max(data_set.class_counts), data_set.no_event)
