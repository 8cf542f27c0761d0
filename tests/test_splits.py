"""Parts and folds; above all that carving a validation part keeps signers apart and takes no sign's last clip."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slr_lib.annotations import read_annotations
from slr_lib.data_sets import DataSet
from slr_lib.errors import InputError
from slr_lib.splits import assign_parts, carve_signers, describe_parts, folds, held_out_signer, unseen_signers


def data_set(split="official") -> DataSet:
    return DataSet(name="mine", title="", kind="videos", path="clips", class_counts=[2], split=split)


def make_index(rows: list[tuple]) -> pd.DataFrame:
    """Rows of (gloss, signer, split[, duplicates])."""
    filled = [(f"c{number:04d}", *row, *([""] * (4 - len(row)))) for number, row in enumerate(rows)]
    return pd.DataFrame(filled, columns=["clip", "gloss", "signer", "split", "duplicates"]).astype(object)


signers = st.sampled_from(["u1", "u2", "u3", "u4", "u5", "u6", ""])
clips = st.tuples(st.sampled_from("abcdefg"), signers, st.just("train"))
crowds = st.lists(st.tuples(clips, st.integers(1, 12)), min_size=1, max_size=25)
indexes = crowds.map(lambda crowd: make_index([clip for clip, times in crowd for _ in range(times)]))


@settings(max_examples=150, deadline=None)
@given(index=indexes, share=st.floats(0.02, 0.5), seed=st.integers(0, 9))
def test_carving_keeps_signers_apart_and_every_sign_in_training(index, share, seed):
    parts = assign_parts(index, data_set(), "0", share, seed)
    assert set(parts) <= {"train", "val"}
    train, val = index[parts == "train"], index[parts == "val"]
    assert set(train["gloss"]) == set(index["gloss"]), "a sign lost its last training clip"
    if (index["signer"] != "").any():
        assert not set(train["signer"]) & set(val["signer"])
        assert "" not in set(val["signer"])
        assert 2 * len(val) <= len(index)
        assert len(val) == 0 or 3 * len(val) >= share * len(index)
    shuffled = index.sample(frac=1, random_state=seed)
    assert assign_parts(shuffled, data_set(), "0", share, seed).sort_index().equals(parts), "row order matters"
    report = describe_parts(index, data_set(), "0", parts)
    assert report["validation"].startswith("none") == val.empty
    assert report["signers_in_train_and_val"] == 0 and report["missing_signs"]["train"] == []
    assert report["missing_signs"]["val"] == sorted(set(index["gloss"]) - set(val["gloss"]))


def test_carving_finds_the_signer_whose_clips_hold_every_sign():
    # two signers know both signs, one of them has far too many clips; the others know one sign each
    rows = [("a", "big", "train")] * 40 + [("b", "big", "train")] * 40
    rows += [("a", "fit", "train")] * 9 + [("b", "fit", "train")] * 9
    rows += [("a", "u1", "train")] * 18 + [("b", "u2", "train")] * 18
    assert carve_signers(make_index(rows), 0.15) == ["fit"]


def test_a_one_shot_set_carves_nothing_and_says_why():
    rows = [(gloss, f"u{number}", "train") for number, gloss in enumerate("abcdef")] + [("a", "u9", "train")]
    index = make_index([*rows, ("a", "u8", "test")])
    parts = assign_parts(index, data_set())
    assert list(parts[:7]) == ["train"] * 7 and parts[7] == "test"
    report = describe_parts(index, data_set(), "0", parts)
    assert report["validation"].startswith("none: 5 of 6 signs") and report["clips"]["val"] == 0


def test_an_official_splits_own_validation_is_taken_as_it_is_and_training_loses_the_copies():
    index = make_index([("a", "u1", "train", "g"), ("a", "u1", "val", "g"), ("a", "u1", "test", "g"), ("a", "u2", ""),
                        ("a", "u1", "train"), ("a", "u1", "train", "h"), ("b", "u1", "train", "h"),
                        ("b", "u2", "train", "k"), ("a", "u2", "test", "k")])
    parts = assign_parts(index, data_set())
    assert list(parts) == ["", "val", "test", "", "train", "train", "train", "", "test"]
    report = describe_parts(index, data_set(), "0", parts)
    assert report["validation"] == "the data set's own validation split"
    assert report["test_clips_that_repeat_train_or_val"] == 1 and report["test_clips_of_seen_signers"] == 1


def test_unknown_signers_are_carved_by_clip_with_copies_together():
    rows = [("a", "", "train", f"g{number // 2}") for number in range(40)] + [("b", "", "train")]
    index = make_index(rows)
    parts = assign_parts(index, data_set())
    val = index[parts == "val"]
    assert len(val) == 6 and val.groupby("duplicates").size().eq(2).all() and set(val["gloss"]) == {"a"}
    assert "signers unknown" in describe_parts(index, data_set(), "0", parts)["validation"]


def test_test_signers_and_their_copies():
    index = make_index([("a", "u1", "", "g"), ("a", "u1", ""), ("a", "u2", ""), ("a", "u3", "", "g"), ("b", "u2", "")])
    parts = assign_parts(index, data_set({"test_signers": ["u3"]}), validation_share=0)
    assert list(parts) == ["", "train", "train", "test", "train"], "a training clip that repeats a test clip is unused"


def test_every_signer_is_held_out_once_and_validation_is_another():
    rows = [(gloss, f"{number}", "") for gloss in "abc" for number in range(1, 11) for _ in range(3)]
    index, chosen = make_index(rows), data_set("leave_one_signer_out")
    assert folds(chosen, index) == [str(number) for number in range(10)]
    held = []
    for fold in folds(chosen, index):
        parts = assign_parts(index, chosen, fold)
        signers_of = {part: set(index["signer"][parts == part]) for part in ("train", "val", "test")}
        assert signers_of["test"] == {held_out_signer(chosen, index, fold)}
        assert len(signers_of["val"]) == 1 and len(signers_of["train"]) == 8
        assert not signers_of["val"] & signers_of["test"]
        held += signers_of["test"]
    assert held == sorted({f"{number}" for number in range(1, 11)})
    with pytest.raises(InputError, match="no fold 10"):
        assign_parts(index, chosen, "10")


def test_stratified_folds_test_every_clip_once_with_copies_together():
    rng = np.random.default_rng(0)
    rows = [(gloss, "", "", f"g{number // 2}{gloss}" if number < 6 else "") for gloss in "abcd" for number in range(23)]
    index = make_index([rows[place] for place in rng.permutation(len(rows))])
    chosen = data_set("stratified")
    tested = pd.Series(0, index=index.index)
    for fold in folds(chosen, index):
        parts = assign_parts(index, chosen, fold, seed=3)
        tested += parts == "test"
        for part in ("train", "val", "test"):
            assert set(index["gloss"][parts == part]) == set("abcd")
        assert 0.15 < (parts == "test").mean() < 0.25 and 0.15 < (parts == "val").mean() < 0.25
        sides = parts[index["duplicates"] != ""].groupby(index["duplicates"]).nunique()
        assert (sides == 1).all()
        assert parts.equals(assign_parts(index, chosen, fold, seed=3))
    assert (tested == 1).all()
    assert not parts.equals(assign_parts(index, chosen, fold, seed=4))


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(2, 14), min_size=1, max_size=6), seed=st.integers(0, 5))
def test_stratified_parts_leave_every_sign_a_training_clip(counts, seed):
    index = make_index([(f"s{sign}", "", "") for sign, count in enumerate(counts) for _ in range(count)])
    for fold in range(5):
        parts = assign_parts(index, data_set("stratified"), str(fold), seed=seed)
        assert set(index["gloss"][parts == "train"]) == set(index["gloss"])


def test_unseen_signers_are_those_of_neither_train_nor_val():
    index = make_index([("a", "u1", "train"), ("a", "u2", "val"), *(("a", name, "test") for name in ("u1", "u3", ""))])
    assert list(unseen_signers(index, index["split"])) == [False, False, False, True, False]
    unknown = index.assign(signer=["", "u2", "u1", "u3", ""])
    assert unseen_signers(unknown, unknown["split"]) is None, "u3 may be the training clip's unknown signer"
    unknown = index.assign(signer="")
    assert unseen_signers(unknown, unknown["split"]) is None


def test_a_share_that_is_none_is_an_error():
    with pytest.raises(InputError, match="validation_share"):
        assign_parts(make_index([("a", "u1", "train")]), data_set(), "0", 0.7)


def test_slovos_split_is_not_disjoint_by_signer_but_the_carved_validation_is(shared):
    if not (shared / "slovo_annotations").is_dir():
        pytest.skip(f"the real data are not at {shared}; SLR_SHARED names their folder")
    listed = read_annotations(shared / "slovo_annotations" / "annotations.csv")
    index = listed.drop(columns=["row", "reason"])
    official = index["split"]
    train, test = set(index["signer"][official == "train"]), set(index["signer"][official == "test"])
    assert (len(train), len(test), len(train & test)) == (112, 174, 92)
    start = time.monotonic()
    parts = assign_parts(index, data_set())
    assert time.monotonic() - start < 5
    report = describe_parts(index, data_set(), "0", parts)
    assert report["test_clips_of_seen_signers"] == 3448 and report["unseen_test_clips"] == 1652
    assert report["signers_in_train_and_val"] == 0 and report["missing_signs"]["train"] == []
    assert 0.12 < report["validation_share"] < 0.20 and len(report["missing_signs"]["val"]) <= 50
