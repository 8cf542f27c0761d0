"""The list of signs: its orders, no_event by name, and what cannot be trained."""

from __future__ import annotations

import pandas as pd
import pytest

from slr_lib.data_sets import DataSet
from slr_lib.errors import InputError
from slr_lib.signs import choose_signs, count_clips, task_glosses


def table(text: str) -> pd.DataFrame:
    """Rows of `gloss signer split rank reason`."""
    rows = [line.split() for line in text.strip().splitlines()]
    lines = pd.DataFrame(rows, columns=["gloss", "signer", "split", "rank", "reason"]).astype(object)
    lines["reason"] = lines["reason"].replace("-", "")
    lines["clip"] = [f"c{number}" for number in range(len(lines))]
    lines["duplicates"] = ""
    return lines


def data_set(**keys) -> DataSet:
    return DataSet(**{"name": "mine", "title": "", "kind": "videos", "path": "clips", "class_counts": [2]} | keys)


TABLE = table("""
d u1 train 3 -
b u1 train 10 -
none u1 train 0 -
a u2 train 2 -
a u1 train 2 -
b u2 test 10 -
d u2 test 3 -
""")


@pytest.mark.parametrize(
    ("order", "signs"),
    [("table", ["d", "b", "a"]), ("sorted", ["a", "b", "d"]), ("frequent", ["a", "b", "d"]), ("rank", ["a", "d", "b"])],
)
def test_orders_and_no_event_by_name(order, signs):
    chosen = choose_signs(TABLE, data_set(signs={"order": order}, no_event="none"))
    assert chosen == signs
    assert task_glosses(chosen, 2, "none") == [*signs[:2], "none"], "no_event comes last, beside the signs counted"
    assert task_glosses(chosen, 3, None) == signs


def test_an_explicit_list_and_exclusions():
    assert choose_signs(TABLE, data_set(signs={"glosses": ["b", "a"]})) == ["b", "a"]
    assert choose_signs(TABLE, data_set(signs={"exclude": ["b"]})) == ["d", "none", "a"]
    with pytest.raises(InputError, match=r"`x`.*signs\.glosses"):
        choose_signs(TABLE, data_set(signs={"glosses": ["b", "x"]}))
    with pytest.raises(InputError, match=r"`x`.*signs\.exclude"):
        choose_signs(TABLE, data_set(signs={"exclude": ["x"]}))


def test_too_many_signs_asked_for_names_the_key_and_the_most():
    with pytest.raises(InputError, match=r"class_counts.* 4 signs.* 3; ask for 3 at most"):
        choose_signs(TABLE, data_set(no_event="none", class_counts=[2, 4]))
    with pytest.raises(InputError, match=r"ask for 2 at most"):
        task_glosses(["a", "b"], 3, None)
    with pytest.raises(InputError, match="no_event"):
        choose_signs(TABLE, data_set(no_event="nothing"))
    with pytest.raises(InputError, match="no_event"):
        task_glosses(["a", "b"], 2, "none", TABLE[TABLE["gloss"] != "none"])


def test_an_unknown_order_or_one_without_numbers_is_an_error():
    with pytest.raises(InputError, match=r"signs\.order: colour"):
        choose_signs(TABLE, data_set(signs={"order": "colour"}))
    with pytest.raises(InputError, match="must hold numbers"):
        choose_signs(TABLE, data_set(signs={"order": "signer"}))


def test_a_sign_without_a_training_clip_names_the_sign_and_the_remedy():
    lines = table("a u1 train 0 -\nb u1 test 0 -\nc u2 train 0 -")
    with pytest.raises(InputError, match=r"`b` has no training clip.*signs\.exclude"):
        choose_signs(lines, data_set())
    for exclude in (["b"], "untrained"):
        assert choose_signs(lines, data_set(signs={"exclude": exclude})) == ["a", "c"]
    later = table("a u1 train 0 -\nc u2 train 0 -\nb u1 test 0 -")
    assert choose_signs(later, data_set()) == ["a", "c", "b"], "b is in no task"


@pytest.mark.parametrize(
    ("split", "untrained"),
    [({"test_signers": ["u2"]}, "c"), ("leave_one_signer_out", "b"), ("stratified", "c")],
)
def test_what_counts_as_training_depends_on_the_split(split, untrained):
    lines = table("a u1 x 0 -\na u2 x 0 -\nb u1 x 0 -\nb u1 x 0 -\nc u2 x 0 -")
    with pytest.raises(InputError, match=f"`{untrained}`"):
        choose_signs(lines, data_set(split=split, class_counts=[3]))


def test_a_sign_keeps_its_place_when_its_clips_are_rejects():
    lines = table("a u1 train 0 unreadable\nb u1 train 0 -\nb u1 train 0 gone\nc u2 train 0 -\nc u2 test 0 -")
    signs = choose_signs(lines, data_set(class_counts=[3]))
    assert signs == ["a", "b", "c"]
    counts = count_clips(lines, signs, data_set())
    assert list(counts["sign"]) == signs
    assert counts.to_numpy()[:, 1:].tolist() == [[1, 1, 0, 0], [2, 2, 1, 1], [2, 1, 2, 1]]
