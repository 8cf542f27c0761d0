"""Parts of the packed clips: a clip whose video breaks off trains nothing, unless it is asked for."""

import numpy as np
import pandas as pd
import pytest

from slr_lib.data_sets import load_data_set
from slr_lib.errors import InputError
from slr_lib.index import COLUMNS, read_index, write_index
from slr_lib.landmark_store import ClipLandmarks, LandmarkStore
from slr_lib.packed_clips import PackedClips, pack_clips
from slr_lib.parts import check_parts, parts_of, write_parts
from slr_lib.skeleton import load_skeleton


@pytest.fixture
def mine(project):
    """Twelve clips of two hands by three signers; clip 1 (training) and clip 11 (test) break off."""
    (project / "data_sets" / "mine.yaml").write_text(
        "title: mine\nkind: landmarks\npath: theirs\nskeleton: hands\nclass_counts: [2]\nimport: {format: npy}\n")
    data_set = load_data_set("mine")
    rows = [(f"c{number:02d}", "ab"[number % 2], f"u{number // 4}", "train" if number < 8 else "test")
            for number in range(12)]
    index = pd.DataFrame(rows, columns=["clip", "gloss", "signer", "split"])
    index = index.assign(frames=9).reindex(columns=list(COLUMNS), fill_value="")
    store = LandmarkStore(data_set.landmarks)
    store.prepare()
    rng = np.random.default_rng(0)
    for number, clip in enumerate(index["clip"]):
        points = rng.random((9, 42, 3), np.float32)
        store.write(clip, ClipLandmarks(points, np.arange(9) / 30, {"damaged": number in (1, 11)}))
    write_index(index, data_set)
    pack_clips(index, store, load_skeleton("hands"), data_set.clips, progress=False)
    return data_set


def test_a_clip_that_breaks_off_trains_nothing_but_is_tested(mine):
    packed = PackedClips(mine.clips)
    write_parts(mine, packed, validation_share=0, seed=0)
    parts = parts_of(packed, "0")
    assert list(parts) == ["train", ""] + ["train"] * 6 + ["test"] * 4
    [report] = write_parts(mine, packed, validation_share=0, seed=0, train_damaged=True)
    assert report["clips"] == {"train": 8, "val": 0, "test": 4}
    assert list(parts_of(packed, "0")) == ["train"] * 8 + ["test"] * 4


def test_clips_that_would_be_split_otherwise_now_are_refused(mine):
    packed, arguments = PackedClips(mine.clips), {"validation_share": 0, "seed": 0}
    with pytest.raises(InputError, match=r"parts.csv is missing; run the stage prepare_clips again"):
        check_parts(mine, packed, "0", **arguments)
    write_parts(mine, packed, **arguments)
    check_parts(mine, packed, "0", **arguments)
    for changed in ({"train_damaged": True}, {"validation_share": 0.5}):
        with pytest.raises(InputError, match=r"parts.csv: the data set would be split otherwise now; run the stage"):
            check_parts(mine, packed, "0", **{**arguments, **changed})
    index = read_index(mine)
    write_index(index.assign(duplicates=["one", *[""] * 10, "one"]), mine)  # a training and a test clip
    with pytest.raises(InputError, match="split otherwise now"):
        check_parts(mine, packed, "0", **arguments)
    write_index(index[1:], mine)
    with pytest.raises(InputError, match="split otherwise now"):
        check_parts(mine, packed, "0", **arguments)
