"""First steps of a reference's training: the same of the same code, others of other code; they end there, or tell."""

from __future__ import annotations

import json

import pytest
from made_up_sets import make_set

import first_steps
from slr_lib import losses

pytestmark = pytest.mark.usefixtures("one_thread")


def command(*arguments: str) -> int:
    return first_steps.main(["--model", "gru", "--dataset", "tiny", "--signs", "3", *arguments])


def told(capsys, *arguments: str) -> dict:
    assert command(*arguments) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_same_code_takes_the_same_steps_and_other_code_others(project, capsys):
    tiny = make_set(project, "tiny")  # a training step an epoch
    first = told(capsys, "--steps", "3")
    assert first["steps"] == 3 and first["loss"][0] != first["loss"][1]
    assert told(capsys, "--steps", "3") == first
    hashes = ("losses", "weights", "logits")
    assert all(told(capsys, "--steps", "2")[name] != first[name] for name in hashes)
    assert all(told(capsys, "--steps", "3", "--seed", "1")[name] != first[name] for name in hashes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slr_lib.fitting.recognition_loss", lambda *given: losses.recognition_loss(*given) * 1.001)
        assert all(told(capsys, "--steps", "3")[name] != first[name] for name in hashes)
    assert not (tiny.data / "compared").exists() and not (tiny.data.parents[1] / "reports" / "models.csv").exists()


@pytest.mark.parametrize("arguments, words", [
    (("--fold", "7"), "clips/parts.csv: no fold '7'; choose one of 0."),
    (("--dataset", "absent"), "absent"),
])
def test_bad_input_is_one_sentence(project, capsys, arguments, words):
    make_set(project, "tiny")
    assert command(*arguments) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert words in said and said.endswith(".")
