"""The stage `import_landmarks`: landmarks that somebody else extracted -> the landmark store and the index of clips.

`python -m slr_lib.exchange --dataset wlasl_hands`
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from tqdm import tqdm

from slr_lib.annotations import read_import_index
from slr_lib.data_sets import DataSet, load_data_set
from slr_lib.errors import InputError, exit_status
from slr_lib.index import accepted, rejected
from slr_lib.inventory import record
from slr_lib.landmark_formats import read_sources
from slr_lib.landmark_store import ClipLandmarks, LandmarkStore
from slr_lib.recordings import Recording, Source, Unusable
from slr_lib.signs import choose_signs, needed_clips
from slr_lib.skeleton import load_skeleton


def import_landmarks(data_set: DataSet, progress: bool = True) -> str:
    """Fill a landmark set's store; write its index, list of signs, rejects and metrics.

    Only the clips of the signs that the largest class count needs are imported, unless `import.signs` is `all`. A clip
    that the store holds already, from the same source and settings, is not written again; one that the index does not
    name any more is removed. A clip that cannot be used is a reject.

    Returns:
        One line that sums it up.

    Raises:
        InputError: the set is not one of landmarks, its folder, table, skeleton or a packed file is absent or wrong,
            no clip can be used, or the disk is full. What was imported until then stays.
    """
    if data_set.landmark_import is None:
        command = f"python -m slr_lib.corpus --dataset {data_set.name}"
        raise InputError(f"data set {data_set.name} has videos, not landmarks; index them by `{command}`.")
    listed = read_import_index(data_set)
    table = listed.attrs["table"]
    signs = choose_signs(listed, data_set)
    if data_set.landmark_import.signs == "needed":
        listed = needed_clips(listed, signs, data_set)
        signs = signs[: max(data_set.class_counts)]
    skeleton = load_skeleton(data_set.skeleton_source)
    store = LandmarkStore(data_set.landmarks)
    store.prepare()
    usable = listed[listed["reason"] == ""]
    reasons, frames, missing = {}, {}, []
    sources = read_sources(usable, data_set, skeleton)
    hidden = None if progress else True  # None: shown on a terminal only
    for clip, source in tqdm(sources, total=len(usable), unit="clip", desc="import", disable=hidden):
        try:
            frames[clip], share = _store(store, clip, source, data_set.fps)
            missing.append((share, frames[clip]))
        except Unusable as error:
            reasons[clip] = str(error)
    rows = listed["reason"] == ""
    listed["reason"] = [reasons.get(clip, "") if fine else reason
                        for clip, fine, reason in zip(listed["clip"], rows, listed["reason"])]
    listed["frames"] = [frames.get(clip, "") for clip in listed["clip"]]
    listed.attrs["table"] = table
    index = accepted(listed, data_set)
    for clip in sorted(set(store.clips()) - set(index["clip"])):
        store.remove(clip)
    total = sum(frames.values())
    further = {
        "skeleton": skeleton.name,
        "points": len(skeleton.points),
        "frames": total,
        "missing_points_share": round(sum(share * number for share, number in missing) / total, 4),
    }
    return record("import_landmarks", data_set, listed, index, rejected(listed), signs, further)


def _store(store: LandmarkStore, clip: str, source: Source | str, fps: float) -> tuple[int, float]:
    """Write one clip unless the store has it; returns its frames and the share of its points that are missing."""
    if isinstance(source, str):
        raise Unusable(source)
    info = _stored(store, clip)
    if info.get("fingerprint") == source.fingerprint:
        return info["frames"], info["missing"]
    recording = source.load()
    times = _times(recording, fps)
    share = round(float(np.isnan(recording.points[..., 0]).mean()), 6)
    info = {"fingerprint": source.fingerprint, "frames": len(times), "missing": share, "fps": fps}
    if recording.times is not None:
        del info["fps"]  # recorded times, not assumed ones
    if recording.size is not None:
        info["width"], info["height"] = recording.size
    store.write(clip, ClipLandmarks(recording.points, times, info))
    return len(times), share


def _stored(store: LandmarkStore, clip: str) -> dict:
    if clip not in store:
        return {}
    try:
        return store.info(clip)
    except InputError:
        return {}  # its file is damaged, so it is written anew


def _times(recording: Recording, fps: float) -> np.ndarray:
    if recording.times is None:
        return np.arange(len(recording.points), dtype=np.float64) / fps
    times = np.asarray(recording.times, np.float64)
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise Unusable("the times of its frames fall, or are not numbers")
    return times - times[0]


def main(arguments: list[str] | None = None) -> int:
    """Command line; prints an InputError's sentence alone and returns 1."""
    parser = argparse.ArgumentParser(prog="python -m slr_lib.exchange", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, help="name of a data set, or path of its YAML file")
    options = parser.parse_args(arguments)
    return exit_status(lambda: import_landmarks(load_data_set(options.dataset)))


if __name__ == "__main__":
    sys.exit(main())
