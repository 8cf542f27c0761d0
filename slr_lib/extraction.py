"""Many videos -> a store of landmarks, over dask.distributed: this machine's cores, or a cluster's, by one code path.

A clip is a task. Workers write finished clips to the store themselves, so a killed run loses only what was being
computed; on a cluster the videos and the store must therefore lie in folders that every machine sees by the same path.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from slr_lib.errors import InputError
from slr_lib.landmark_store import ClipLandmarks, LandmarkStore, StoreError, require_space
from slr_lib.landmarks import POINTS, HolisticSettings, LandmarkExtractor, detected, fingerprint
from slr_lib.memory import keep_memory
from slr_lib.video import read_video

if TYPE_CHECKING:
    import pandas as pd  # where a table is made, for a worker would only wait for it

_PARTS = ("pose", "face", "left_hand", "right_hand", "any_hand")
REJECT_COLUMNS = ("clip", "path", "reason")
ENOUGH = 0.8  # share of the promised frames below which a file that breaks off counts as damaged
BYTES_A_FRAME = 16_000  # of Slovo's videos: what a clip is taken to cost where its table names no number of frames
IN_FLIGHT = 2000  # tasks that the scheduler holds at once: enough for as many cores, flat for a million clips
AHEAD = 4  # pictures decoded in a row, 1-16 % cheaper than one by one: Holistic fills the processor's caches in between
PATIENCE = 30  # seconds to wait for a cluster's scheduler, and for its first worker
# Dask's housekeeping, made seldom: its timers and its profiler take 3 % of two cores by default, 0.3 % like this and
# without heartbeats (`_settle`), which the worker-ttl waits for
SELDOM = {
    "distributed.scheduler.worker-ttl": None,
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.monitor-interval": "10s",
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}


@dataclass(frozen=True)
class _Task:
    """One clip to extract; begin and end as in the index, None where it has none."""

    clip: str
    path: str
    begin: int | None
    end: int | None
    frames: int | None

    def cost(self, size: int) -> float:
        """Frames to compute: as the table says, else guessed from the file's size in bytes."""
        return self.frames or size / BYTES_A_FRAME


def extract_clips(
    index: pd.DataFrame,
    store: LandmarkStore,
    settings: HolisticSettings | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Bring the store to what the index lists: extract what is new or has changed, forget what the index lacks.

    A clip is finished, and skipped, where the store holds it as extracted from the same bytes, with the same begin and
    end, by the same code and settings (`fingerprint`). Every run tries the clips again that failed in an earlier one.
    The stored bytes depend on these alone, not on the number of workers or their order.

    Args:
        index: a row a clip with the columns clip, path and, if known, begin, end, frames ('' or NaN for none).
        scheduler: address of a running Dask scheduler, tcp://host:port; None starts processes on this machine.
        workers: number of these processes, None for one a core. A script that calls this must do so under
            `if __name__ == "__main__":`, as with all of Python's multiprocessing.
    Returns:
        The rejects: clip, path and reason of every clip that could not be extracted, in the index's order.
    Raises:
        InputError: the index repeats an id or lacks a column, none of its files exists, the store cannot be written,
            the disk is too small, or no scheduler or worker answers. What was finished until then is kept.
    """
    import pandas as pd

    settings = settings or HolisticSettings()
    tasks = _tasks(index)
    sizes = _sizes(tasks)
    if tasks and not sizes:
        raise InputError(f"none of the {len(tasks)} video files of the index exists, the first being {tasks[0].path}; "
                         "is their disk there?")
    store.prepare()
    extractor = fingerprint(settings)
    stored = set(store.clips())
    for clip in sorted(stored - {task.clip for task in tasks}):
        store.remove(clip)
    finished = _finished([task for task in tasks if task.clip in stored], store, extractor, progress)
    todo = [task for task in tasks if task.clip not in finished]
    require_space(store.folder, sum((task.frames or sizes.get(task.clip, 0) // 10**5) * POINTS * 12 for task in todo))
    # longest first, so that no core is left with a long clip when the others have no more to do
    todo.sort(key=lambda task: (-task.cost(sizes.get(task.clip, 0)), task.clip))
    failed = {}
    if todo:
        with _cluster(scheduler, workers, len(todo)) as client, tqdm(
            total=len(tasks), initial=len(finished), desc="landmarks", unit="clip", disable=not progress,
            mininterval=0.5 if sys.stderr.isatty() else 20,
        ) as bar:
            for task, reason in _outcomes(client, todo, store, settings, extractor):
                bar.update()
                if reason is not None:
                    failed[task.clip] = reason
                    store.remove(task.clip)  # of an earlier file or code, which the index no longer means
    rows = [(task.clip, task.path, failed[task.clip]) for task in tasks if task.clip in failed]
    return pd.DataFrame(rows, columns=list(REJECT_COLUMNS), dtype=object)


def detection_table(store: LandmarkStore, clips: Iterable[str]) -> pd.DataFrame:
    """How often each part was found: clip, frames, and shares 0-1 pose, face, left_hand, right_hand, any_hand.

    Raises InputError for a clip that is not stored, or was not extracted from a video.
    """
    import pandas as pd

    rows = []
    for clip in clips:
        info = store.info(clip)
        if "detected" not in info:
            raise InputError(f"{store.folder}: clip {clip} was imported, not extracted; it has no table of detection")
        frames = info["frames"]
        rows.append({"clip": clip, "frames": frames, **{part: info["detected"][part] / frames for part in _PARTS}})
    return pd.DataFrame(rows, columns=["clip", "frames", *_PARTS])


def extraction_metrics(store: LandmarkStore, detection: pd.DataFrame, rejects: pd.DataFrame) -> dict:
    """Counts of clips and frames, and the share of all frames in which each part was found, in per cent (0-100)."""
    frames = int(detection["frames"].sum())
    found = {part: float((detection[part] * detection["frames"]).sum()) for part in _PARTS}
    infos = [store.info(clip) for clip in detection["clip"]]
    return {
        "clips": len(detection),
        "rejected": int(rejects["clip"].nunique()),
        "broken_off": sum(info["damage"] is not None for info in infos),
        "damaged": sum(info["damaged"] for info in infos),
        "frames": frames,
        "found": {part: round(100 * count / frames, 2) if frames else None for part, count in found.items()},
    }


def extract_clip(task: _Task, store: LandmarkStore, settings: HolisticSettings, extractor: str) -> None:
    """Extract one clip and write it to the store; this is what a worker runs.

    Raises InputError where the clip cannot be read, StoreError where the store cannot be written.
    """
    if _own_fingerprint(settings) != extractor:
        raise InputError("the worker runs other code or packages than the one that sent the clip; install the same "
                         "version on every machine")
    keep_memory()
    source = _source(Path(task.path))
    times: list[float] = []
    with read_video(task.path, task.begin, task.end) as video:
        def pictures() -> Iterator[np.ndarray]:
            decoded = iter(video)
            while ahead := deque(itertools.islice(decoded, AHEAD)):
                while ahead:
                    time, picture = ahead.popleft()
                    times.append(time)
                    picture.flags.writeable = False  # else MediaPipe copies it
                    yield picture

        points = _own_extractor(settings).extract(pictures())
    found = detected(points)
    found["any_hand"] = found["left_hand"] | found["right_hand"]
    damage = video.damage
    info = {
        "skeleton": "holistic",
        "width": round(video.height * video.aspect),  # as meant to be seen: stored pixels need not be square
        "height": video.height,
        "fps": video.fps,
        "frames": len(times),
        "detected": {part: int(frames.sum()) for part, frames in found.items()},
        "begin": task.begin,
        "end": task.end,
        "trimmed": video.trimmed,
        "damage": damage and {"text": damage.text, "decoded": damage.decoded, "promised": damage.promised},
        "damaged": bool(damage and damage.promised and damage.decoded < ENOUGH * damage.promised),
        "source": source,
        "extractor": extractor,
    }
    store.write(task.clip, ClipLandmarks(points, np.array(times), info))


_own_fingerprint = functools.cache(fingerprint)  # a worker's code stays what it was when it was loaded
_own = threading.local()


def _own_extractor(settings: HolisticSettings) -> LandmarkExtractor:
    """That of the worker's thread, kept from clip to clip."""
    kept = getattr(_own, "extractor", None)
    if kept is None or kept.settings != settings:
        if kept is not None:
            kept.close()
        _own.extractor = kept = LandmarkExtractor(settings)
    return kept


def _tasks(index: pd.DataFrame) -> list[_Task]:
    """The clips of an index, in its order. Raises InputError for a missing column, an empty or a repeated id."""
    for column in ("clip", "path"):
        if column not in index:
            raise InputError(f"the index of clips lacks the column {column}")
    repeated = index["clip"][index["clip"].duplicated()]
    if len(repeated):
        raise InputError(f"the index lists the clip {repeated.iloc[0]} twice; ids must be unique")
    columns = {name: index[name].astype(object).where(index[name].notna(), None) if name in index
               else [None] * len(index) for name in ("begin", "end", "frames")}
    return [_Task(str(clip), str(path), *(_number(value) for value in numbers))
            for clip, path, *numbers in zip(index["clip"], index["path"], *columns.values())]


def _number(value) -> int | None:
    """A whole number, or None for '' and None."""
    return None if value is None or value == "" else int(float(value))


def _sizes(tasks: list[_Task]) -> dict[str, int]:
    """Bytes of the files that exist, by clip."""
    sizes = {}
    for task in tasks:
        with contextlib.suppress(OSError):
            sizes[task.clip] = Path(task.path).stat().st_size
    return sizes


def _source(path: Path) -> dict:
    """What tells a file from another: its size and its SHA-256. Raises InputError where it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"bytes": file.tell(), "sha256": digest}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path in the clips' table") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _finished(tasks: list[_Task], store: LandmarkStore, extractor: str, progress: bool) -> set[str]:
    """Of clips that are stored, those that would come out the same. Read in threads, for hashing frees the GIL."""
    def same(task: _Task) -> bool:
        try:
            info = store.info(task.clip)
            wanted = {"extractor": extractor, "begin": task.begin, "end": task.end}
            if any(info.get(key, "") != value for key, value in wanted.items()):
                return False
            size = store.path(task.clip).stat().st_size
            return size > info["frames"] * POINTS * 12 and _source(Path(task.path)) == info.get("source")
        except (InputError, KeyError):
            return False  # a damaged file in the store, or a missing video: extraction will say so

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        kept = list(tqdm(pool.map(same, tasks), total=len(tasks), desc="stored clips", unit="clip",
                         disable=not progress or not tasks, leave=False))
    return {task.clip for task, valid in zip(tasks, kept) if valid}


@contextlib.contextmanager
def _cluster(scheduler: str | None, workers: int | None, tasks: int) -> Iterator:
    """A Dask client: of the scheduler named, else of processes on this machine, one a core and none without a clip."""
    import dask
    from dask.system import CPU_COUNT
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.ERROR)
    if scheduler:
        try:
            client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(f"no Dask scheduler answers at {scheduler} ({error}); start it, correct the address, or "
                             "leave it out to use this machine's cores") from None
        with client:
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError:
                raise InputError(f"the Dask scheduler at {scheduler} has had no worker for {PATIENCE} seconds; start "
                                 "some with `dask worker`") from None
            yield client
        return
    # Dask keeps the workers' scratch folders in the system's one, and sweeps there what killed runs have left; memory
    # is not limited, for a worker that pauses for it would only stand still
    with dask.config.set(SELDOM):
        cluster = LocalCluster(n_workers=min(workers or CPU_COUNT, tasks), threads_per_worker=1, processes=True,
                               memory_limit=None, dashboard_address=None, silence_logs=logging.CRITICAL)
    with cluster, Client(cluster, set_as_default=False) as client:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        client.run(_settle, cores if len(cores) == len(cluster.workers) else [])
        yield client


def _settle(cores: list[int], dask_worker) -> None:
    """Spare this worker, one of this machine's, its heartbeats; bind it to the core of its number, if there are cores.

    Workers left to the kernel wander, and at times share a core while another is idle; and MediaPipe makes a thread a
    core in each of them. A worker that Dask starts anew for one that died is not settled.
    """
    dask_worker.periodic_callbacks["heartbeat"].stop()  # a lost process of this machine is known by its connection
    if cores:
        os.sched_setaffinity(0, {cores[dask_worker.name]})


def _outcomes(client, tasks: list[_Task], store: LandmarkStore, settings: HolisticSettings,
              extractor: str) -> Iterator[tuple[_Task, str | None]]:
    """Run tasks; yields each with None, or with the reason of its failure, as they end.

    Dask runs a lost worker's tasks again elsewhere. Raises InputError where no further clip can be kept or computed.
    """
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    store = LandmarkStore(store.folder.absolute())  # a worker's current folder may be another

    def run(tasks: list[_Task], at_once: int) -> Iterator[tuple[_Task, Exception | None]]:
        waiting, running, done = iter(tasks), {}, as_completed(loop=client.loop)

        def submit() -> None:
            task = next(waiting, None)
            if task is not None:
                sent = replace(task, path=str(Path(task.path).absolute()))
                future = client.submit(extract_clip, sent, store, settings, extractor, pure=False)
                running[future.key] = task
                done.add(future)

        for _ in range(at_once):
            submit()
        for future in done:
            if future.status in ("cancelled", "lost"):
                raise InputError("the Dask scheduler was lost; start it and run again: finished clips are kept")
            error = future.exception()
            if isinstance(error, StoreError):
                raise error
            yield running.pop(future.key), error
            submit()

    suspects = []
    for task, error in run(tasks, IN_FLIGHT):
        if isinstance(error, KilledWorker):
            suspects.append(task)
        else:
            yield task, None if error is None else _reason(task, error)
    # a clip may have died of the one that ran before it on the same worker: each suspect has another try, alone
    for task, error in run(suspects, 1):
        if isinstance(error, KilledWorker):
            error = InputError(f"{task.path}: its worker process died again and again, out of memory or by a crash of "
                               "the decoder or MediaPipe; take the clip out or encode it anew")
        yield task, None if error is None else _reason(task, error)


def _reason(task: _Task, error: Exception) -> str:
    """Why a clip failed. What is no InputError comes from MediaPipe or the machine, and is given as it is."""
    return str(error) if isinstance(error, InputError) else f"{task.path}: {type(error).__name__}: {error}"
